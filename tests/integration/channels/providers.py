"""Providers that remember: each enforces what its published description says and a stateless mock lets through."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import time
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import http_ece
import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from py_vapid import Vapid02

from models.domain.sms import sms_length
from serving.channels.testing import HttpWire, SignedEvents

RETRY_KEY = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


def problem(status: int, /, **document: Any) -> httpx.Response:
    return httpx.Response(status, json=document)


class Twilio(HttpWire):
    """https://www.twilio.com/docs/messaging/api/message-resource."""

    sid, token, webhook = "AC" + "0" * 32, "twilio-token", "https://news.example/v1/receipts/sms"

    def recipient_of(self, request: httpx.Request) -> str | None:
        return parse_qs(request.content.decode()).get("To", [None])[0]

    def answer(self, request: httpx.Request) -> httpx.Response:
        expected = "Basic " + base64.b64encode(f"{self.sid}:{self.token}".encode()).decode()
        if request.headers.get("authorization") != expected:
            return problem(401, code=20003, message="Authenticate", status=401)
        if request.method == "GET":
            return problem(200, friendly_name="Bulb Shop", status="active")
        form = dict(parse_qsl(request.content.decode()))
        if len(form["Body"]) > 1_600:
            return problem(400, code=21617, message="The concatenated message body is too long", status=400)
        segments = sms_length(form["Body"]).n_segments
        number = f"SM{len(self.taken):032x}"
        return problem(201, sid=number, status="queued", num_segments=str(segments), error_code=None)

    def refusing(self) -> httpx.Response:
        return problem(400, code=21610, message="Attempt to send to unsubscribed recipient", status=400)

    def delaying(self) -> httpx.Response:
        return problem(500, code=20500, message="Internal Server Error", status=500)

    def exhausted(self) -> httpx.Response:
        return problem(429, code=20429, message="Too Many Requests", status=429)

    def callback(self, query: str = "", **form: str) -> SignedEvents:
        """A signed callback, as https://www.twilio.com/docs/usage/security says."""
        form = {"AccountSid": self.sid, **form}
        body = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in form.items())
        url = self.webhook + (f"?{query}" if query else "")
        covered = url + "".join(name + form[name] for name in sorted(form))
        signature = base64.b64encode(hmac.digest(self.token.encode(), covered.encode(), "sha1")).decode()
        path = "/v1/receipts/sms" + (f"?{query}" if query else "")
        return SignedEvents(
            body=body.encode(),
            headers={"x-twilio-signature": signature, ":path": path},
            signature="x-twilio-signature",
        )


