"""Whether a campaign may be stored: one answer to whoever stores it, over HTTP or by a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from models.domain.campaign import Campaign
from models.domain.channel import Channel
from models.domain.checks import Finding, Severity, check_campaign
from models.domain.errors import InvalidInputError, InvalidInputsError
from serving.money import Currency
from serving.routes.fields import unstorable_in
from serving.templates import template_errors


def check_storable(
    campaign: Campaign,
    channels: Mapping[str, Channel],
    now: datetime,
    currency: Currency,
    *,
    prefix: str = "",
    broken: Iterable[InvalidInputError] = (),
) -> tuple[Finding, ...]:
    """Check a campaign as a whole, with its names and its templates.

    Args:
        campaign: To be stored.
        channels: Every configured channel, by name.
        now: Aware.
        currency: Tells minor from major units.
        prefix: Stands before the fields that an error names.
        broken: Bounds of single values that were found broken before, with their prefix.

    Returns:
        What works but may surprise.

    Raises:
        InvalidInputsError: names everything that is wrong.
    """
    unstorable = unstorable_in(campaign, prefix)
    if unstorable:  # nor can it be measured, or read as a template
        raise InvalidInputsError([*broken, *unstorable])
    found = check_campaign(campaign, channels, now, minor_per_major=currency.minor_per_major)
    wrong = [
        *broken,
        *(each.as_error(prefix) for each in found if each.severity is Severity.ERROR),
        *(
            InvalidInputError(f"{prefix}{one.field}", one.value, one.bound)
            for one in template_errors(campaign)
        ),
    ]
    if wrong:
        raise InvalidInputsError(wrong)
    return found
