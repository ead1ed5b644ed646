"""The history holds facts once, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from threading import Thread

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, func, insert, select, update

from features.history.append import (
    Appended,
    CustomerRecord,
    append_consents,
    append_customers,
    append_decisions,
    append_identities,
    append_interactions,
)
from features.history.campaigns import list_campaigns, load_campaign, save_campaign
from features.history.channels import load_channels, save_channel, seed_channels
from features.history.decisions import load_decision
from features.history.documents import to_document
from features.history.engine import migrate, read_only
from features.history.query import find_customer_id, load_customers, load_recipients
from features.history.tables import campaigns, consents, decisions, interactions, metadata, reservations
from models.domain.action import Action
from models.domain.campaign import Campaign, Content, Mode, Offer, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, ContentKind, IdentityKind
from models.domain.customer import (
    EVERY_CHANNEL,
    Consent,
    ConsentStatus,
    Identity,
    MessageClass,
    PastContact,
)
from models.domain.decision import Alternative, Decision, Evidence, Expected
from models.domain.errors import InvalidInputError, NotFoundError
from models.domain.experiment import Arm, Experiment
from models.domain.interaction import Interaction, InteractionKind
from tests.fresh_database import go_back

NOW = datetime(2026, 3, 10, 9, 30, 15, 123456, tzinfo=UTC)
DAY = timedelta(days=1)
CAMPAIGN = Campaign(
    campaign_id="spring",
    purpose="newsletter",
    send_window=SendWindow(starts_at=NOW - 30 * DAY, ends_at=NOW + 30 * DAY),
    slots=(time(9), time(18, 30)),
    offers=(
        Offer(
            offer_id="ten",
            margin_minor=900.0,
            content={
                ContentKind.HTML: Content(body="<p>10 %</p>", subject="Ten"),
                ContentKind.TEXT: Content(body="10"),
            },
        ),
    ),
    channels=("email", "sms"),
    experiment=Experiment(experiment_id="spring-1", holdout_share=0.1, control_share=0.2),
    conversion_value_minor=1000.0,
)


def customer(customer_id: str = "c-1", **attributes: float | str) -> CustomerRecord:
    return CustomerRecord(
        customer_id=customer_id, time_zone="Asia/Taipei", created_at=NOW - 300 * DAY, attributes=attributes
    )


def fact(event_id: str, kind: InteractionKind = InteractionKind.VISITED, **more: object) -> Interaction:
    values = {"source": "web", "event_id": event_id, "customer_id": "c-1", "kind": kind, "occurred_at": NOW}
    return Interaction(**(values | more))


def decision(decision_id: str = "d-1", **changes: object) -> Decision:
    action = Action(
        offer="ten", channel="email", slot=1, send_at=NOW + timedelta(hours=1), expires_at=NOW + DAY
    )
    expected = Expected(
        p_open=0.25,
        p_convert=0.05,
        p_convert_no_contact=0.04,
        uplift=0.01,
        cost_minor=0.01,
        net_value_minor=8.99,
    )
    made = Decision(
        decision_id=decision_id,
        customer_id="c-1",
        campaign_id="spring",
        campaign_version=1,
        decided_at=NOW,
        action=action,
        propensity=0.75,
        expected=expected,
        alternatives=(
            Alternative(action=None, propensity=0.25, expected=replace(expected, net_value_minor=0.0)),
        ),
        exclusions=(),
        arm=Arm.TREATMENT,
        mode=Mode.LIVE,
        policy="greedy",
        policy_version="3",
        degraded=(),
        explanation="E-mail at 18:30 earns most.",
        evidence=Evidence(
            features={"a": 1.5, "b": None}, distribution={1: 0.75, 4: 0.25}, net_value_minor={1: 8.99}
        ),
    )
    return replace(made, **changes)


def test_migrated_schema_is_the_one_of_the_tables(engine: Engine) -> None:
    with engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    with engine.begin() as conn:
        append_interactions(conn, [fact("1")], NOW)
    migrate(engine)
    with engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(interactions)) == 1


def test_a_campaign_from_before_the_bounds_is_brought_within_them(engine: Engine) -> None:
    with engine.begin() as conn:
        stored = save_campaign(conn, CAMPAIGN, NOW)
        beyond = to_document(stored) | {
            "send_window": {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "9999-12-31T00:00:00Z"},
            "attribution_window_seconds": 10**11,
            "follow_ups": [{"on": "unopened", "after_seconds": 10**9}],
            "most_follow_ups": 1,
        }
        conn.execute(update(campaigns).values(document=beyond))
        go_back(conn, "0013")
    migrate(engine)
    with engine.connect() as conn:
        (read,) = list_campaigns(conn)
    year = 366 * 86_400
    assert read.send_window.ends_at == datetime(2199, 12, 31, tzinfo=UTC)
    assert (read.attribution_window_seconds, read.follow_ups[0].after_seconds) == (year, year)
    assert read.message_ttl_seconds == stored.message_ttl_seconds


def test_repeated_facts_are_counted_and_stored_once(engine: Engine) -> None:
    facts = [fact(str(number)) for number in range(2_500)]
    with engine.begin() as conn:
        assert append_interactions(conn, [*facts, facts[7]], NOW) == Appended(2_500, 1)
    with engine.begin() as conn:
        assert append_interactions(conn, [*facts[:2_000], fact("new")], NOW + DAY) == Appended(1, 2_000)
        assert append_interactions(conn, [], NOW) == Appended(0, 0)
        assert conn.scalar(select(func.count()).select_from(interactions)) == 2_501


def test_the_same_event_id_of_another_source_is_another_fact(engine: Engine) -> None:
    with engine.begin() as conn:
        assert append_interactions(conn, [fact("1"), fact("1", source="shop")], NOW) == Appended(2, 0)


def test_moments_come_back_to_the_microsecond(engine: Engine) -> None:
    with engine.begin() as conn:
        append_interactions(conn, [fact("1", value_minor=0.1 + 0.2)], NOW + DAY)
        row = conn.execute(select(interactions)).one()
    assert (row.occurred_at, row.received_at) == (NOW, NOW + DAY)
    assert row.value_minor == 0.1 + 0.2


def test_a_customer_who_comes_again_takes_the_new_values(engine: Engine) -> None:
    with engine.begin() as conn:
        assert append_customers(conn, [customer(age=40.0), customer("c-2")]) == Appended(2, 0)
        moved = replace(customer(age=41.0), time_zone="Europe/Paris")
        assert append_customers(conn, [moved, customer("c-3"), moved]) == Appended(1, 2)
        assert load_customers(conn, ["c-1"], NOW)["c-1"].time_zone == "Europe/Paris"


def test_an_unknown_time_zone_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"time_zone == 'Mars/Base'"):
        replace(customer(), time_zone="Mars/Base")


def test_customers_are_loaded_as_of_a_moment(engine: Engine) -> None:
    def identity(value: str, linked_at: datetime) -> Identity:
        return Identity(
            customer_id="c-1", kind=IdentityKind.EMAIL, value=value, linked_at=linked_at, source="register"
        )

    def consent(status: ConsentStatus, since: datetime) -> Consent:
        return Consent(
            customer_id="c-1", channel="email", purpose="marketing", status=status, since=since, source="form"
        )

    with engine.begin() as conn:
        append_customers(conn, [customer(), customer("c-2")])
        links = [identity("old@example.com", NOW - 9 * DAY), identity("new@example.com", NOW - DAY)]
        assert append_identities(conn, [*links, links[0]]) == Appended(2, 1)
        said = [
            consent(ConsentStatus.WITHDRAWN, NOW - 2 * DAY),
            consent(ConsentStatus.GRANTED, NOW - 5 * DAY),
            consent(ConsentStatus.GRANTED, NOW + DAY),
        ]
        assert append_consents(conn, said) == Appended(3, 0)
        replies = [
            fact("r-1", InteractionKind.REPLIED, channel="line", occurred_at=NOW - 3 * DAY),
            fact("r-2", InteractionKind.REPLIED, channel="line", occurred_at=NOW - DAY),
            fact("r-3", InteractionKind.REPLIED, channel="line", occurred_at=NOW + DAY),
        ]
        append_interactions(conn, replies, NOW)
        append_decisions(conn, [decision()])
        found = load_customers(conn, ["c-1", "c-2", "c-1", "nobody"], NOW)
        assert load_customers(conn, ["c-1"], NOW) == {"c-1": found["c-1"]}, "one is read as of many"
        earlier = load_customers(conn, ["c-1"], NOW - 4 * DAY)["c-1"]
        recipient, earlier_recipient = (
            load_recipients(conn, ["c-1"], moment)["c-1", IdentityKind.EMAIL]()
            for moment in (NOW, NOW - 4 * DAY)
        )
        assert find_customer_id(conn, IdentityKind.EMAIL, "new@example.com") == "c-1"
        assert find_customer_id(conn, IdentityKind.PHONE, "new@example.com") is None
    assert set(found) == {"c-1", "c-2"}
    person = found["c-1"]
    assert person.identities == {IdentityKind.EMAIL}
    assert person.consents == {("email", "marketing"): ConsentStatus.WITHDRAWN}
    assert person.replied_at == {"line": NOW - DAY}
    assert person.contacts == (
        PastContact(channel="email", campaign_id="spring", contacted_at=NOW + timedelta(hours=1)),
    )
    assert found["c-2"].identities == frozenset()
    assert (recipient, earlier_recipient) == ("new@example.com", "old@example.com")
    assert earlier.consents == {("email", "marketing"): ConsentStatus.GRANTED}
    assert earlier.contacts == ()


def test_a_past_contact_is_of_the_message_class_that_its_campaign_had_then(engine: Engine) -> None:
    with engine.begin() as conn:
        append_customers(conn, [customer()])
        served = save_campaign(conn, replace(CAMPAIGN, message_class=MessageClass.TRANSACTIONAL), NOW)
        promoted = save_campaign(conn, CAMPAIGN, NOW)
        versions = (served.version, promoted.version, 9)  # of the last nothing is known
        append_decisions(conn, [decision(f"d-{version}", campaign_version=version) for version in versions])
        found = load_customers(conn, ["c-1"], NOW)["c-1"].contacts
    assert sorted(contact.message_class for contact in found) == ["marketing", "marketing", "transactional"]


def test_contacts_that_reached_nobody_do_not_count(engine: Engine) -> None:
    with engine.begin() as conn:
        append_customers(conn, [customer()])
        append_decisions(conn, [decision(name) for name in ("made", "released", "suppressed", "bounced")])
        append_decisions(conn, [decision("silent", action=None)])
        conn.execute(
            insert(reservations),
            [
                {"decision_id": "made", "resource": "budget:spring", "amount": 1.0, "reserved_at": NOW, "released_at": None},
                {"decision_id": "released", "resource": "budget:spring", "amount": 1.0, "reserved_at": NOW, "released_at": NOW},
            ],
        )  # fmt: skip
        outcomes = [
            fact("1", InteractionKind.SUPPRESSED, decision_id="suppressed"),
            fact("2", InteractionKind.BOUNCED, decision_id="bounced"),
            fact("3", InteractionKind.SENT, decision_id="made"),
        ]
        append_interactions(conn, outcomes, NOW)
        assert len(load_customers(conn, ["c-1"], NOW)["c-1"].contacts) == 1
        later = load_customers(conn, ["c-1"], NOW + 40 * DAY)["c-1"]
        assert (later.contacts, later.earlier_contacts) == ((), {"spring": 1})


def test_a_refusal_withdraws_consent_for_the_purpose_it_answers(engine: Engine) -> None:
    with engine.begin() as conn:
        append_customers(conn, [customer()])
        save_campaign(conn, CAMPAIGN, NOW)
        append_decisions(conn, [decision()])
        refusals = [
            fact("1", InteractionKind.UNSUBSCRIBED, channel="email", decision_id="d-1"),
            fact("2", InteractionKind.COMPLAINED, channel="sms"),
            fact(
                "3", InteractionKind.UNSUBSCRIBED, channel="line", customer_id="unknown", campaign_id="spring"
            ),
            fact("4", InteractionKind.UNSUBSCRIBED, customer_id="everywhere"),
            fact("5", InteractionKind.UNSUBSCRIBED, customer_id="answers", decision_id="d-1"),
        ]
        append_interactions(conn, refusals, NOW)
        append_interactions(conn, refusals, NOW)
        found = load_customers(conn, ["c-1", "unknown", "everywhere", "answers"], NOW)
        assert conn.scalar(select(func.count()).select_from(consents)) == 5
    assert found["c-1"].consents == {
        ("email", "newsletter"): ConsentStatus.UNSUBSCRIBED,
        ("sms", "marketing"): ConsentStatus.COMPLAINED,
    }
    assert found["unknown"].consents == {("line", "newsletter"): ConsentStatus.UNSUBSCRIBED}
    assert found["everywhere"].consents == {(EVERY_CHANNEL, "marketing"): ConsentStatus.UNSUBSCRIBED}
    assert found["answers"].consents == {("email", "newsletter"): ConsentStatus.UNSUBSCRIBED}


def test_a_decision_comes_back_as_it_was(engine: Engine) -> None:
    made = [decision(), decision("d-2", action=None, propensity=1.0, parent_id="d-1", degraded=("no_model",))]
    with engine.begin() as conn:
        assert append_decisions(conn, [*made, made[0]]) == Appended(2, 1)
        assert [load_decision(conn, "d-1"), load_decision(conn, "d-2")] == made
        row = conn.execute(select(decisions).where(decisions.c.decision_id == "d-2")).one()
        assert (row.channel, row.slot, row.send_at, row.degraded) == (None, None, None, ["no_model"])
        with pytest.raises(NotFoundError, match="decision_id == 'd-3'"):
            load_decision(conn, "d-3")


def test_a_decision_without_a_document_is_rebuilt_from_its_columns(engine: Engine) -> None:
    made = decision()
    with engine.begin() as conn:
        append_decisions(conn, [made])
        conn.execute(decisions.update().values(document=None))
        rebuilt = load_decision(conn, "d-1")
    assert (rebuilt.action, rebuilt.propensity) == (made.action, made.propensity)
    assert rebuilt.expected.uplift == pytest.approx(0.01)
    assert rebuilt.alternatives == ()


def test_dry_runs_are_never_stored(engine: Engine) -> None:
    with engine.begin() as conn, pytest.raises(InvalidInputError, match="dry_run == True"):
        append_decisions(conn, [decision(dry_run=True)])


def test_a_campaign_gets_a_version_only_when_it_changes(engine: Engine) -> None:
    with engine.begin() as conn:
        assert save_campaign(conn, CAMPAIGN, NOW) == CAMPAIGN
        assert save_campaign(conn, replace(CAMPAIGN, version=5), NOW + DAY).version == 1
        changed = save_campaign(conn, replace(CAMPAIGN, budget_minor=500.0), NOW + DAY)
        assert changed == replace(CAMPAIGN, budget_minor=500.0, version=2)
        other = save_campaign(conn, replace(CAMPAIGN, campaign_id="autumn"), NOW)
        assert load_campaign(conn, "spring") == changed
        assert load_campaign(conn, "spring", version=1) == CAMPAIGN
        assert list_campaigns(conn) == [other, changed]
        with pytest.raises(NotFoundError, match="campaign_id == 'winter'"):
            load_campaign(conn, "winter")
        with pytest.raises(NotFoundError, match="version 3"):
            load_campaign(conn, "spring", version=3)


def test_seeding_channels_leaves_what_the_operator_set(engine: Engine) -> None:
    own = replace(next(channel for channel in DEFAULT_CHANNELS if channel.name == "sms"), cost_minor=2.5)
    with engine.begin() as conn:
        save_channel(conn, own, NOW)
        seed_channels(conn, NOW)
        seed_channels(conn, NOW)
        found = load_channels(conn)
        assert found == {channel.name: channel for channel in DEFAULT_CHANNELS} | {"sms": own}
        save_channel(conn, replace(own, cost_minor=3.0), NOW)
        assert load_channels(conn)["sms"].cost_minor == 3.0


def test_writers_that_read_first_wait_for_each_other(engine: Engine) -> None:
    def work(worker: int) -> None:
        for number in range(20):
            with engine.begin() as conn:
                conn.scalar(select(func.count()).select_from(interactions))
                append_interactions(conn, [fact(f"{worker}-{number}")], NOW)

    threads = [Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with engine.connect() as conn:
        assert conn.scalar(select(func.count()).select_from(interactions)) == 80


def test_readers_do_not_wait_for_a_writer(engine: Engine) -> None:
    with engine.begin() as writer:
        append_interactions(writer, [fact("1")], NOW)
        with read_only(engine).connect() as reader:
            assert reader.scalar(select(func.count()).select_from(interactions)) == 0
