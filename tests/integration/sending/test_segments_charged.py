"""An SMS of several segments costs several times: in the decision, in the budget, and in the report once it is sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from random import Random
from typing import Any

import pytest
from sqlalchemy import select

from features.history.report import funnel
from features.history.rewards import settle_in_parts
from features.history.tables import decisions, reservations, resource_usage
from models.domain.campaign import Content, Offer, PolicyName
from models.domain.channel import ContentKind
from models.domain.message import Message, Receipt
from models.domain.sms import sms_length
from serving.channels.console import ConsoleAdapter
from serving.channels.contract import CostUnit
from serving.channels.rendering import text_with_link
from serving.channels.testing import ExampleLinks
from serving.dispatch_settings import DispatchSettings
from serving.dispatcher import Dispatcher
from serving.request import DecisionRequest

UNIT = 1.45
# Two segments with the fallback, three for the customer with the long name.
BODY = "{{ name }}" + "a" * 200
LONG_NAME = "n" * 150


class Charging(ConsoleAdapter):
    """A provider that charges by the segment, as Twilio does."""

    capabilities = replace(ConsoleAdapter.capabilities, cost_unit=CostUnit.SEGMENT)

    def __init__(self) -> None:
        super().__init__(StringIO())

    async def send(self, message: Message) -> Receipt:
        receipt = await super().send(message)
        return replace(receipt, n_units=sms_length(text_with_link(message.content)).n_segments)


@pytest.fixture
def decided(market: Any) -> list[Any]:
    """Three customers, and a budget for six segments."""
    market.customers("ada", "bob", "cem", "dan")
    with market.engine.begin() as conn:
        from features.history.append import CustomerRecord, append_customers

        append_customers(
            conn,
            [
                CustomerRecord(
                    customer_id="bob",
                    time_zone="Asia/Taipei",
                    created_at=market.now - timedelta(days=1),
                    attributes={"name": LONG_NAME},
                )
            ],
        )
    market.campaign(
        channels=("sms",),
        policy=PolicyName.CHEAPEST_FIRST,
        fields={"name": "you"},
        offers=(Offer(offer_id="o", margin_minor=3000.0, content={ContentKind.TEXT: Content(body=BODY)}),),
        budget_minor=6 * UNIT,
    )
    decider = market.service().decider
    return [
        decider.decide(DecisionRequest(campaign_id="spring", customer_id=name), market.now)
        for name in ("ada", "bob", "cem", "dan")
    ]


def test_a_decision_reckons_and_reserves_every_segment(decided: list[Any], market: Any) -> None:
    assert [one.expected.cost_minor for one in decided[:3]] == [pytest.approx(2 * UNIT)] * 3
    assert decided[3].action is None
    assert [one.reason for one in decided[3].exclusions] == ["budget_exhausted"]
    assert used(market) == pytest.approx(6 * UNIT)


def test_what_was_charged_takes_the_place_of_what_was_expected(decided: list[Any], market: Any) -> None:
    market.now = decided[0].action.send_at
    sender = Dispatcher(market.engine, {"sms": Charging()}, ExampleLinks(), DispatchSettings(), Random(1))
    report = asyncio.run(sender.run_once(market.now))
    assert report.sent == 3
    settle_in_parts(market.engine, market.now)
    with market.engine.connect() as conn:
        cost = {row.customer_id: row.cost_minor for row in conn.execute(select(decisions))}
        held = sorted(conn.scalars(select(reservations.c.amount)))
        spent = sum(row.cost_minor for row in funnel(conn, "spring"))
    assert {name: round(minor / UNIT, 9) for name, minor in cost.items()} == {
        "ada": 2,
        "bob": 3,
        "cem": 2,
        "dan": 0,
    }
    assert held == [pytest.approx(2 * UNIT), pytest.approx(2 * UNIT), pytest.approx(3 * UNIT)]
    assert used(market) == pytest.approx(7 * UNIT)
    assert spent == pytest.approx(7 * UNIT)
    # The evidence keeps the price that was decided with.
    assert market.opened[0].decider.recorded(decided[1].decision_id).evidence.cost_minor[
        "sms"
    ] == pytest.approx(2 * UNIT)


def used(market: Any) -> float:
    with market.engine.connect() as conn:
        return float(
            conn.scalar(select(resource_usage.c.used).where(resource_usage.c.resource == "budget:spring"))
        )
