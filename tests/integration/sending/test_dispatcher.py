"""The dispatcher against a real database and a real SMTP server."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from random import Random

import pytest
from sqlalchemy import delete, update

from features.history.append import append_identities
from features.history.tables import campaigns, decisions, identities
from models.domain.campaign import Content, QuietHours, SendWindow
from models.domain.channel import ContentKind, IdentityKind
from models.domain.customer import EVERY_CHANNEL, ConsentStatus, Identity, MessageClass
from models.domain.errors import InvalidInputError
from serving.backoff import Backoff
from serving.channels.console import ConsoleAdapter
from serving.channels.contract import QuotaError, RetryLaterError, UnknownOutcomeError
from serving.channels.registry import AdapterConfiguration, build_adapters
from serving.dispatch_settings import DispatchSettings, UnknownPolicy
from serving.dispatcher import Dispatcher, DispatchReport
from serving.store.outbox import claim
from serving.store.rates import Rate

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Postman(ConsoleAdapter):
    """Does as it is told, each time it is asked to send."""

    def __init__(self, *answers: Exception | float) -> None:
        self.sent: list[str] = []
        self._answers = list(answers)
        super().__init__(io.StringIO())

    async def send(self, message):
        answer = self._answers.pop(0) if self._answers else 0.0
        if isinstance(answer, Exception):
            raise answer
        await asyncio.sleep(answer)
        self.sent.append(message.message_id)
        return await super().send(message)


def play(shop, adapters, *moments, **settings) -> list[DispatchReport]:
    """One round at each of the moments."""

    async def rounds():
        dispatcher = Dispatcher(shop.engine, adapters, shop.links, DispatchSettings(**settings), Random(7))
        try:
            return [await dispatcher.run_once(moment) for moment in moments]
        finally:
            for adapter in set(adapters.values()):
                await adapter.aclose()

    return asyncio.run(rounds())


def by_mail(shop, sink):
    settings = {"host": "127.0.0.1", "port": str(sink.port), "sender": "offers@shop.example"}
    return build_adapters(["email"], AdapterConfiguration(settings={"email": settings}), shop.links)


def mail_round(shop, sink, *moments, **settings):
    async def rounds():
        adapters = by_mail(shop, sink)
        dispatcher = Dispatcher(shop.engine, adapters, shop.links, DispatchSettings(**settings), Random(7))
        try:
            return [await dispatcher.run_once(moment) for moment in moments]
        finally:
            await adapters["email"].aclose()

    return asyncio.run(rounds())


def test_a_due_message_arrives_and_is_settled(shop, sink):
    (message,) = shop.add_messages(1)
    (report,) = mail_round(shop, sink, NOON)
    assert report == DispatchReport(claimed=1, sent=1)
    (mail,) = sink.to("c0@example.com")
    assert mail.parsed["Message-ID"] == f"<{message}@shop.example>"
    assert shop.row(message)["status"] == "sent"
    assert [fact["kind"] for fact in shop.facts()] == ["sent"]


def test_nothing_is_sent_before_it_is_due(shop, sink):
    shop.add_messages(1)
    before, on_time = mail_round(shop, sink, NOON - timedelta(seconds=1), NOON)
    assert (before.claimed, on_time.sent) == (0, 1)
    assert len(sink.received) == 1


def test_451_is_retried_later_and_550_is_final(shop, sink):
    busy, gone = shop.add_messages(2)
    sink.answers |= {"c0@example.com": "451 4.3.0 busy", "c1@example.com": "550 5.1.1 no such user"}
    mail_round(shop, sink, NOON, backoff=Backoff(base_seconds=60, cap_seconds=600))
    row = shop.row(busy)
    assert (row["status"], row["attempts"], row["detail"]) == ("pending", 1, "451 4.3.0 busy")
    assert NOON <= row["due_at"] <= NOON + timedelta(seconds=60)
    assert (shop.row(gone)["status"], shop.row(gone)["attempts"]) == ("failed", 1)
    assert [fact["kind"] for fact in shop.facts()] == ["failed"]
    sink.answers.clear()
    (report,) = mail_round(shop, sink, NOON + timedelta(seconds=60))
    assert report == DispatchReport(claimed=1, sent=1)
    assert len(sink.to("c0@example.com")) == 1
    assert sink.to("c1@example.com") == []


def test_an_answer_of_several_lines_is_kept_as_one(shop, sink):
    gone, taken = shop.add_messages(2)
    sink.answers["c0@example.com"] = "550-5.1.1 no such user\r\n550 5.1.1 see our help page"
    (report,) = mail_round(shop, sink, NOON)
    assert (report.failed, report.sent) == (1, 1)
    words = "550 5.1.1 no such user 5.1.1 see our help page"
    assert shop.row(gone)["detail"] == words
    assert [fact["attributes"] for fact in shop.facts("failed")] == [{"detail": words}]
    assert shop.row(taken)["status"] == "sent"


def test_a_message_that_fails_n_times_is_a_dead_letter(shop):
    (message,) = shop.add_messages(1)
    busy = Postman(*[RetryLaterError("busy")] * 9)
    hours = [NOON + timedelta(hours=n) for n in range(4)]
    reports = play(shop, {"email": busy}, *hours, max_attempts=3, backoff=Backoff(base_seconds=1))
    assert [(report.later, report.failed) for report in reports] == [(1, 0), (1, 0), (0, 1), (0, 0)]
    assert shop.row(message)["detail"] == "given up after 3 attempts: busy"


def test_nothing_is_tried_before_the_providers_retry_after(shop):
    (message,) = shop.add_messages(1)
    postman = Postman(RetryLaterError("slow down", retry_after=timedelta(minutes=10)))
    play(shop, {"email": postman}, NOON, backoff=Backoff(base_seconds=30))
    due_at = shop.row(message)["due_at"]
    assert NOON + timedelta(minutes=10) <= due_at <= NOON + timedelta(minutes=10, seconds=30)


def test_one_message_that_breaks_the_adapter_does_not_stop_the_others(shop):
    shop.add_messages(5)
    (report,) = play(shop, {"email": Postman(ValueError("poison"))}, NOON)
    assert (report.sent, report.later) == (4, 1)


@pytest.mark.parametrize("lost", [UnknownOutcomeError("no answer"), 60.0])
def test_a_lost_answer_without_a_key_follows_the_policy(shop, lost):
    parked, retried = shop.add_messages(2)
    patient = {"send_timeout_seconds": 0.2, "concurrency": 1}
    (report,) = play(
        shop, {"email": Postman(lost)}, NOON, unknown_outcome=UnknownPolicy.PARK_UNKNOWN, **patient
    )
    assert report.unknown == 1
    (report,) = play(shop, {"email": Postman(lost)}, NOON, **patient)
    assert report.later == 1
    assert {shop.row(parked)["status"], shop.row(retried)["status"]} == {"unknown", "pending"}
    assert shop.facts() == []


def test_an_abandoned_message_is_sent_again_or_parked_by_policy(shop):
    for policy, column in ((UnknownPolicy.AT_LEAST_ONCE, "sent"), (UnknownPolicy.PARK_UNKNOWN, "unknown")):
        first = 0 if column == "sent" else 1
        shop.add_messages(1, first=first)
        with shop.engine.begin() as conn:
            assert len(claim(conn, NOON, lease_seconds=60, limit=1)) == 1
        soon, later = NOON + timedelta(seconds=59), NOON + timedelta(seconds=61)
        reports = play(shop, {"email": Postman()}, soon, later, unknown_outcome=policy)
        assert [report.claimed for report in reports] == [0, 1]
        assert getattr(reports[1], column) == 1


def test_an_abandoned_message_that_may_not_be_sent_again_is_unknown_and_not_suppressed(shop):
    (message,) = shop.add_messages(1)
    with shop.engine.begin() as conn:
        claim(conn, NOON, lease_seconds=60, limit=1)
    shop.withdraw("c0", "email", NOON)
    play(shop, {"email": Postman()}, NOON + timedelta(seconds=61))
    assert shop.row(message)["status"] == "unknown"
    assert shop.facts() == []


def suppressed_for(shop, moment=NOON) -> str:
    postman = Postman()
    (report,) = play(shop, {"email": postman, "whatsapp": postman}, moment)
    assert report == DispatchReport(claimed=1, suppressed=1)
    assert postman.sent == []
    (fact,) = shop.facts()
    assert fact["kind"] == "suppressed"
    return fact["attributes"]["detail"]


def test_an_expired_message_is_suppressed(shop):
    shop.add_messages(1)
    assert suppressed_for(shop, NOON + timedelta(hours=6)) == "expired"


def test_consent_withdrawn_after_the_decision_suppresses_the_message(shop):
    shop.add_messages(1)
    shop.withdraw("c0", "email", NOON - timedelta(minutes=1))
    assert suppressed_for(shop) == "no_consent"


def test_a_customer_who_unsubscribed_gets_nothing(shop):
    shop.add_messages(1, consent=ConsentStatus.UNSUBSCRIBED)
    assert suppressed_for(shop) == "unsubscribed"


def test_a_customer_who_refuses_every_channel_gets_nothing(shop):
    shop.add_messages(1)
    shop.withdraw("c0", EVERY_CHANNEL, NOON - timedelta(minutes=1))
    assert suppressed_for(shop) == "refused"


def test_free_text_is_suppressed_when_the_providers_window_has_closed_and_a_template_is_not(shop):
    shop.add_messages(1, channel="whatsapp")
    assert suppressed_for(shop) == "provider_window"
    hello = Content(body="Hello {{1}}")
    offer = replace(shop.add_campaign().offers[0], content={ContentKind.TEMPLATE: hello})
    version = shop.add_campaign(offers=(offer,)).version
    shop.add_messages(1, first=1, channel="whatsapp", content_kind=ContentKind.TEMPLATE)
    with shop.engine.begin() as conn:
        conn.execute(update(decisions).values(campaign_version=version))
    postman = Postman()
    (report,) = play(shop, {"whatsapp": postman}, NOON)
    assert (report.claimed, len(postman.sent)) == (1, 1)


def test_a_transactional_message_does_not_wait_for_the_end_of_quiet_hours(shop):
    shop.add_campaign(message_class=MessageClass.TRANSACTIONAL)
    (message,) = shop.add_messages(1, time_zone="Asia/Tokyo")  # where it is 21:00
    postman = Postman()
    play(shop, {"email": postman}, NOON)
    assert postman.sent == [message]


def test_a_contact_point_that_is_gone_suppresses_the_message(shop):
    shop.add_messages(1)
    with shop.engine.begin() as conn:
        conn.execute(delete(identities))
    assert suppressed_for(shop) == "no_identity"


def test_a_campaign_that_is_gone_suppresses_the_message(shop):
    shop.add_messages(1)
    with shop.engine.begin() as conn:
        conn.execute(delete(campaigns))
    assert suppressed_for(shop) == "campaign_gone"


def test_a_campaign_that_was_closed_early_suppresses_the_message(shop):
    shop.add_messages(1)
    closed = SendWindow(starts_at=NOON - timedelta(days=1), ends_at=NOON - timedelta(minutes=1))
    assert shop.add_campaign(send_window=closed).version == 2
    assert suppressed_for(shop) == "expired"


def test_quiet_hours_postpone_to_their_end_without_counting_an_attempt(shop):
    # 12:00 UTC is 21:00 in Tokyo, where it is quiet until 08:00, that is 23:00 UTC.
    (message,) = shop.add_messages(1, time_zone="Asia/Tokyo")
    postman = Postman()
    (report,) = play(shop, {"email": postman}, NOON)
    assert report == DispatchReport(claimed=1, later=1)
    row = shop.row(message)
    assert (row["status"], row["attempts"], row["detail"]) == ("pending", 0, "quiet_hours")
    assert row["due_at"] == NOON + timedelta(hours=11)
    assert postman.sent == []


def test_the_contact_point_is_read_when_the_message_is_sent(shop, sink):
    shop.add_messages(1)
    with shop.engine.begin() as conn:
        conn.execute(delete(identities))
        moved = Identity(
            customer_id="c0", kind=IdentityKind.EMAIL, value="new@example.com", linked_at=NOON, source="t"
        )
        append_identities(conn, [moved])
    mail_round(shop, sink, NOON)
    assert [mail.recipients for mail in sink.received] == [("new@example.com",)]


def test_links_of_other_channels_lead_through_the_redirect_too(shop):
    (message,) = shop.add_messages(1, channel="sms")
    stream = io.StringIO()
    play(shop, {"sms": ConsoleAdapter(stream)}, NOON)
    line = json.loads(stream.getvalue())
    assert line["link"] == shop.links.click(message, 0)
    assert line["body"] == f"Ten tulips. See {shop.links.click(message, 1)} for care."
    assert line["recipient"] == "+15550000"


def test_a_sender_leaves_channels_without_adapter_to_others(shop):
    shop.add_messages(1, channel="sms")
    (report,) = play(shop, {"email": Postman()}, NOON)
    assert report.claimed == 0


def test_two_dispatchers_send_each_of_200_messages_once(shop):
    messages = shop.add_messages(200)
    postmen = [Postman(*[0.001] * 200) for _ in range(2)]

    async def work():
        stop = asyncio.Event()
        senders = [
            Dispatcher(
                shop.engine,
                {"email": postman},
                shop.links,
                DispatchSettings(concurrency=16, poll_seconds=0.02),
                Random(n),
            )
            for n, postman in enumerate(postmen)
        ]
        running = [asyncio.create_task(sender.run(stop, lambda: NOON)) for sender in senders]
        while sum(len(postman.sent) for postman in postmen) < 200:
            await asyncio.sleep(0.02)
        stop.set()
        return await asyncio.gather(*running)

    reports = asyncio.run(asyncio.wait_for(work(), 60))
    assert sorted(postmen[0].sent + postmen[1].sent) == sorted(messages)
    assert all(postman.sent for postman in postmen)
    assert sum(report.sent for report in reports) == len(shop.facts("sent")) == 200


def test_no_more_messages_are_in_flight_than_allowed_and_a_stop_finishes_them(shop):
    shop.add_messages(20)
    postman = Postman(*[0.3] * 20)

    async def work():
        stop = asyncio.Event()
        sender = Dispatcher(
            shop.engine, {"email": postman}, shop.links, DispatchSettings(concurrency=4), Random(1)
        )
        running = asyncio.create_task(sender.run(stop, lambda: NOON))
        await asyncio.sleep(0.2)
        stop.set()
        return await running

    report = asyncio.run(work())
    assert report == DispatchReport(claimed=4, sent=4)
    assert len(shop.facts("sent")) == 4


def test_the_lease_must_outlast_the_time_limit_of_a_send():
    with pytest.raises(InvalidInputError) as caught:
        DispatchSettings(lease_seconds=30, send_timeout_seconds=30)
    assert caught.value.field == "send_timeout_seconds"


def test_the_quiet_hours_of_the_campaign_as_it_is_now_hold(shop):
    shop.add_messages(1)
    shop.add_campaign(quiet_hours=QuietHours(start=time(11), end=time(13)))
    (report,) = play(shop, {"email": Postman()}, NOON)
    assert report.later == 1


class Provider(ConsoleAdapter):
    """Counts the calls that it gets; while `down` it answers none of them."""

    def __init__(self, down: Exception | None = None) -> None:
        self.calls: list[datetime] = []
        self.down = down
        self.now = NOON
        super().__init__(io.StringIO())

    async def send(self, message):
        self.calls.append(self.now)
        if self.down is not None:
            raise self.down
        return await super().send(message)


def rounds(shop, adapters, seconds, **settings) -> list[DispatchReport]:
    """One round at each second after noon, by one dispatcher."""

    async def work():
        dispatcher = Dispatcher(shop.engine, adapters, shop.links, DispatchSettings(**settings), Random(7))
        reports = []
        for second in seconds:
            now = NOON + timedelta(seconds=second)
            for adapter in adapters.values():
                adapter.now = now
            reports.append(await dispatcher.run_once(now))
        return reports

    return asyncio.run(work())


def test_a_provider_that_is_down_is_called_at_most_20_times_and_other_channels_go_on(shop):
    shop.add_messages(60)
    shop.add_messages(60, first=60, channel="sms")
    down, up = Provider(UnknownOutcomeError("no answer")), Provider()
    reports = rounds(shop, {"email": down, "sms": up}, [n / 10 for n in range(40)])
    assert 5 <= len(down.calls) <= 20
    assert len(up.calls) == 60
    assert sum(report.sent for report in reports) == 60


def test_a_provider_that_comes_back_gets_one_message_to_see_and_then_the_rest(shop):
    shop.add_messages(60)
    provider = Provider(RetryLaterError("503"))
    rest = {"backoff": Backoff(base_seconds=1, cap_seconds=1)}

    async def work():
        dispatcher = Dispatcher(
            shop.engine, {"email": provider}, shop.links, DispatchSettings(**rest), Random(7)
        )
        for second in range(4):
            await dispatcher.run_once(NOON + timedelta(seconds=second))
        n_down = len(provider.calls)
        provider.down = None
        first = await dispatcher.run_once(NOON + timedelta(seconds=5))
        others = [await dispatcher.run_once(NOON + timedelta(seconds=6 + n)) for n in range(6)]
        return n_down, first.sent, sum(report.sent for report in others)

    n_down, probe, others = asyncio.run(work())
    assert n_down <= 20
    assert (probe, others) == (1, 59)


def test_mailboxes_that_are_busy_do_not_open_the_breaker(shop, sink):
    shop.add_messages(40)
    sink.answers |= {f"c{n}@example.com": "450 4.2.0 greylisted" for n in range(20)}
    settings = {"concurrency": 4, "concurrency_per_account": 4}
    reports = mail_round(shop, sink, *[NOON + timedelta(seconds=n) for n in range(10)], **settings)
    assert sum(report.sent for report in reports) == 20


def test_a_used_up_quota_rests_the_whole_account_until_the_provider_says(shop):
    shop.add_messages(80)
    provider = Provider(QuotaError("429", retry_after=timedelta(seconds=30)))
    rounds(shop, {"email": provider}, range(29))
    assert len(provider.calls) <= 16  # those that were under way together
    assert set(provider.calls) == {NOON}


def test_two_senders_together_keep_to_the_rate_of_an_account(shop):
    shop.add_messages(200)
    providers = [Provider(), Provider()]

    async def work():
        settings = DispatchSettings(rates={"console": Rate(5, burst=10)})
        senders = [
            Dispatcher(shop.engine, {"email": provider}, shop.links, settings, Random(7))
            for provider in providers
        ]
        for tenth in range(100):
            now = NOON + timedelta(seconds=tenth / 10)
            for provider, sender in zip(providers, senders, strict=True):
                provider.now = now
                await sender.run_once(now)

    asyncio.run(work())
    calls = sorted(providers[0].calls + providers[1].calls)
    # A full bucket of 10, and 5 a second for 9.9 seconds.
    assert len(calls) == 59
    for start in calls:
        within = sum(start <= moment < start + timedelta(seconds=2) for moment in calls)
        assert within <= 10 + 2 * 5


def test_a_channel_may_have_its_own_policy_for_lost_answers(shop):
    (mail,) = shop.add_messages(1)
    (text_message,) = shop.add_messages(1, first=1, channel="sms")
    lost = {"email": Postman(UnknownOutcomeError("?")), "sms": Postman(UnknownOutcomeError("?"))}
    play(shop, lost, NOON, unknown_outcomes={"sms": UnknownPolicy.PARK_UNKNOWN})
    assert (shop.row(mail)["status"], shop.row(text_message)["status"]) == ("pending", "unknown")
