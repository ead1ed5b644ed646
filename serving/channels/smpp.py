"""SMS by SMPP 3.4: one bound connection, submissions answered by sequence number, receipts by deliver_sm.

The library blocks, so a thread of its own owns the connection; it binds again after a loss. SMPP knows no idempotency
key: a part whose answer was lost may be sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from zlib import crc32

import smpplib.client
import smpplib.consts
import smpplib.exceptions
import smpplib.gsm

from models.domain.channel import ContentKind
from models.domain.errors import require
from models.domain.interaction import InteractionKind
from models.domain.message import Message, Receipt, ReceiptStatus
from models.domain.sms import SmsEncoding, sms_length, split_sms
from serving.channels.adapter_settings import read_settings
from serving.channels.contract import (
    AdapterContext,
    Capabilities,
    ChannelError,
    CostUnit,
    DeliveryEvent,
    FinalRefusalError,
    ForgedEventsError,
    Idempotency,
    Limit,
    QuotaError,
    RetryLaterError,
    UnknownOutcomeError,
)
from serving.channels.rendering import text_with_link
from serving.channels.webhooks import Clock, event_id, is_opt_out, utc_now

_log = logging.getLogger(__name__)
_PHONE = re.compile(r"\+?[1-9][0-9]{6,14}")
# SMPP 3.4 section 5.1.3: the answer says that nothing was taken, and not for good.
_QUOTA = frozenset({0x14, 0x58})  # message queue full, throttled
_LATER = frozenset({0x04, 0x08, 0x0D, 0x0E, 0x0F, 0x64, 0xFE})
_TEMPORARY = 0x64
_RECEIPT = 0x04  # bit of esm_class in a deliver_sm: a delivery receipt
# Appendix B: "id:... sub:... dlvrd:... submit date:... done date:YYMMDDhhmm[ss] stat:DELIVRD err:000 text:..."
_FIELDS = re.compile(r"\b(id|stat|err|done date):(\S+)")
_STATES = {
    "DELIVRD": InteractionKind.DELIVERED,
    "EXPIRED": InteractionKind.FAILED,
    "DELETED": InteractionKind.FAILED,
    "UNDELIV": InteractionKind.FAILED,
    "REJECTD": InteractionKind.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SmppSettings:
    """Settings of the adapter.

    Attributes:
        host: Message centre.
        port: Of the message centre.
        system_id: Log-in.
        password: At most 8 characters (SMPP 3.4).
        sender: Phone number, short code or name that messages come from.
        timeout_seconds: For each answer; also how often a silent connection is tested.
    """

    host: str
    port: int
    system_id: str
    password: str
    sender: str
    timeout_seconds: float = 10.0

    def __post_init__(self) -> None:
        require(len(self.password) <= 8, "smpp.password", "...", "must have at most 8 characters")


class SmppAdapter:
    """One transceiver at one message centre."""

    name = "smpp"
    capabilities = Capabilities(
        content_kinds=frozenset({ContentKind.TEXT}),
        receipts=frozenset(
            {
                InteractionKind.DELIVERED,
                InteractionKind.FAILED,
                InteractionKind.CLICKED,
                InteractionKind.REPLIED,
                InteractionKind.UNSUBSCRIBED,
            }
        ),
        idempotency=Idempotency.NONE,
        limits=(
            Limit(
                subject="text",
                at_most=1_600,
                unit="characters",
                source="https://www.twilio.com/docs/glossary/what-sms-character-limit",
                kind=ContentKind.TEXT,
            ),
        ),
        cost_unit=CostUnit.SEGMENT,
    )

    def __init__(self, settings: SmppSettings, report: Any = None, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._report = report
        self._clock = clock
        self._client: smpplib.client.Client | None = None
        self._waiting: dict[int, Future[Any]] = {}
        self._connecting = threading.Lock()
        self._sending = threading.Lock()
        self._reader: threading.Thread | None = None

    @classmethod
    def build(cls, context: AdapterContext, transport: Any = None) -> Self:  # noqa: ARG003
        """The wire is `host` and `port`; there is no other."""
        return cls(read_settings(SmppSettings, cls.name, context.settings), context.report)

    async def send(self, message: Message) -> Receipt:
        """Submit every part of one SMS; see the contract for what it raises."""
        self.capabilities.require(message)
        if not _PHONE.fullmatch(message.recipient):
            raise FinalRefusalError("the recipient is no phone number like +15550100")
        text = text_with_link(message.content)
        self.capabilities.require_length(ContentKind.TEXT, text)
        return await asyncio.to_thread(self._submit, message, text)

    def parse_events(self, body: bytes, headers: Mapping[str, str]) -> Sequence[DeliveryEvent]:  # noqa: ARG002
        """SMPP reports over its own connection, so whatever comes by HTTP is forged."""
        raise ForgedEventsError("SMPP has no webhook")

    async def check_account(self) -> str:
        """Whether the message centre lets us bind."""
        await asyncio.to_thread(self._bound)
        return f"bound to {self._settings.host}:{self._settings.port}"

    async def aclose(self) -> None:
        """Unbind and hang up."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(_hang_up, client)
        if self._reader is not None:
            await asyncio.to_thread(self._reader.join)

    def _submit(self, message: Message, text: str) -> Receipt:
        client = self._bound()
        length = sms_length(text)
        answers = [self._submitted(client, part) for part in self._parts(message, text, length.encoding)]
        ids = []
        for n, answer in enumerate(answers):
            try:
                pdu = answer.result(self._settings.timeout_seconds)
            except TimeoutError as exc:
                raise UnknownOutcomeError("the answer to submit_sm was lost") from exc
            if pdu.status:
                refused = _refusal(pdu.status)
                # Where earlier parts were taken, the same message again would arrive twice in part.
                raise refused if n == 0 else FinalRefusalError(f"part {n + 1} of {len(answers)}: {refused}")
            ids.append(_text(pdu.message_id))
        return Receipt(
            status=ReceiptStatus.ACCEPTED,
            provider=self.name,
            provider_message_id=ids[-1],
            detail=", ".join(ids)[:200],
            n_units=length.n_segments,
        )

    def _parts(self, message: Message, text: str, encoding: SmsEncoding) -> list[dict[str, Any]]:
        gsm = encoding is SmsEncoding.GSM_7
        encode = smpplib.gsm.gsm_encode if gsm else (lambda part: part.encode("utf-16-be"))
        parts = split_sms(text)
        # The same message again has the same reference, so that a phone can put its parts together all the same.
        reference = crc32(message.message_id.encode()) % 256
        common = {
            "source_addr": self._settings.sender,
            "source_addr_ton": _type_of(self._settings.sender),
            "source_addr_npi": smpplib.consts.SMPP_NPI_ISDN,
            "destination_addr": message.recipient.lstrip("+"),
            "dest_addr_ton": smpplib.consts.SMPP_TON_INTL,
            "dest_addr_npi": smpplib.consts.SMPP_NPI_ISDN,
            "data_coding": smpplib.consts.SMPP_ENCODING_DEFAULT
            if gsm
            else smpplib.consts.SMPP_ENCODING_ISO10646,
            "registered_delivery": 1,
        }
        if len(parts) == 1:
            return [{**common, "short_message": encode(text)}]
        return [
            {
                **common,
                "esm_class": smpplib.consts.SMPP_GSMFEAT_UDHI,
                "short_message": bytes((5, 0, 3, reference, len(parts), n)) + encode(part),
            }
            for n, part in enumerate(parts, start=1)
        ]

    def _submitted(self, client: smpplib.client.Client, part: Mapping[str, Any]) -> Future[Any]:
        """Write one part; its answer comes to the reading thread."""
        answer: Future[Any] = Future()
        with self._sending:
            try:
                pdu = smpplib.smpp.make_pdu("submit_sm", client=client, **part)
                self._waiting[pdu.sequence] = answer
                client.send_pdu(pdu)
            except (smpplib.exceptions.ConnectionError, smpplib.exceptions.PDUError, OSError) as exc:
                raise UnknownOutcomeError(f"the connection broke: {exc}") from exc
        return answer

    def _bound(self) -> smpplib.client.Client:
        with self._connecting:
            if self._client is not None:
                return self._client
            settings = self._settings
            client = smpplib.client.Client(
                settings.host, settings.port, timeout=settings.timeout_seconds, allow_unknown_opt_params=True
            )
            try:
                client.connect()
                client.bind_transceiver(system_id=settings.system_id, password=settings.password)
            except (smpplib.exceptions.ConnectionError, smpplib.exceptions.PDUError, OSError) as exc:
                client.state = smpplib.consts.SMPP_CLIENT_STATE_OPEN
                client.disconnect()
                # Also a refused log-in: the account is at fault, not the message.
                raise RetryLaterError(f"cannot bind: {exc}") from exc
            # Two threads write: this one's callers, and the reader, which answers what it reads.
            client.send_pdu = _one_at_a_time(client.send_pdu)
            client.set_message_sent_handler(self._answered)
            client.set_error_pdu_handler(self._answered)
            client.set_message_received_handler(self._delivered)
            self._client = client
            self._reader = threading.Thread(target=self._read, args=(client,), name="smpp", daemon=True)
            self._reader.start()
            return client

    def _read(self, client: smpplib.client.Client) -> None:
        """Read until the connection ends; then those who wait know nothing."""
        try:
            client.listen()
        except Exception as exc:  # of whatever kind: the connection is of no more use
            if self._client is client:
                _log.warning("the SMPP connection ended: %r", exc)
        finally:
            if self._client is client:
                self._client = None
            with contextlib.suppress(OSError):
                client.disconnect()
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                if not answer.done():
                    answer.set_exception(UnknownOutcomeError("the connection was lost"))

    def _answered(self, pdu: Any) -> None:
        waiting = self._waiting.pop(pdu.sequence, None)
        if waiting is not None:
            waiting.set_result(pdu)

    def _delivered(self, pdu: Any) -> int:
        """Hand a receipt or an incoming text on; a temporary error makes the centre deliver it again."""
        try:
            if self._report is not None and (event := self.event_of(pdu)) is not None:
                self._report([event])
        except Exception:
            _log.exception("a deliver_sm was not recorded")
            return _TEMPORARY
        return int(smpplib.consts.SMPP_ESME_ROK)

    def event_of(self, pdu: Any) -> DeliveryEvent | None:
        """What a deliver_sm reports; None for an intermediate state."""
        text = _text(pdu.short_message, pdu.data_coding)
        sender = _text(pdu.source_addr)
        if not pdu.esm_class & _RECEIPT:
            # An incoming text has no id of its own; the minute keeps a repeated delivery from being a second fact.
            now = self._clock()
            return DeliveryEvent(
                provider=self.name,
                event_id=event_id(sender, now.strftime("%Y%m%d%H%M"), crc32(text.encode())),
                kind=InteractionKind.UNSUBSCRIBED if is_opt_out(text) else InteractionKind.REPLIED,
                occurred_at=now,
                identity=sender if sender.startswith("+") else f"+{sender}",
                attributes={"text": text},
            )
        found = dict(_FIELDS.findall(text))
        kind = _STATES.get(found.get("stat", ""))
        known = found.get("id") or _text(getattr(pdu, "receipted_message_id", b"") or b"")
        if kind is None or not known:
            return None
        return DeliveryEvent(
            provider=self.name,
            event_id=event_id(known, found["stat"]),
            kind=kind,
            occurred_at=_done(found.get("done date", ""), self._clock()),
            provider_message_id=known,
            detail=f"{found['stat']} err:{found.get('err', '')}",
        )


