"""The reference says what the adapters say of themselves."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path

import pytest

from models.domain.channel import DEFAULT_CHANNELS
from models.domain.interaction import InteractionKind
from serving.calls import FACTS
from serving.channels.contract import Idempotency, SendsBatches
from serving.channels.reference import capability_table
from serving.channels.registry import installed, load

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SHIPPED = sorted(name for name, point in installed().items() if point.value.startswith("serving."))


def test_the_table_of_the_reference_is_what_the_adapters_say():
    table = capability_table({name: load(name) for name in SHIPPED})
    assert table in (REFERENCE / "channels.md").read_text()


@pytest.mark.parametrize("name", sorted(set(SHIPPED) - {"console"}))
def test_every_adapter_has_a_page_that_names_its_settings(name):
    page = (REFERENCE / "channels" / f"{name}.md").read_text()
    adapter = load(name)
    for module in {
        import_module(kind.__module__) for kind in adapter.__mro__ if kind.__module__.startswith("serving")
    }:
        for kind in vars(module).values():
            if (
                isinstance(kind, type)
                and is_dataclass(kind)
                and kind.__name__.endswith("Settings")
                and kind.__module__ == module.__name__
            ):
                for field in fields(kind):
                    assert f"`{field.name}`" in page, field.name
    for heading in (
        "At the provider",
        "Settings",
        "Content, cost, limits",
        "What is reported",
        "What the provider says",
    ):
        assert f"\n## {heading}\n" in page


def test_every_outcome_of_a_call_is_documented_with_its_facts():
    page = (REFERENCE / "channels" / "call.md").read_text()
    for outcome, kinds in FACTS.items():
        assert f"`{outcome}`" in page
        assert all(kind in page for kind in kinds)


def test_the_capabilities_of_every_adapter_agree_with_what_it_offers():
    for name in SHIPPED:
        can = load(name).capabilities
        assert (can.batch_size > 1) == issubclass(load(name), SendsBatches), name
        assert can.idempotency in Idempotency
        for limit in can.limits:
            assert limit.source.startswith("https://"), name
            assert limit.kind is None or limit.kind in can.content_kinds, name


def test_a_channel_is_said_to_report_only_what_its_adapters_report():
    # Failures are written by the outbox, for every channel.
    served = {
        "push": ("fcm", "apns"),
        "sms": ("twilio", "smpp"),
    }
    for channel in DEFAULT_CHANNELS:
        for name in served.get(channel.name, (channel.name,)):
            if name == "email":
                continue  # bounces and complaints come by mail, not by the adapter
            missing = channel.receipts - load(name).capabilities.receipts - {InteractionKind.FAILED}
            assert not missing, (channel.name, name, missing)
