"""What one message takes of what is scarce, by who asked on the days before."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pytest

from models.domain.campaign import Campaign, Content, Offer, SendWindow
from models.domain.channel import ContentKind
from models.domain.experiment import Experiment
from serving.pacing.ask import Ask, Option
from serving.pacing.memory import Memory, Place
from serving.pacing.scarcity import Pace, Scarce, pace

MIDNIGHT = datetime(2026, 3, 6, tzinfo=UTC)
TODAY, TOMORROW = date(2026, 3, 6), date(2026, 3, 7)


def campaign(campaign_id: str = "spring", closes_in: float = 30.0) -> Campaign:
    return Campaign(
        campaign_id=campaign_id,
        send_window=SendWindow(
            starts_at=MIDNIGHT - timedelta(days=30), ends_at=MIDNIGHT + timedelta(days=closes_in)
        ),
        slots=(time(12),),
        offers=(
            Offer(
                offer_id="coats",
                margin_minor=3_000.0,
                content={ContentKind.TEXT: Content(body="Coats are in.")},
            ),
        ),
        channels=("email", "sms"),
        experiment=Experiment(experiment_id=campaign_id),
        conversion_value_minor=3_000.0,
    )


def option(value: float | None, channel: str = "sms", days_ahead: int = 0, **changes: object) -> Option:
    plain = Option("spring", channel, days_ahead, value, 0.0)
    return plain._replace(**changes)


def ask(at: datetime, *options: Option, n: int = 1, campaigns: tuple[str, ...] = ("spring",)) -> Ask:
    return Ask(at=at, n=n, campaigns=campaigns, options=options)


def every_hour(
    n_days: int, *options: Option, n: int = 1, campaigns: tuple[str, ...] = ("spring",)
) -> list[Ask]:
    """At half past, up to midnight."""
    return [
        ask(MIDNIGHT - timedelta(hours=hours + 0.5), *options, n=n, campaigns=campaigns)
        for hours in range(24 * n_days)
    ]


def remembered(*asks: Ask) -> Memory:
    memory = Memory()
    memory.add(asks)
    return memory


def sms(left: float, tomorrow: float | None = None) -> list[Scarce]:
    return [
        Scarce(channel="sms", day=TODAY, left=left),
        Scarce(channel="sms", day=TOMORROW, left=left if tomorrow is None else tomorrow),
    ]


def paced(memory: Memory, left: list[Scarce], now: datetime = MIDNIGHT, **campaigns: Campaign) -> Pace:
    known = campaigns or {"spring": campaign()}
    cost = {place: {"email": 0.1, "sms": 2.0}[place.channel] for place in memory.places}
    return pace(memory, known, cost, left, now)


def test_what_is_remembered_and_forgotten():
    memory = remembered(
        ask(MIDNIGHT - timedelta(days=2), option(1.0), option(2.0, "email")),
        ask(MIDNIGHT - timedelta(days=1)),
        ask(MIDNIGHT, option(3.0, days_ahead=1)),
    )
    assert (len(memory), memory.places) == (3, [Place("spring", "sms"), Place("spring", "email")])
    offered = memory.offered(np.array([2, 0, 1, 2]))
    assert offered.row.tolist() == [0, 1, 1, 3]
    assert offered.value_minor.tolist() == [3.0, 1.0, 2.0, 3.0]
    assert offered.place.tolist() == [0, 0, 1, 0]
    assert offered.days_ahead.tolist() == [1, 0, 0, 1]
    assert not memory.forget((MIDNIGHT - timedelta(days=3)).timestamp())
    assert memory.forget((MIDNIGHT - timedelta(days=1, hours=1)).timestamp())
    assert len(memory) == 2
    assert memory.offered(np.array([0, 1])).value_minor.tolist() == [3.0]
    memory.add([])
    assert len(memory) == 2


def test_the_price_is_what_the_last_who_gets_something_would_pay():
    # Hour by hour one who is worth 24, 23 and so on; there is something for six a day.
    asks = [
        ask(MIDNIGHT - timedelta(days=day, hours=23.5 - hour), option(24.0 - hour))
        for day in range(3)
        for hour in range(24)
    ]
    found = paced(remembered(*asks), sms(6.0))
    # The seventh would take it at any less.
    assert found.prices["spring"]["sms"] == pytest.approx(18.0, rel=1e-5)
    assert found.n_expected["spring"] == pytest.approx(48, abs=1)
    assert paced(remembered(*asks), sms(30.0)).prices == {}


def test_a_message_of_today_and_one_of_tomorrow_take_of_different_days():
    today = remembered(*every_hour(3, option(5.0)))
    tomorrow = remembered(*every_hour(3, option(5.0, days_ahead=1)))
    # Of messages for tomorrow there are those that are asked for today, tomorrow's are for the day after.
    assert paced(today, sms(10.0, tomorrow=100.0)).prices["spring"]["sms"] == pytest.approx(5.0, rel=1e-3)
    assert paced(tomorrow, sms(10.0, tomorrow=100.0)).prices == {}
    assert paced(tomorrow, sms(100.0, tomorrow=10.0)).prices["spring"]["sms"] == pytest.approx(5.0, rel=1e-3)
    by_day = {one.day: one.shadow_price_minor for one in paced(today, sms(10.0, tomorrow=100.0)).scarce}
    assert by_day[TOMORROW] == 0.0
    assert by_day[TODAY] > 0.0


def test_the_price_now_is_that_of_the_days_on_which_messages_fall_now():
    # Until noon messages go out the same day, from then on the next.
    asks = [
        ask(MIDNIGHT - timedelta(days=day, hours=23.5 - hour), option(5.0, days_ahead=int(hour >= 12)))
        for day in range(3)
        for hour in range(24)
    ]
    for at, left, price in (
        (6, sms(3.0, tomorrow=100.0), 5.0), (6, sms(100.0, tomorrow=3.0), None),
        (18, sms(0.0, tomorrow=100.0), None), (18, sms(0.0, tomorrow=3.0), 5.0),
    ):  # fmt: skip
        now = MIDNIGHT + timedelta(hours=at)
        memory = remembered(*asks)
        memory.add([ask(MIDNIGHT + timedelta(hours=hour + 0.5), option(5.0)) for hour in range(at)])
        found = paced(memory, left, now).prices.get("spring", {}).get("sms")
        assert found == (None if price is None else pytest.approx(price, rel=1e-3)), (at, left)


def test_rules_take_what_they_take_and_the_rest_is_priced():
    ruled = option(None, messages=1.0)
    half = [
        one for pair in zip(every_hour(3, option(5.0)), every_hour(3, ruled), strict=True) for one in pair
    ]
    # Twenty-four a day by value and as many by rule.
    assert paced(remembered(*half), sms(50.0)).prices == {}
    assert paced(remembered(*half), sms(40.0)).prices["spring"]["sms"] == pytest.approx(5.0, rel=1e-3)


def test_campaigns_share_a_capacity_and_not_a_budget():
    autumn = [option(9.0)._replace(campaign_id="autumn")]
    memory = remembered(*every_hour(3, option(5.0)), *every_hour(3, *autumn, campaigns=("autumn",)))
    both = {"spring": campaign(), "autumn": campaign("autumn")}
    found = paced(memory, sms(24.0), **both)
    assert 5.0 * 0.999 <= found.prices["spring"]["sms"] == found.prices["autumn"]["sms"] <= 9.0
    # Two minor units an SMS; of the twenty-eight days beyond tomorrow each is to have as much.
    a_day = [Scarce(campaign_id="spring", left=30 * 24.0 * 2.0 * 0.5)]
    found = paced(memory, a_day, **both)
    assert found.prices == {"spring": {"sms": pytest.approx(5.0, rel=1e-3)}}
    assert found.scarce[0].shadow_price_minor == pytest.approx(2.5, rel=1e-3)
    assert paced(memory, [Scarce(campaign_id="spring", left=30 * 24.0 * 2.0 * 1.1)], **both).prices == {}


def test_campaigns_that_are_asked_together_give_one_of_them():
    both = (option(5.0), option(9.0)._replace(campaign_id="autumn"))
    memory = remembered(*every_hour(3, *both, campaigns=("autumn", "spring")))
    known = {"spring": campaign(), "autumn": campaign("autumn")}
    assert paced(memory, sms(24.5), **known).prices == {}
    found = paced(memory, sms(12.0), **known)
    assert found.prices["spring"] == pytest.approx(found.prices["autumn"])
    assert found.prices["autumn"]["sms"] == pytest.approx(9.0, rel=1e-3)
    # Once the dearer has closed, the other is what is asked for.
    without = paced(memory, sms(12.0), spring=campaign())
    assert without.prices == {"spring": {"sms": pytest.approx(5.0, rel=1e-3)}}


def test_nobody_is_expected_for_a_campaign_after_it_has_closed():
    memory = remembered(*every_hour(3, option(5.0)))
    whole = paced(memory, sms(20.0))
    half = paced(memory, sms(20.0), spring=campaign(closes_in=0.5))
    assert whole.prices["spring"]["sms"] > 0
    assert half.prices == {}
    assert half.n_expected["spring"] == pytest.approx(12, abs=1)


def test_at_midnight_and_where_a_day_has_more_than_24_hours_days_stay_within_bounds():
    late = [option(5.0, days_ahead=ahead) for ahead in (0, 1, 2)]
    memory = remembered(*[ask(MIDNIGHT - timedelta(days=day), *late) for day in range(4)])
    for now in (MIDNIGHT, MIDNIGHT + timedelta(seconds=1), MIDNIGHT + timedelta(hours=23, minutes=59)):
        assert set(paced(memory, sms(0.0), now).prices) <= {"spring"}


def test_without_anybody_or_anything_there_are_no_prices():
    assert paced(Memory(), sms(5.0)).prices == {}
    assert paced(remembered(*every_hour(3)), sms(5.0)).prices == {}
    assert paced(remembered(*every_hour(3, option(5.0))), []).prices == {}
    closed = remembered(*every_hour(3, option(5.0)))
    assert paced(closed, sms(1.0), autumn=campaign("autumn")).prices == {}
