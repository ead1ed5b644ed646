"""Field types that several requests share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, StringConstraints

from features.history.documents import to_document
from models.domain.campaign import Campaign
from models.domain.channel import Channel

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2200, 1, 1, tzinfo=UTC)


def _in_range(moment: datetime) -> datetime:
    # Compared before it is converted: near the years 1 and 9999 a conversion to UTC overflows.
    if not _FIRST <= moment < _LAST:
        raise ValueError("must be from 1970 up to and without 2200")
    return moment.astimezone(UTC)


Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
ShortName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
Moment = Annotated[AwareDatetime, AfterValidator(_in_range)]

NO_NUL = "must not hold the character NUL: no database stores it"


def nul_in(noun: Campaign | Channel) -> list[str]:
    """The texts of a campaign or channel that hold the character NUL, shortened."""
    found: list[str] = []

    def look(part: object) -> None:
        if isinstance(part, str) and "\0" in part:
            found.append(part[:40])
        elif isinstance(part, dict):
            for name, inner in part.items():
                look(name)
                look(inner)
        elif isinstance(part, list):
            for inner in part:
                look(inner)

    look(to_document(noun))
    return found