def _one_at_a_time(write: Callable[[Any], object]) -> Callable[[Any], object]:
    lock = threading.Lock()

    def locked(pdu: Any) -> object:
        with lock:
            return write(pdu)

    return locked


def _refusal(status: int) -> ChannelError:
    words = f"0x{status:08X} {smpplib.consts.DESCRIPTIONS.get(status, '')}".strip()
    if status in _QUOTA:
        return QuotaError(words)
    return RetryLaterError(words) if status in _LATER else FinalRefusalError(words)


def _type_of(sender: str) -> int:
    """Type of number: a name, an international number, or a short code."""
    if not sender.lstrip("+").isdigit():
        return int(smpplib.consts.SMPP_TON_ALNUM)
    return int(smpplib.consts.SMPP_TON_INTL if len(sender) > 8 else smpplib.consts.SMPP_TON_UNK)


def _text(value: bytes | str | None, data_coding: int = 0) -> str:
    if isinstance(value, bytes):
        encoding = "utf-16-be" if data_coding == smpplib.consts.SMPP_ENCODING_ISO10646 else "latin-1"
        value = value.decode(encoding, "replace")
    return (value or "").strip("\0").strip()


def _done(text: str, now: datetime) -> datetime:
    """Of "done date", which has no time zone and is taken as UTC; now where it cannot be read or lies ahead."""
    for form in ("%y%m%d%H%M", "%y%m%d%H%M%S"):
        with contextlib.suppress(ValueError):
            return min(datetime.strptime(text, form).replace(tzinfo=UTC), now)
    return now


def _hang_up(client: smpplib.client.Client) -> None:
    with contextlib.suppress(smpplib.exceptions.ConnectionError, smpplib.exceptions.PDUError, OSError):
        client.send_pdu(smpplib.smpp.make_pdu("unbind", client=client))
    if client._socket is not None:
        with contextlib.suppress(OSError):
            client._socket.shutdown(socket.SHUT_RDWR)
