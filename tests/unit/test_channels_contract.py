"""Registry, back-off and settings of the e-mail adapter."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import InvalidInputError
from serving.backoff import Backoff
from serving.channels.console import ConsoleAdapter
from serving.channels.contract import AdapterContext
from serving.channels.email import EmailAdapter
from serving.channels.registry import (
    AdapterConfiguration,
    UnknownAdapterError,
    build_adapters,
    installed,
    load,
)
from serving.channels.testing import ExampleLinks
from serving.dispatch_settings import DispatchSettings
from serving.store.endings import OutboxStatus

MAIL = {"host": "mail.example", "port": "25", "sender": "offers@shop.example"}


def test_the_shipped_adapters_are_found_by_entry_point():
    assert {"console", "email"} <= set(installed())
    assert load("email") is EmailAdapter


def test_an_unknown_adapter_lists_those_that_are_installed():
    with pytest.raises(UnknownAdapterError, match=r"must be one of .*console.*email"):
        load("pigeon")


def test_email_goes_by_email_and_every_other_channel_by_console_unless_configured():
    configuration = AdapterConfiguration(settings={"email": MAIL})
    adapters = build_adapters(["email", "sms", "line"], configuration, ExampleLinks())
    assert isinstance(adapters["email"], EmailAdapter)
    assert isinstance(adapters["sms"], ConsoleAdapter)
    assert adapters["sms"] is adapters["line"]
    configured = AdapterConfiguration(adapters={"email": "console"})
    assert build_adapters(["email"], configured, ExampleLinks())["email"].name == "console"


def test_only_configured_adapters_are_built():
    # E-mail without settings could not be built.
    assert set(build_adapters(["sms"], AdapterConfiguration(), ExampleLinks())) == {"sms"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"host": ""}, "email.host"),
        ({"port": "none"}, "email.port"),
        ({"port": "0"}, "email.port"),
        ({"sender": "Shop"}, "email.sender"),
        ({"sender": "Shop <offers@shop.example\r\nBcc: x@example.com>"}, "email.sender"),
        ({"tls": "yes"}, "email.tls"),
        ({"timeout_seconds": "nan"}, "email.timeout_seconds"),
        ({"hots": "mail.example"}, "email.hots"),
    ],
)
def test_a_wrong_setting_is_named(change, field):
    with pytest.raises(InvalidInputError) as caught:
        EmailAdapter.build(AdapterContext(settings=MAIL | change, links=ExampleLinks()))
    assert caught.value.field == field


class Highest(Random):
    def uniform(self, _lowest: float, highest: float) -> float:
        return highest


def test_the_back_off_doubles_up_to_its_cap():
    backoff = Backoff(base_seconds=30, cap_seconds=300)
    waits = [backoff.wait(attempt, Highest()).total_seconds() for attempt in range(1, 7)]
    # 30 * 2**0, 30 * 2**1, 30 * 2**2, 30 * 2**3, then 30 * 2**4 = 480 > 300
    assert waits == [30, 60, 120, 240, 300, 300]
    assert backoff.wait(2, Highest(), timedelta(seconds=500)).total_seconds() == 500 + 60


@given(attempt=st.integers(1, 10_000), seed=st.integers(), asked=st.floats(0, 1e5))
def test_the_wait_is_never_shorter_than_asked_nor_longer_than_the_cap_allows(attempt, seed, asked):
    backoff = Backoff(base_seconds=30, cap_seconds=300)
    wait = backoff.wait(attempt, Random(seed), timedelta(seconds=asked))
    assert timedelta(seconds=asked) <= wait <= timedelta(seconds=asked + 300)


def test_the_reference_names_every_status_and_limit():
    page = (Path(__file__).parents[2] / "docs/reference/channels.md").read_text()
    for status in OutboxStatus:
        assert f"| `{status}` |" in page, status
    for name in installed():
        for limit in load(name).capabilities.limits:
            assert f"{limit.at_most:,} {limit.unit}" in page
            assert limit.source in page
    defaults = DispatchSettings()
    assert f"given up after {defaults.max_attempts} attempts" in page
    assert f"claims messages for {defaults.lease_seconds:g} seconds" in page
    assert f"min({defaults.backoff.cap_seconds:g} s, {defaults.backoff.base_seconds:g} s * 2^(n-1))" in page
