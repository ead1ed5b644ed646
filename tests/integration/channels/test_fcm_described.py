"""What goes to FCM is what Google's published description of its API takes (discovery document, `fcm.v1.json`).

Skipped where the description is missing: `make spec-servers`, or its path in NEXTCHANNEL_FCM_DESCRIPTION.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.domain.campaign import Content
from models.domain.channel import ContentKind, IdentityKind
from serving.channels.fcm import FcmAdapter, FcmSettings
from serving.channels.testing import ExampleLinks, example_message
from tests.integration.channels.providers import Fcm
from tests.integration.channels.test_laws import make_keys

_INSTALLED = ".spec-servers/google/googleapiclient/discovery_cache/documents/fcm.v1.json"
_TYPES = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
}
_DURATION = re.compile(r"\d+(\.\d{1,9})?s")


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    file = Path(os.environ.get("NEXTCHANNEL_FCM_DESCRIPTION", Path(__file__).parents[3] / _INSTALLED))
    if not file.is_file():
        pytest.skip(
            "the description of FCM is missing: make spec-servers, or set NEXTCHANNEL_FCM_DESCRIPTION"
        )
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def violations(said: Any, schema: dict[str, Any], schemas: dict[str, Any], place: str = "") -> Iterator[str]:
    """Where a value is not what the schema says; a name that the schema does not know counts."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type", "any")
    if kind == "any":
        return
    if not isinstance(said, _TYPES[kind]):
        yield f"{place}: {said!r} is no {kind}"
    elif kind == "array":
        for number, each in enumerate(said):
            yield from violations(each, schema["items"], schemas, f"{place}[{number}]")
    elif kind == "object":
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, each in said.items():
            if name not in known and others is None:
                yield f"{place}.{name}: unknown"
            else:
                yield from violations(each, known.get(name, others), schemas, f"{place}.{name}")
    elif schema.get("format") == "google-duration" and not _DURATION.fullmatch(said):
        yield f"{place}: {said!r} is no duration"
    elif "enum" in schema and said not in schema["enum"]:
        yield f"{place}: {said!r} is none of {schema['enum']}"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (ContentKind.TEXT, Content(body="Ten tulips")),
        (ContentKind.TEXT, Content(subject="春", body="Ten tulips", link_url="https://t.example/c/1")),
        (
            ContentKind.IMAGE,
            Content(subject="Spring", body="Ten tulips", media_url="https://t.example/a.png"),
        ),
    ],
)
def test_every_message_is_one_that_the_description_takes(described, tmp_path, kind, content):
    keys = make_keys(tmp_path)
    wire = Fcm(keys["google"])
    settings = FcmSettings(service_account_file=str(tmp_path / "account.json"))
    message = example_message(
        channel="push", identity_kind=IdentityKind.DEVICE, recipient="d-1", content_kind=kind, content=content
    )
    asyncio.run(FcmAdapter(settings, ExampleLinks(), wire).send(message))
    (request,) = wire.taken
    method = described["resources"]["projects"]["resources"]["messages"]["methods"]["send"]
    assert request.method == method["httpMethod"]
    assert re.fullmatch(
        method["flatPath"].replace("{projectsId}", "[a-z0-9-]+"), request.url.path.lstrip("/")
    )
    assert f"{request.url.scheme}://{request.url.host}/" == described["rootUrl"]
    assert list(violations(json.loads(request.content), method["request"], described["schemas"])) == []


def test_the_description_refuses_what_it_should(described):
    schemas = described["schemas"]
    wrong = {
        "message": {"token": 7, "poem": "", "data": {"a": 1}, "android": {"ttl": "an hour", "priority": "x"}}
    }
    found = {each.split(":")[0] for each in violations(wrong, {"$ref": "SendMessageRequest"}, schemas)}
    assert found == {
        ".message.token",
        ".message.poem",
        ".message.data.a",
        ".message.android.ttl",
        ".message.android.priority",
    }
