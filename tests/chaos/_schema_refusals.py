"""What a description cannot say: the operations that may refuse a request that fits it, and why.

Whatever a schema can say stands in the schema. These rows are for what depends on what is stored, on two fields
together, or on a table that changes; of these operations the check `positive_data_acceptance` takes 422 as well.
"""

from __future__ import annotations

from pathlib import Path

from schemathesis.config import PositiveDataAcceptanceConfig

_REFUSED = "422"
_CURSOR = "a cursor is opaque: one that is made up names no page"
_CAMPAIGN = "its channels must be stored, its window must not have closed, and some fields bound others"
_COST = "a cost that reads like one in major units, beside the stored one, must be confirmed"

REFUSALS = {
    "GET /v1/campaigns": _CURSOR,
    "GET /v1/campaigns/{campaign_id}/offers/{offer_id}/answers": _CURSOR,
    "GET /v1/campaigns/{campaign_id}/versions": _CURSOR,
    "GET /v1/channels": _CURSOR,
    "GET /v1/chats": _CURSOR,
    "GET /v1/customers/{customer_id}/history": _CURSOR,
    "GET /v1/decisions": f"{_CURSOR}; `since` must be before `until`",
    "GET /v1/models": _CURSOR,
    "GET /v1/occasions": _CURSOR,
    "GET /v1/plans": _CURSOR,
    "GET /v1/redemptions/{code}": "latitude and longitude go together",
    "PATCH /v1/channels/{name}": _COST,
    "POST /v1/campaigns": _CAMPAIGN,
    "POST /v1/campaigns/{campaign_id}/offers/{offer_id}/codes": "codes that are drawn as bars are shorter",
    "POST /v1/customers": "its channels must be stored; which time zones and phone numbers there are, tables tell",
    "POST /v1/customers/{customer_id}/consents": "its channels must be stored",
    "POST /v1/decisions/simulate": "its overrides must be of channels that are stored and campaigns that it asks for",
    "POST /v1/identities:link": "which time zones and phone numbers there are, tables tell",
    "POST /v1/interactions": "a contact point that is no cookie must be a customer's; so must `customer_id` beside it",
    "POST /v1/redemptions": "`occurred_at` must not be in the future, and answers are those of the survey",
    "PUT /v1/campaigns/{campaign_id}/offers/{offer_id}/incentive": "exactly one of four, and some fields bound others",
    "PUT /v1/campaigns/{campaign_id}": f"the id must be that of the path; {_CAMPAIGN}",
    "PUT /v1/channels/{name}/answers": "its words must differ and its texts fit the channel; number and depth are bounded",
    "PUT /v1/channels/{name}": f"the name must be that of the path; {_COST}",
    "PUT /v1/occasions/{name}": "exactly one of date, after and referral; its time of day has no time zone, its first fact is of some kinds",
    "PUT /v1/segments/{name}": "its features must be known, and depth and number of its parts are bounded",
}
"""Why, by operation."""


def write_configuration(folder: Path) -> Path:
    """Schemathesis' configuration with the rows above; its file."""
    statuses = [*PositiveDataAcceptanceConfig().expected_statuses, _REFUSED]
    file = folder / "schemathesis.toml"
    file.write_text(
        "".join(
            f"# {why}\n[[operations]]\ninclude-name = {name!r}\n"
            f"checks.positive_data_acceptance.expected-statuses = {statuses}\n\n"
            for name, why in REFUSALS.items()
        )
    )
    return file
