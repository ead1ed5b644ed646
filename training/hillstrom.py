"""The MineThatData e-mail experiment (Kevin Hillstrom, 2008) as a history of nextchannel.

64,000 customers of a retailer were drawn at random into three equal parts: an e-mail about men's goods, one about
women's goods, or none; visits, conversions and spend of the following two weeks were counted.
Source: https://blog.minethatdata.com/2008/03/minethatdata-e-mail-analytics-and-data.html

What the file does not say is not made up beyond what a history needs: its moments are nominal (the experiment has
no dates), nobody's opens or clicks are known (so its e-mail channel reports neither), and spend is revenue, which
stands in for margin.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from features.history.append import CustomerRecord
from models.domain.action import Action
from models.domain.campaign import Campaign, Caps, Content, Mode, Offer, PolicyName, QuietHours, SendWindow
from models.domain.channel import DEFAULT_CHANNELS, Channel, ContentKind, IdentityKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.decision import Decision, Expected
from models.domain.errors import NotFoundError, require
from models.domain.experiment import Arm, Experiment, uniform
from models.domain.interaction import Interaction, InteractionKind
from training.import_rows import CustomerRow

ADDRESS: Final = (
    "http://www.minethatdata.com/"
    "Kevin_Hillstrom_MineThatData_E-MailAnalytics_DataMiningChallenge_2008.03.20.csv"
)
# Of the uncompressed file. The address has no TLS: this is what makes the download trustworthy.
SHA256: Final = "0e5893329d8b93cefecc571777672028290ab69865718020c78c7284f291aece"
SOURCE: Final = "hillstrom"
FILE: Final = Path("hillstrom") / "hillstrom.csv.gz"

MAILED_AT: Final = datetime(2008, 3, 1, 9, tzinfo=UTC)  # nominal
WINDOW: Final = timedelta(days=14)
PROPENSITY: Final = 1 / 3
# What was known before the mailing; `channel` is where the customer bought before, `history` dollars in a year.
ATTRIBUTES: Final = ("recency", "history", "mens", "womens", "newbie", "zip_code", "channel")
_LINK: Final = "https://example.com/new"
OFFERS: Final = {"Mens E-Mail": "mens", "Womens E-Mail": "womens"}


def load(path: Path | None, data_dir: Path, address: str = ADDRESS) -> pl.DataFrame:
    """The file: `path`, else its copy in `data_dir`, else downloaded into `data_dir`.

    Args:
        path: A local copy, `.csv` or `.csv.gz`; None looks in `data_dir`.
        data_dir: Folder of public data sets; the file is `hillstrom/hillstrom.csv.gz` in it.
        address: Where to download from.

    Returns:
        One row a customer in the order of the file, with a column `customer_id` in front.

    Raises:
        InvalidInputError: the file is not the published one.
    """
    copy = path or data_dir / FILE
    if path is None and not copy.exists():
        content = _download(address)
        _verify(content, address)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(gzip.compress(content))
    else:
        raw = copy.read_bytes()
        content = gzip.decompress(raw) if copy.suffix == ".gz" else raw
        _verify(content, str(copy))
    number = pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(5)
    return pl.read_csv(content, infer_schema_length=None).select(
        (pl.lit("hillstrom-") + number).alias("customer_id"), pl.all()
    )


def email_channel() -> Channel:
    """E-mail as this experiment knows it: it reports nothing, so nobody counts as "did not open"."""
    email = next(channel for channel in DEFAULT_CHANNELS if channel.name == "email")
    return replace(email, receipts=frozenset())


def campaign(campaign_id: str, margin_minor: float, mailed_at: datetime = MAILED_AT) -> Campaign:
    """Men's or women's mail, or nobody.

    Args:
        campaign_id: Unique name.
        margin_minor: Mean spend of those who bought, minor units (`mean_order_minor`): the file tells no margin.
        mailed_at: When the experiment was mailed; the send window runs from then for a year.
    """
    words = {"mens": "New for men", "womens": "New for women"}
    return Campaign(
        campaign_id=campaign_id,
        send_window=SendWindow(starts_at=mailed_at, ends_at=mailed_at + timedelta(days=365)),
        slots=(mailed_at.astimezone(UTC).time(),),
        offers=tuple(
            Offer(
                offer_id=offer,
                margin_minor=margin_minor,
                content={
                    ContentKind.TEXT: Content(
                        subject=words[offer], body=f"{words[offer]}: see what has come in.", link_url=_LINK
                    )
                },
            )
            for offer in OFFERS.values()
        ),
        channels=("email",),
        experiment=Experiment(experiment_id=campaign_id),
        conversion_value_minor=margin_minor,
        policy=PolicyName.GREEDY,
        control_policy=PolicyName.UNIFORM,
        quiet_hours=QuietHours(start=time(0), end=time(0)),
        caps=Caps(contacts=None),
        attribution_window_seconds=int(WINDOW.total_seconds()),
    )


def mean_order_minor(rows: pl.DataFrame) -> float:
    """Mean spend of the customers who bought, minor units."""
    mean = rows.filter(pl.col("conversion") == 1)["spend"].mean()
    require(isinstance(mean, float), "rows", len(rows), "must hold at least one conversion")
    assert isinstance(mean, float)
    return 100 * mean


def customers(rows: pl.DataFrame, mailed_at: datetime = MAILED_AT) -> Iterator[CustomerRow]:
    """Everybody, with what was known of them before the mailing.

    All of them were on the retailer's mailing list: each has an address, in the domain reserved for examples, and
    has agreed to e-mail.
    """
    created_at = mailed_at - timedelta(days=1)
    for row in rows.iter_rows(named=True):
        customer_id = row["customer_id"]
        yield CustomerRow(
            customer=CustomerRecord(
                customer_id=customer_id,
                time_zone="UTC",
                created_at=created_at,
                attributes={name: row[name] for name in ATTRIBUTES},
            ),
            identities=(
                Identity(
                    customer_id=customer_id,
                    kind=IdentityKind.EMAIL,
                    value=f"{customer_id}@example.com",
                    linked_at=created_at,
                    source=SOURCE,
                ),
            ),
            consents=(
                Consent(
                    customer_id=customer_id,
                    channel="email",
                    purpose="marketing",
                    status=ConsentStatus.GRANTED,
                    since=created_at,
                    source=SOURCE,
                ),
            ),
        )


def decisions(rows: pl.DataFrame, campaign: Campaign, mailed_at: datetime = MAILED_AT) -> Iterator[Decision]:
    """The draws of the experiment, each with its propensity of 1/3."""
    cost = email_channel().cost_minor or 0.0
    for row in rows.iter_rows(named=True):
        offer = OFFERS.get(row["segment"])
        yield Decision(
            decision_id=_decision_id(row["customer_id"]),
            customer_id=row["customer_id"],
            campaign_id=campaign.campaign_id,
            campaign_version=campaign.version,
            decided_at=mailed_at,
            action=None
            if offer is None
            else Action(
                offer=offer,
                channel="email",
                slot=0,
                send_at=mailed_at,
                expires_at=mailed_at + timedelta(seconds=campaign.message_ttl_seconds),
            ),
            propensity=PROPENSITY,
            expected=Expected(
                p_open=None,
                p_convert=None,
                p_convert_no_contact=None,
                uplift=None,
                cost_minor=0.0 if offer is None else cost,
                net_value_minor=None,
            ),
            alternatives=(),
            exclusions=(),
            arm=Arm.TREATMENT,
            mode=Mode.LIVE,
            policy=PolicyName.UNIFORM.value,
            policy_version="",
            degraded=(),
            explanation="Drawn at random in the experiment of 2008.",
        )


def interactions(
    rows: pl.DataFrame, campaign: Campaign, mailed_at: datetime = MAILED_AT
) -> Iterator[Interaction]:
    """The visits, and the purchases with what was spent, a week after the mailing (nominal)."""
    kinds = {"visit": InteractionKind.VISITED, "conversion": InteractionKind.CONVERTED}
    for row in rows.iter_rows(named=True):
        for column, kind in kinds.items():
            if row[column]:
                yield Interaction(
                    source=SOURCE,
                    event_id=f"{row['customer_id']}-{column}",
                    customer_id=row["customer_id"],
                    kind=kind,
                    occurred_at=mailed_at + WINDOW / 2,
                    campaign_id=campaign.campaign_id,
                    decision_id=_decision_id(row["customer_id"]),
                    value_minor=100 * row["spend"] if kind is InteractionKind.CONVERTED else None,
                )


def in_half(customer_id: str, seed: int) -> bool:
    """Whether the customer is in the half that is learned from."""
    return uniform("hillstrom half", str(seed), customer_id) < 0.5


def _decision_id(customer_id: str) -> str:
    return f"{customer_id}-2008"


def _download(address: str) -> bytes:
    import httpx

    try:
        return httpx.get(address, follow_redirects=True, timeout=60).raise_for_status().content
    except httpx.HTTPError as exc:
        raise NotFoundError("address", f"{address} ({exc})") from exc


def _verify(content: bytes, origin: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    require(found == SHA256, "file", origin, f"must have the SHA-256 {SHA256}, has {found}")
