"""Types of JSON documents that pydantic takes, or describes, more loosely than they are meant."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, FiniteFloat, Strict

Number = Annotated[FiniteFloat, Strict()]
"""A number: never text that reads like one, nor a truth value."""


def _whole(number: object) -> object:
    return int(number) if isinstance(number, float) and number.is_integer() else number


WHOLE = BeforeValidator(_whole)
"""For `Annotated[int, Strict(), ..., WHOLE]`, behind any bounds: a whole number as JSON has it, where 5.0 is one."""

Whole = Annotated[int, Strict(), WHOLE]
"""A whole number, where JSON's 5.0 is one: never text that reads like one, nor a truth value."""


class _KeysAlike:
    """Pydantic describes what stands under keys of the right form, and leaves every other key free."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        described: dict[str, Any] = handler(schema)
        (values,) = described.pop("patternProperties").values()
        return described | {
            "additionalProperties": values,
            "propertyNames": handler(schema["keys_schema"]),
        }


KEYS_ALIKE = _KeysAlike()
"""For `Annotated[dict[...], KEYS_ALIKE]`, where the keys have a pattern: no other key is taken."""