class Line(HttpWire):
    """https://developers.line.biz/en/reference/messaging-api/: retry keys, lengths, a monthly quota."""

    token, secret = "line-token", "line-secret"

    def __init__(self, quota: int = 1_000) -> None:
        super().__init__()
        self.keys: set[str] = set()
        self.quota = quota
        self.seen: list[httpx.Request] = []
        self.spent: set[str] = set()
        """Reply tokens that were used, or are too old."""

    def recipient_of(self, request: httpx.Request) -> str | None:
        to = json.loads(request.content or b"{}").get("to")
        return to[0] if isinstance(to, list) else to

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return problem(401, message="Authentication failed")
        if request.method == "GET":
            used = len(self.taken)
            return problem(200, displayName="Bulb Shop", type="limited", value=self.quota, totalUsage=used)
        self.seen.append(request)
        key = request.headers.get("x-line-retry-key")
        if key is not None and not RETRY_KEY.fullmatch(key):
            return problem(400, message="The retry key is invalid")
        if key in self.keys:
            return problem(409, message="The retry key is already accepted")
        said = json.loads(request.content)
        if wrong := self._wrong(said):
            return problem(400, message="The request body has 1 error(s)", details=[{"message": wrong}])
        if request.url.path.endswith("/reply"):  # free of charge
            if said["replyToken"] in self.spent:
                return problem(400, message="Invalid reply token")
            self.spent.add(said["replyToken"])
        elif len(self.taken) >= self.quota:
            return problem(429, message="You have reached your monthly limit.")
        if key:
            self.keys.add(key)
        headers = {"x-line-request-id": f"request-{len(self.taken)}"}
        return httpx.Response(200, json={"sentMessages": [{"id": "1"}]}, headers=headers)

    def _wrong(self, said: dict[str, Any]) -> str | None:
        if isinstance(said.get("to"), list) and len(said["to"]) > 500:
            return "to: at most 500"
        if not 1 <= len(said.get("messages", [])) <= 5:
            return "messages: 1 to 5"
        for message in said["messages"]:
            kind = message.get("type")
            if kind == "text":
                units = len(message["text"].encode("utf-16-le")) // 2
                if not 0 < units <= 5_000:
                    return "text: 1 to 5000"
                for each in message.get("quickReply", {}).get("items", []):
                    action = each["action"]
                    if not 0 < len(action["label"]) <= 20 or not 0 < len(action["text"]) <= 300:
                        return "quickReply: label 1 to 20, text 1 to 300"
                if len(message.get("quickReply", {}).get("items", [])) > 13:
                    return "quickReply: at most 13"
            elif kind == "template":
                template = message["template"]
                titled = "title" in template or "thumbnailImageUrl" in template
                longest = {"buttons": 60 if titled else 160, "confirm": 240}.get(template["type"], 10**6)
                if len(template.get("text", "")) > longest or len(message["altText"]) > 400:
                    return "template: too long"
                if template["type"] == "confirm" and len(template["actions"]) != 2:
                    return "confirm: two actions"
            elif kind == "flex":
                if message["contents"]["type"] not in {"bubble", "carousel"} or not message["altText"]:
                    return "flex: bubble or carousel"
            elif kind not in {"sticker", "image", "video", "location", "audio", "imagemap"}:
                return f"unknown type {kind}"
        return None

    def refusing(self) -> httpx.Response:
        return problem(400, message="Failed to send messages")

    def exhausted(self) -> httpx.Response:
        return problem(429, message="You have reached your monthly limit.")

    def hook(self, *events: dict[str, Any]) -> SignedEvents:
        body = json.dumps({"destination": "U0", "events": list(events)}).encode()
        signature = base64.b64encode(hmac.digest(self.secret.encode(), body, "sha256")).decode()
        return SignedEvents(
            body=body,
            headers={"x-line-signature": signature},
            signature="x-line-signature",
            n_events=len(events),
        )


def line_event(kind: str, person: str = "U4af4980629", number: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "webhookEventId": f"01H810YECXQQZ37VAXPF6H9E6{number}",
        "timestamp": 1_772_442_000_000 + number,
        "source": {"type": "user", "userId": person},
        "mode": "active",
        **more,
    }


class Meta(HttpWire):
    """Graph API: one token; WhatsApp texts only while `open_windows` holds the recipient."""

    token, secret, verify = "meta-token", "meta-secret", "verify-me"

    def __init__(self) -> None:
        super().__init__()
        self.open_windows = {"15550100", "psid-1"}

    def recipient_of(self, request: httpx.Request) -> str | None:
        said = json.loads(request.content or b"{}")
        return said.get("to") or said.get("recipient", {}).get("id")

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return graph_error(401, 190, "Invalid OAuth access token")
        if request.method == "GET":
            return problem(200, name="Bulb Shop", id="104")
        said, to = json.loads(request.content), self.recipient_of(request)
        if said.get("messaging_product") == "whatsapp":
            if said["type"] != "template" and to not in self.open_windows:
                return graph_error(400, 131047, "Re-engagement message")
            if said["type"] == "text" and not 0 < len(said["text"]["body"]) <= 4_096:
                return graph_error(400, 100, "text.body: 1 to 4096")
            number = f"wamid.{len(self.taken)}"
            return problem(200, messaging_product="whatsapp", messages=[{"id": number}])
        if to not in self.open_windows:
            return graph_error(400, 10, "This message is sent outside of allowed window.", 2018278)
        return problem(200, recipient_id=to, message_id=f"m_{len(self.taken)}")

    def refusing(self) -> httpx.Response:
        return graph_error(400, 131026, "Message undeliverable")

    def delaying(self) -> httpx.Response:
        return graph_error(500, 2, "Service temporarily unavailable")

    def exhausted(self) -> httpx.Response:
        return graph_error(400, 130429, "Rate limit hit")

    def hook(self, n_events: int, *entries: dict[str, Any]) -> SignedEvents:
        body = json.dumps({"object": "x", "entry": list(entries)}).encode()
        signature = "sha256=" + hmac.digest(self.secret.encode(), body, "sha256").hex()
        headers = {"x-hub-signature-256": signature}
        return SignedEvents(body=body, headers=headers, signature="x-hub-signature-256", n_events=n_events)


