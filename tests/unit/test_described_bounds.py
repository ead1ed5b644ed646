"""What the description of the API says is what is refused: neither more nor less."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any
from zoneinfo import available_timezones

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Strict, TypeAdapter, ValidationError

from features.json_types import KEYS_ALIKE, WHOLE, Number
from features.segments.language import OfAttribute
from models.domain.bounds import Distinct, NotEmpty, Within, check_bounds
from models.domain.customer import ZONE_FORM
from models.domain.errors import InvalidInputError
from serving.ingest import InteractionIn
from serving.routes.fields import Moment, Name
from serving.routes.schemas import DecisionIn
from serving.store.idempotency import IdempotencyKey
from tests.openapi_changes import COMMITTED

DESCRIBED = json.loads(COMMITTED.read_text())


def fits(schema: dict[str, Any], document: object) -> bool:
    return bool(Draft202012Validator(schema).is_valid(document))


@dataclass(frozen=True, kw_only=True)
class Bounded:
    share: Annotated[float, Within(0, 1)] = 0.5
    most: Annotated[int, Within(0)] | None = None
    name: Annotated[str, NotEmpty()] = "a"
    channels: Annotated[tuple[str, ...], NotEmpty("must name one"), Distinct()] = ("a",)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("share", -0.1, "must be in [0, 1]"),
        ("share", 1.1, "must be in [0, 1]"),
        ("most", -1, "must be >= 0"),
        ("name", "", "must not be empty"),
        ("channels", (), "must name one"),
        ("channels", ("a", "a"), "must not repeat"),
        *[("share", right, None) for right in (0, 1)],
        *[("most", right, None) for right in (None, 0)],
        ("channels", ("a", "b"), None),
    ],
)
def test_a_bound_is_described_as_it_is_checked(field: str, value: object, words: str | None) -> None:
    schema = TypeAdapter(Bounded).json_schema()
    document = {field: list(value) if isinstance(value, tuple) else value}
    assert fits(schema, document) == (words is None)
    noun = Bounded(**{field: value})  # type: ignore[arg-type]
    if words is None:
        check_bounds(noun)
        return
    with pytest.raises(InvalidInputError) as refused:
        check_bounds(noun, "it.")
    assert (refused.value.field, refused.value.value, refused.value.bound) == (f"it.{field}", value, words)


@pytest.mark.parametrize(
    ("noun", "field", "said"),
    [
        ("Campaign-Input", "canary_share", {"minimum": 0, "maximum": 1}),
        ("Campaign-Input", "attribution_window_seconds", {"minimum": 1, "maximum": 366 * 86_400}),
        ("Campaign-Input", "channels", {"minItems": 1, "uniqueItems": True}),
        ("Campaign-Input", "slots", {"minItems": 1}),
        ("Offer-Input", "content", {"minProperties": 1}),
        ("Experiment-Input", "holdout_share", {"minimum": 0, "maximum": 1}),
        ("SendWindow-Input", "ends_at", {"formatExclusiveMaximum": "2200-01-01T00:00:00+00:00"}),
        ("Channel-Input", "name", {"minLength": 1}),
    ],
)
def test_the_domains_bounds_are_in_the_description(noun: str, field: str, said: dict[str, object]) -> None:
    described = DESCRIBED["components"]["schemas"][noun]["properties"][field]
    assert described.items() >= said.items()


def test_who_and_what_is_asked_for_is_described_as_it_is_refused() -> None:
    given = {
        "customer_id": "c-1001",
        "identity": {"kind": "email", "value": "ada@example.com"},
        "campaign_id": "spring",
        "campaigns": ["spring", "members"],
    }
    schema = DecisionIn.model_json_schema()
    for states in itertools.product(("absent", "null", "given"), repeat=4):
        document = {
            name: None if state == "null" else given[name]
            for name, state in zip(given, states, strict=True)
            if state != "absent"
        }
        try:
            DecisionIn.model_validate(document).to_request()
            taken = True
        except InvalidInputError:
            taken = False
        assert fits(schema, document) == taken, document


@pytest.mark.parametrize("named", [{}, {"customer_id": None}, {"identity": None, "customer_id": None}])
def test_an_interaction_of_nobody_does_not_fit_its_description(named: dict[str, None]) -> None:
    schema = TypeAdapter(InteractionIn).json_schema()
    fact = {"source": "shop", "event_id": "1", "kind": "visited", "occurred_at": "2026-03-01T00:00:00Z"}
    assert not fits(schema, fact | named)
    assert fits(schema, fact | {"customer_id": "ada"})
    assert fits(schema, fact | {"identity": {"kind": "cookie", "value": "7f9c"}, "customer_id": "ada"})


@pytest.mark.parametrize("op", ["<", "!=", "in"])
@pytest.mark.parametrize("value", [1, "gold", [], ["gold", 2], None, True, {}])
def test_a_list_is_compared_by_in_alone_and_described_so(op: str, value: object) -> None:
    document = {"attribute": "tier", "op": op, "value": value}
    try:
        OfAttribute.model_validate(document)
        taken = True
    except ValidationError:
        taken = False
    assert fits(OfAttribute.model_json_schema(), document) == taken


@pytest.mark.parametrize("key", ["", " ", "a ", " a", "a b", "~", "a\tb", "é", "k" * 255, "k" * 256, "a\n"])
def test_an_idempotency_key_is_described_as_it_is_checked(key: str) -> None:
    operation = DESCRIBED["paths"]["/v1/decisions"]["post"]
    (header,) = [one for one in operation["parameters"] if one["name"] == "Idempotency-Key"]
    try:
        IdempotencyKey.of(key, "")
        taken = True
    except InvalidInputError:
        taken = False
    # Python's `$` also stands before a last line break, which no header holds.
    assert fits(header["schema"], key.removesuffix("\n")) == taken or key == "a\n"


def test_every_post_that_takes_a_key_describes_it_once() -> None:
    for path, operations in DESCRIBED["paths"].items():
        named = [one["name"].lower() for one in operations.get("post", {}).get("parameters", [])]
        wanted = "post" in operations and path.startswith("/v1/") and path != "/v1/decisions/simulate"
        assert named.count("idempotency-key") == int(wanted), path


def test_the_name_of_every_time_zone_has_the_form_that_is_described() -> None:
    assert [name for name in sorted(available_timezones()) if not re.fullmatch(ZONE_FORM, name)] == []


def test_a_moment_is_described_with_its_bounds() -> None:
    assert TypeAdapter(Moment).json_schema() == {
        "type": "string",
        "format": "date-time",
        "formatMinimum": "1970-01-01T00:00:00+00:00",
        "formatExclusiveMaximum": "2200-01-01T00:00:00+00:00",
    }


class Numbers(BaseModel):
    number: Number = 0.0
    whole: Annotated[int, Strict(), WHOLE] = 0


@pytest.mark.parametrize("value", ["5", "0" * 600, True, None, [], float("inf"), float("nan")])
def test_what_reads_like_a_number_is_none(value: object) -> None:
    for field in ("number", "whole"):
        with pytest.raises(ValidationError):
            Numbers.model_validate({field: value})


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert Numbers.model_validate({"whole": 5.0, "number": 5}) == Numbers(whole=5, number=5.0)
    with pytest.raises(ValidationError):
        Numbers.model_validate({"whole": 5.5})


def test_keys_are_described_by_their_type() -> None:
    of = TypeAdapter(Annotated[dict[Name, int], KEYS_ALIKE])
    schema = of.json_schema()
    for key in ("a", "", "a\tb", "x" * 128, "x" * 129):
        try:
            of.validate_python({key: 1})
            taken = True
        except ValidationError:
            taken = False
        assert fits(schema, {key: 1}) == taken, key
