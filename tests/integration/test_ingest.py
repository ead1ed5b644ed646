"""What other systems report arrives once, is checked, finds its customer, and machines are told from people."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import Engine, delete, func, select

from features.history.append import CustomerRecord, append_customers, append_identities, append_interactions
from features.history.query import find_customer_id, load_customers
from features.history.tables import customers, interactions
from features.history.visitors import VISITOR_PREFIX
from models.domain.channel import IdentityKind
from models.domain.customer import ConsentStatus, Identity
from models.domain.errors import InvalidInputError
from models.domain.interaction import Interaction, InteractionKind, Place
from models.domain.machine_made import MachineRule, MachineRules
from serving.ingest import InteractionIn, ingest
from tests.benchmarks import ingest as benchmark
from tests.chaos import ingest_kill

NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CHECK = TypeAdapter(list[InteractionIn])


def posted(*facts: dict[str, Any]) -> Any:
    usual = {"source": "shop", "customer_id": "ada", "kind": "visited", "occurred_at": NOW.isoformat()}
    return CHECK.validate_python(
        [{"event_id": str(number)} | usual | fact for number, fact in enumerate(facts)]
    )


def people(engine: Engine, *customer_ids: str) -> None:
    with engine.begin() as conn:
        append_customers(
            conn, [CustomerRecord(customer_id=c, time_zone="UTC", created_at=NOW) for c in customer_ids]
        )


def stored(engine: Engine) -> list[Any]:
    with engine.connect() as conn:
        return list(conn.execute(select(interactions).order_by(interactions.c.event_id)))


def test_every_kind_is_taken_in_with_amount_place_and_source_of_the_visit(engine: Engine) -> None:
    facts = [{"event_id": kind, "kind": kind, "channel": "line"} for kind in InteractionKind]
    facts[0] |= {
        "place": "phone",
        "value_minor": 1250,
        "attributes": {"utm_source": "ad", "utm_term": "coat"},
    }
    with engine.begin() as conn:
        assert ingest(conn, posted(*facts), NOW).n_new == len(InteractionKind)
    rows = {row.kind: row for row in stored(engine)}
    assert set(rows) == {kind.value for kind in InteractionKind}
    first = rows[InteractionKind.PLANNED]
    assert (first.place, first.value_minor) == ("phone", 1250.0)
    assert first.attributes == {"utm_source": "ad", "utm_term": "coat"}


@pytest.mark.parametrize("n_more", [0, 600], ids=["few", "bulk"])
def test_each_fact_keeps_what_it_says_whatever_its_neighbours_leave_out(engine: Engine, n_more: int) -> None:
    said = {
        "channel": "email",
        "campaign_id": "spring",
        "offer_id": "coats",
        "decision_id": "d-1",
        "value_minor": 1250.0,
        "place": "shop",
        "machine_made": True,
        "attributes": {"page": "/coats"},
    }
    left_out = dict.fromkeys(said) | {"machine_made": False, "attributes": {}}
    facts = [{"event_id": "a"}, {"event_id": "b", **said}, {"event_id": "c"}]
    facts += [{"event_id": f"d-{number}"} for number in range(n_more)]
    with engine.begin() as conn:
        assert ingest(conn, posted(*facts), NOW).n_new == 3 + n_more
    rows = {row.event_id: row._asdict() for row in stored(engine)}
    assert {name: rows["b"][name] for name in said} == said
    assert rows["b"]["machine_rule"] == MachineRule.STATED
    for event_id in ("a", "c", *(f"d-{number}" for number in range(n_more))):
        assert {name: rows[event_id][name] for name in said} == left_out
        assert (rows[event_id]["recorded_as"], rows[event_id]["machine_rule"]) == ("", None)
        assert rows[event_id]["received_at"] == NOW


def test_a_moment_of_any_zone_is_the_same_moment(engine: Engine) -> None:
    tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
    with engine.begin() as conn:
        ingest(conn, posted({"occurred_at": tokyo.isoformat()}), NOW)
    assert stored(engine)[0].occurred_at == NOW


def test_delivering_again_changes_nothing_in_any_order(engine: Engine) -> None:
    facts = posted(*({"event_id": str(n), "value_minor": n} for n in range(1_200)))
    with engine.begin() as conn:
        assert ingest(conn, facts, NOW).n_new == 1_200
    before = stored(engine)
    with engine.begin() as conn:
        again = ingest(conn, facts[::-1], NOW + timedelta(days=1))
    assert (again.n_new, again.n_repeated) == (0, 1_200)
    assert stored(engine) == before


@pytest.mark.parametrize("n_facts", [400, 2_000])  # as one parameter, and by COPY
def test_the_same_facts_delivered_at_once_in_opposite_order_are_both_taken_in(
    n_facts: int, postgresql_engine: Engine
) -> None:
    facts = posted(*({"customer_id": f"c-{number}"} for number in range(n_facts)))
    for round_ in range(4):
        delivery = [fact | {"source": f"shop-{n_facts}-{round_}"} for fact in facts]
        together = Barrier(2)

        def deliver(facts: list[Any], together: Barrier = together) -> int:
            with postgresql_engine.begin() as conn:
                together.wait(30)
                return ingest(conn, facts, NOW).n_new

        with ThreadPoolExecutor(2) as both:
            assert sum(both.map(deliver, (delivery, delivery[::-1]))) == n_facts


def test_a_customer_is_found_by_a_contact_point(engine: Engine) -> None:
    people(engine, "ada")
    link = Identity(
        customer_id="ada", kind=IdentityKind.EMAIL, value="ada@example.com", linked_at=NOW, source="x"
    )
    with engine.begin() as conn:
        append_identities(conn, [link])
        named = {"customer_id": None, "identity": {"kind": "email", "value": "ada@example.com"}}
        assert ingest(conn, posted(named), NOW).customer_ids == {"ada"}
    assert stored(engine)[0].customer_id == "ada"


def test_an_unknown_cookie_becomes_one_visitor_and_stays_the_same(engine: Engine) -> None:
    seen = {"customer_id": None, "identity": {"kind": "cookie", "value": "7f9c"}}
    with engine.begin() as conn:
        first = ingest(conn, posted(seen, seen), NOW).customer_ids
        second = ingest(conn, posted(seen | {"event_id": "later"}), NOW).customer_ids
        (visitor,) = first
        assert first == second
        assert visitor.startswith(VISITOR_PREFIX)
        assert find_customer_id(conn, IdentityKind.COOKIE, "7f9c") == visitor
        assert conn.scalar(select(func.count()).select_from(customers)) == 1


@pytest.mark.parametrize(
    ("named", "field"),
    [
        ({"customer_id": None}, "interactions.1.customer_id"),
        (
            {"customer_id": None, "identity": {"kind": "email", "value": "who@example.com"}},
            "interactions.1.identity",
        ),
        ({"identity": {"kind": "cookie", "value": "7f9c"}}, "interactions.1.identity"),
    ],
)
def test_a_fact_of_nobody_is_refused_and_nothing_is_written(
    engine: Engine, named: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught, engine.begin() as conn:
        ingest(conn, posted({}, named), NOW)
    assert caught.value.field == field
    assert "example.com" not in str(caught.value)
    assert stored(engine) == []


def message(event_id: str, kind: InteractionKind, after_seconds: float, **more: Any) -> Interaction:
    values = {
        "source": "mail",
        "event_id": event_id,
        "customer_id": "ada",
        "kind": kind,
        "occurred_at": NOW + after_seconds * SECOND,
        "decision_id": "d-1",
    }
    return Interaction(**(values | more))


def rules(engine: Engine) -> dict[str, str | None]:
    rows = stored(engine)
    assert all(row.machine_made == (row.machine_rule is not None) for row in rows)
    return {row.event_id: row.machine_rule for row in rows}


STORY = (
    message("sent", InteractionKind.SENT, 0),
    message("at-once", InteractionKind.OPENED, 1.9),
    message("person", InteractionKind.OPENED, 2),
    message("proxy", InteractionKind.OPENED, 40, attributes={"user_agent": "Mozilla/5.0"}),
    message("gmail", InteractionKind.OPENED, 41, attributes={"user_agent": "Mozilla/5.0 GoogleImageProxy x"}),
    message("stated", InteractionKind.OPENED, 42, machine_made=True),
    message("gateway-1", InteractionKind.CLICKED, 1),
    *(message(f"storm-{n}", InteractionKind.CLICKED, 60 + 3 * n) for n in range(4)),
    message("thoughtful", InteractionKind.CLICKED, 600),
    message("other", InteractionKind.CLICKED, 61, decision_id="d-2"),
    message("nameless", InteractionKind.CLICKED, 61, decision_id=None),
)
VERDICT = {
    "sent": None,
    "at-once": MachineRule.TOO_SOON,
    "person": None,
    "proxy": MachineRule.PREFETCH_AGENT,
    "gmail": None,
    "stated": MachineRule.STATED,
    "gateway-1": MachineRule.TOO_SOON,
    **{f"storm-{n}": MachineRule.CLICK_STORM for n in range(4)},
    "thoughtful": None,
    "other": None,
    "nameless": None,
}


def test_machine_made_opens_and_clicks_carry_the_rule_that_says_so(engine: Engine) -> None:
    with engine.begin() as conn:
        append_interactions(conn, STORY, NOW)
    assert rules(engine) == VERDICT


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(order=st.permutations(STORY), cuts=st.sets(st.integers(1, len(STORY) - 1), max_size=4))
def test_flags_do_not_depend_on_the_order_in_which_facts_arrive(
    sqlite_engine: Engine, order: Sequence[Interaction], cuts: set[int]
) -> None:
    with sqlite_engine.begin() as conn:
        conn.execute(delete(interactions))
        bounds = [0, *sorted(cuts), len(order)]
        for first, last in pairwise(bounds):
            append_interactions(conn, order[first:last], NOW)
    assert rules(sqlite_engine) == VERDICT


def test_three_quick_clicks_are_a_persons_and_four_are_not() -> None:
    clicks = [NOW + n * SECOND for n in range(3)]
    assert MachineRules().storms(clicks) == [False] * 3
    assert MachineRules().storms([*clicks, NOW + 10 * SECOND]) == [True] * 4
    assert MachineRules().storms([*clicks, NOW + 10.1 * SECOND]) == [False] * 4


def test_who_unfollows_cannot_be_reached_until_they_follow_again(engine: Engine) -> None:
    def statuses(at: datetime) -> ConsentStatus:
        with engine.connect() as conn:
            return load_customers(conn, ["ada"], at)["ada"].consents["line", "marketing"]

    story = [
        message("2", InteractionKind.UNFOLLOWED, 20, channel="line", decision_id=None),
        message("3", InteractionKind.FOLLOWED, 30, channel="line", decision_id=None),
        message("1", InteractionKind.FOLLOWED, 10, channel="line", decision_id=None),
    ]
    with engine.begin() as conn:
        append_interactions(conn, story, NOW)
    assert [statuses(NOW + after * SECOND) for after in (15, 25, 35)] == [
        ConsentStatus.GRANTED,
        ConsentStatus.WITHDRAWN,
        ConsentStatus.GRANTED,
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"customer_id": "c" * 129}, "customer_id"),
        ({"channel": "c" * 65}, "channel"),
        ({"source": "a\x00b"}, "source"),
        ({"occurred_at": NOW.replace(tzinfo=None)}, "occurred_at"),
        ({"machine_rule": "too_soon"}, "machine_rule"),
        ({"attributes": {"note": "x" * 513}}, "attributes.note"),
        ({"attributes": {str(n): "" for n in range(51)}}, "attributes"),
    ],
)
def test_what_no_database_would_hold_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        message("1", InteractionKind.OPENED, 0, **change)
    assert caught.value.field == field


def test_places_of_purchases_are_online_shop_phone_and_chat() -> None:
    assert {place.value for place in Place} == {"online", "shop", "phone", "chat"}


def test_the_benchmark_finds_that_repeating_changes_nothing(
    sqlite_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "DELIVERY", 500)
    monkeypatch.setattr(benchmark, "N_CUSTOMERS", 300)
    with benchmark.database() as plain:
        found = benchmark.measure(sqlite_engine, plain, 1_000)
    assert (found["backend"], found["rows"], found["changed_by_repeating"]) == ("sqlite", 1_000, 0)
    assert found["machine_made"] > 0
    assert found["rows_per_s_over_raw"] > 0


def test_killed_three_times_nothing_acknowledged_is_lost_or_doubled(engine: Engine) -> None:
    found = ingest_kill.kill(engine, 3)
    assert found["acknowledged"] >= 3 * ingest_kill.FACTS_A_DELIVERY
    assert (found["lost"], found["doubled"], found["torn_deliveries"]) == (0, 0, 0)