def graph_error(status: int, code: int, message: str, subcode: int | None = None) -> httpx.Response:
    return problem(status, error={"code": code, "message": message, "error_subcode": subcode})


def whatsapp_status(wamid: str, status: str, **more: Any) -> dict[str, Any]:
    return {"id": wamid, "status": status, "timestamp": "1772442000", "recipient_id": "15550100", **more}


def whatsapp_entry(**value: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "changes": [{"field": "messages", "value": {"messaging_product": "whatsapp", **value}}],
    }


class WeChat(HttpWire):
    """Official account: tokens that go stale, errors inside answers of 200, safe mode."""

    app_id, secret, verify = "wx0123456789abcdef", "wechat-secret", "wechat-token"
    aes_key = base64.b64encode(bytes(range(32))).decode().rstrip("=")

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0

    def recipient_of(self, request: httpx.Request) -> str | None:
        return json.loads(request.content).get("touser")

    def answer(self, request: httpx.Request) -> httpx.Response:
        said = json.loads(request.content)
        if request.url.path == "/cgi-bin/stable_token":
            if said["secret"] != self.secret:
                return problem(200, errcode=40125, errmsg="invalid appsecret")
            if not self.tokens or said["force_refresh"]:
                self.tokens += 1
            return problem(200, access_token=f"token-{self.tokens}", expires_in=7200)
        if request.url.params.get("access_token") != f"token-{self.tokens}":
            # An answer of 200: only `taken` tells it from a success.
            self._answers.pop(said["touser"], None)
            raise RefusedError(problem(200, errcode=40001, errmsg="invalid credential"))
        if request.url.path.endswith("/template/send"):
            return problem(200, errcode=0, errmsg="ok", msgid=len(self.taken) + 1)
        return problem(200, errcode=0, errmsg="ok")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except RefusedError as refused:
            return refused.response

    def refusing(self) -> httpx.Response:
        return problem(200, errcode=45015, errmsg="response out of time limit")

    def delaying(self) -> httpx.Response:
        return problem(200, errcode=-1, errmsg="system error")

    def exhausted(self) -> httpx.Response:
        return problem(200, errcode=45009, errmsg="reach max api daily quota limit")

    def hook(self, inner: str) -> SignedEvents:
        """A body in safe mode."""
        plain = (
            os.urandom(16) + len(inner.encode()).to_bytes(4, "big") + inner.encode() + self.app_id.encode()
        )
        padding = 32 - len(plain) % 32
        key = base64.b64decode(self.aes_key + "=")
        cipher = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
        sealed = base64.b64encode(
            cipher.update(plain + bytes([padding]) * padding) + cipher.finalize()
        ).decode()
        stamp, nonce = "1772442000", "n0nce"
        signature = self.signature(stamp, nonce, sealed)
        body = f"<xml><ToUserName>gh_1</ToUserName><Encrypt><![CDATA[{sealed}]]></Encrypt></xml>"
        path = f"/v1/receipts/wechat?timestamp={stamp}&nonce={nonce}&msg_signature={signature}"
        return SignedEvents(
            body=body.encode(), headers={":path": path}, signature=":path", covered=sealed.encode()
        )

    def signature(self, *parts: str) -> str:
        return hashlib.sha1("".join(sorted((self.verify, *parts))).encode()).hexdigest()  # noqa: S324


