"""A small SMPP 3.4 message centre on loopback: binds, takes submit_sm, delivers receipts."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

import smpplib.consts
import smpplib.smpp

from serving.channels.testing import Wire

_BIND_FAILED = 0x0D


class _Peer:
    """What the library wants to know of the other end when it reads and writes."""

    allow_unknown_opt_params = True

    def __init__(self) -> None:
        self.sequence = 0

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence


class MessageCentre(Wire):
    def __init__(self) -> None:
        self.submitted: list[Any] = []
        self.answered: list[int] = []
        self._statuses: dict[str, int] = {}
        self._silent: set[str] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._writing = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def accepted(self) -> Sequence[bytes]:
        return [bytes(pdu.destination_addr) + b"|" + bytes(pdu.short_message) for pdu in self.submitted]

    def refuse(self, recipient: str) -> bool:
        self._statuses[recipient.lstrip("+")] = smpplib.consts.SMPP_ESME_RINVDSTADR
        return True

    def delay(self, recipient: str) -> bool:
        self._statuses[recipient.lstrip("+")] = smpplib.consts.SMPP_ESME_RSYSERR
        return True

    def exhaust_quota(self, recipient: str) -> bool:
        self._statuses[recipient.lstrip("+")] = smpplib.consts.SMPP_ESME_RTHROTTLED
        return True

    def go_silent(self, recipient: str) -> bool:
        self._silent.add(recipient.lstrip("+"))
        return True

    def close(self) -> None:
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    def deliver(
        self, text: str, *, source: str = "15550100", receipt: bool = True, ucs2: bool = False
    ) -> None:
        """Send a deliver_sm to whoever is bound."""
        peer = _Peer()
        peer.sequence = 1000 + len(self.answered)
        pdu = smpplib.smpp.make_pdu(
            "deliver_sm",
            client=peer,
            source_addr=source,
            destination_addr="BULBS",
            esm_class=4 if receipt else 0,
            data_coding=8 if ucs2 else 0,
            short_message=text.encode("utf-16-be" if ucs2 else "latin-1"),
        )
        self._write(self._connections[-1], pdu)

    def wait_for_answers(self, n: int) -> list[int]:
        """Statuses of deliver_sm_resp, once there are so many."""
        for _ in range(500):
            if len(self.answered) >= n:
                break
            time.sleep(0.01)
        return list(self.answered)

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        peer = _Peer()
        while True:
            try:
                head = _exactly(connection, 4)
                raw = head + _exactly(connection, struct.unpack(">L", head)[0] - 4)
                pdu = smpplib.smpp.parse_pdu(raw, client=peer, allow_unknown_opt_params=True)
                self._answer(connection, peer, pdu)
            except OSError:
                return

    def _answer(self, connection: socket.socket, peer: _Peer, pdu: Any) -> None:
        if pdu.command == "deliver_sm_resp":
            self.answered.append(pdu.status)
            return
        more: dict[str, Any] = {}
        status = 0
        if pdu.command == "bind_transceiver":
            more["system_id"] = "centre"
            status = 0 if pdu.password == b"secret" else _BIND_FAILED
        elif pdu.command == "submit_sm":
            to = pdu.destination_addr.decode()
            status = self._statuses.get(to, 0)
            if not status:
                self.submitted.append(pdu)
                more["message_id"] = f"id-{len(self.submitted)}"
            if to in self._silent:
                return
        elif pdu.command not in {"enquire_link", "unbind"}:
            return
        answer = smpplib.smpp.make_pdu(f"{pdu.command}_resp", client=peer, status=status, **more)
        answer.sequence = pdu.sequence
        self._write(connection, answer)

    def _write(self, connection: socket.socket, pdu: Any) -> None:
        with self._writing:
            connection.sendall(pdu.generate())


def _exactly(connection: socket.socket, n: int) -> bytes:
    parts = b""
    while len(parts) < n:
        part = connection.recv(n - len(parts))
        if not part:
            raise OSError("closed")
        parts += part
    return parts