class RefusedError(Exception):
    """An answer of 200 that is no success."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response


def wechat_xml(kind: str, **more: str) -> str:
    parts = {"ToUserName": "gh_1", "FromUserName": "o-1", "CreateTime": "1772442000", "MsgType": kind, **more}
    return (
        "<xml>" + "".join(f"<{name}><![CDATA[{text}]]></{name}>" for name, text in parts.items()) + "</xml>"
    )


class Fcm(HttpWire):
    """FCM v1 and Google's token endpoint, which checks the signed assertion."""

    def __init__(self, public_key: Any) -> None:
        super().__init__()
        self.public_key = public_key
        self.assertions: list[dict[str, Any]] = []

    def recipient_of(self, request: httpx.Request) -> str | None:
        if request.url.host == "oauth2.example":
            return None
        return str(json.loads(request.content)["message"]["token"])

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "oauth2.example":
            form = dict(parse_qsl(request.content.decode()))
            self.assertions.append(
                jwt.decode(
                    form["assertion"],
                    self.public_key,
                    algorithms=["RS256"],
                    audience="https://oauth2.example/token",
                    options={"verify_iat": False, "verify_exp": False},
                )
            )
            return problem(200, access_token=f"ya29.{len(self.assertions)}", expires_in=3599)
        if request.headers.get("authorization") != f"Bearer ya29.{len(self.assertions)}":
            return problem(401, error={"code": 401, "status": "UNAUTHENTICATED", "message": "token"})
        return problem(200, name=f"projects/bulbs/messages/{len(self.taken)}")

    def refusing(self) -> httpx.Response:
        return self.error(404, "NOT_FOUND", "UNREGISTERED")

    def delaying(self) -> httpx.Response:
        return self.error(503, "UNAVAILABLE", "UNAVAILABLE")

    def exhausted(self) -> httpx.Response:
        return self.error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")

    @staticmethod
    def error(status: int, name: str, code: str) -> httpx.Response:
        details = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}]
        return problem(status, error={"code": status, "status": name, "message": name, "details": details})


class Apns(HttpWire):
    """Apple's answers; the real protocol is in `test_push.py`."""

    def __init__(self, public_key: Any) -> None:
        super().__init__()
        self.public_key = public_key

    def recipient_of(self, request: httpx.Request) -> str | None:
        return request.url.path.removeprefix("/3/device/")

    def answer(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("bearer ")
        claims = jwt.decode(token, self.public_key, algorithms=["ES256"], options={"verify_iat": False})
        if claims["iss"] != "TEAM123456" or jwt.get_unverified_header(token)["kid"] != "KEY1234567":
            return problem(403, reason="InvalidProviderToken")
        if len(request.content) > 4_096:
            return problem(413, reason="PayloadTooLarge")
        return httpx.Response(200, headers={"apns-id": request.headers["apns-id"]})

    def refusing(self) -> httpx.Response:
        return problem(410, reason="Unregistered", timestamp=1)

    def delaying(self) -> httpx.Response:
        return problem(503, reason="ServiceUnavailable")

    def exhausted(self) -> httpx.Response:
        return problem(429, reason="TooManyProviderTokenUpdates")


class Browser:
    """A browser's subscription: the keys that open what is sent to it (RFC 8291)."""

    def __init__(self, endpoint: str = "https://push.example/send/1") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = os.urandom(16)
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.endpoint = endpoint
        self.subscription = json.dumps(
            {"endpoint": endpoint, "keys": {"p256dh": _base64url(point), "auth": _base64url(self.auth)}}
        )

    def open(self, sealed: bytes) -> bytes:
        opened: bytes = http_ece.decrypt(
            sealed, private_key=self.key, auth_secret=self.auth, version="aes128gcm"
        )
        return opened


class PushService(HttpWire):
    """A push service (RFC 8030): verifies VAPID (RFC 8292), opens what it is sent, keeps the plain text."""

    def __init__(self, vapid: Vapid02, browser: Browser) -> None:
        super().__init__()
        self.browser = browser
        self.public_key = vapid.public_key
        self.opened: list[bytes] = []
        self.topics: list[str] = []

    def recipient_of(self, request: httpx.Request) -> str | None:
        return self.browser.subscription if str(request.url) == self.browser.endpoint else None

    def answer(self, request: httpx.Request) -> httpx.Response:
        scheme, _, rest = request.headers["authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        claims = jwt.decode(
            parts["t"],
            self.public_key,
            algorithms=["ES256"],
            audience=f"https://{request.url.host}",
            options={"verify_iat": False},
        )
        if scheme != "vapid" or not claims["sub"] or claims["exp"] > time.time() + 24 * 3_600:
            return httpx.Response(403)
        if len(request.content) > 4_096 or request.headers["content-encoding"] != "aes128gcm":
            return httpx.Response(413)
        if (
            not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", request.headers["topic"])
            or int(request.headers["ttl"]) < 0
        ):
            return httpx.Response(400)
        self.opened.append(self.browser.open(request.content))
        self.topics.append(request.headers["topic"])
        return httpx.Response(201, headers={"location": "https://push.example/m/1"})

    def accepted(self) -> list[bytes]:
        return list(self.opened)

    def refusing(self) -> httpx.Response:
        return httpx.Response(410)


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
