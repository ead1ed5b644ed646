"""A published randomised experiment, and how it becomes a history of nextchannel.

Whatever the file is like, it is read into one frame with a row a customer:

- `customer_id`: made up from the number of the row; the files name nobody
- `unit`: what stays together when the customers are cut into halves, and within which errors may be correlated
- `offer`: the message that the draw gave, null for nobody; `propensity`: with which probability
- `visited`, `converted`: outcomes, 1 or 0; `value_minor`: what a conversion was worth
- one column for each attribute that was known beforehand

What a file does not say is not made up beyond what a history needs: moments are nominal, and no opens or clicks
are known, so the channel reports neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import polars as pl

from features.history.append import CustomerRecord
from features.history.register import Registration
from models.domain.action import Action
from models.domain.campaign import Campaign, Caps, Content, Mode, Offer, PolicyName, QuietHours, SendWindow
from models.domain.channel import Channel, ContentKind
from models.domain.customer import Consent, ConsentStatus, Identity
from models.domain.decision import Decision, Expected
from models.domain.errors import require
from models.domain.experiment import Arm, Experiment, uniform
from models.domain.interaction import Interaction, InteractionKind
from training.public_file import PublicFile

_LINK = "https://example.com/new"
_OUTCOMES = {
    "visited": ("visit", InteractionKind.VISITED),
    "converted": ("conversion", InteractionKind.CONVERTED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicExperiment:
    """What is particular to one experiment.

    Attributes:
        name: Source of its facts, and name of its campaign.
        title: Heading of its report.
        file: Where the data are.
        parse: From the content of the file to the frame that this module describes.
        channel: On which its messages went.
        contact_point: Pattern of the made-up contact point of a customer.
        offers: What each message said, by id.
        attributes: Columns that were known beforehand.
        ran_at: When the messages went out; nominal.
        window: How long outcomes were counted.
        unit_of_value: What the values of the report are, in words.
        minor_per_unit: What to divide values by for the verdict.
    """

    name: str
    title: str
    file: PublicFile
    parse: Callable[[bytes], pl.DataFrame]
    channel: Channel
    contact_point: str
    offers: Mapping[str, str]
    attributes: tuple[str, ...]
    ran_at: datetime
    window: timedelta
    unit_of_value: str
    minor_per_unit: float

    def load(self, copy: Path | None, data_dir: Path) -> pl.DataFrame:
        """The frame, from a local copy or as `PublicFile.read` finds the file.

        Raises:
            NotFoundError: there is no copy, and none can be downloaded.
            InvalidInputError: the file is not the published one.
        """
        return self.parse(self.file.read(copy, data_dir))

    def in_half(self, unit: str, seed: int) -> bool:
        """Whether the unit is in the half that is learned from."""
        return uniform(f"{self.name} half", str(seed), unit) < 0.5

    def campaign(self, campaign_id: str, margin_minor: float, ran_at: datetime) -> Campaign:
        """One of the messages, or nobody.

        Args:
            campaign_id: Unique name.
            margin_minor: What a conversion is worth, minor units: see `mean_value_minor`.
            ran_at: When the experiment ran; the send window runs from then for a year.
        """
        return Campaign(
            campaign_id=campaign_id,
            send_window=SendWindow(starts_at=ran_at, ends_at=ran_at + timedelta(days=365)),
            slots=(ran_at.astimezone(UTC).time(),),
            offers=tuple(
                Offer(
                    offer_id=offer,
                    margin_minor=margin_minor,
                    content={ContentKind.TEXT: Content(subject=words, body=words, link_url=_LINK)},
                )
                for offer, words in self.offers.items()
            ),
            channels=(self.channel.name,),
            experiment=Experiment(experiment_id=campaign_id),
            conversion_value_minor=margin_minor,
            policy=PolicyName.GREEDY,
            control_policy=PolicyName.UNIFORM,
            quiet_hours=QuietHours(start=time(0), end=time(0)),
            caps=Caps(contacts=None),
            attribution_window_seconds=int(self.window.total_seconds()),
        )

    def customers(self, rows: pl.DataFrame, ran_at: datetime) -> Iterator[Registration]:
        """Everybody, with what was known beforehand; all could be reached, and were allowed to be."""
        created_at = ran_at - timedelta(days=1)
        for row in rows.iter_rows(named=True):
            customer_id = row["customer_id"]
            yield Registration(
                customer=CustomerRecord(
                    customer_id=customer_id,
                    time_zone="UTC",
                    created_at=created_at,
                    attributes={name: row[name] for name in self.attributes},
                ),
                identities=(
                    Identity(
                        customer_id=customer_id,
                        kind=self.channel.identity_kind,
                        value=self.contact_point.format(customer_id),
                        linked_at=created_at,
                        source=self.name,
                    ),
                ),
                consents=(
                    Consent(
                        customer_id=customer_id,
                        channel=self.channel.name,
                        purpose="marketing",
                        status=ConsentStatus.GRANTED,
                        since=created_at,
                        source=self.name,
                    ),
                ),
            )

    def decisions(self, rows: pl.DataFrame, campaign: Campaign, ran_at: datetime) -> Iterator[Decision]:
        """The draws of the experiment, each with its propensity."""
        cost = self.channel.cost_minor or 0.0
        for row in rows.iter_rows(named=True):
            offer = row["offer"]
            yield Decision(
                decision_id=self._decision_id(row["customer_id"]),
                customer_id=row["customer_id"],
                campaign_id=campaign.campaign_id,
                campaign_version=campaign.version,
                decided_at=ran_at,
                action=None
                if offer is None
                else Action(
                    offer=offer,
                    channel=self.channel.name,
                    slot=0,
                    send_at=ran_at,
                    expires_at=ran_at + timedelta(seconds=campaign.message_ttl_seconds),
                ),
                propensity=row["propensity"],
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
                explanation=f"Drawn at random in the experiment of {self.ran_at.year}.",
            )

    def interactions(self, rows: pl.DataFrame, campaign: Campaign, ran_at: datetime) -> Iterator[Interaction]:
        """The outcomes, in the middle of the window (nominal)."""
        for row in rows.iter_rows(named=True):
            for column, (word, kind) in _OUTCOMES.items():
                if row[column]:
                    yield Interaction(
                        source=self.name,
                        event_id=f"{row['customer_id']}-{word}",
                        customer_id=row["customer_id"],
                        kind=kind,
                        occurred_at=ran_at + self.window / 2,
                        campaign_id=campaign.campaign_id,
                        decision_id=self._decision_id(row["customer_id"]),
                        value_minor=row["value_minor"] if kind is InteractionKind.CONVERTED else None,
                    )

    def _decision_id(self, customer_id: str) -> str:
        return f"{customer_id}-{self.ran_at.year}"


def numbered(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows with a `customer_id` in front, made of the name and the number of the row."""
    digits = len(str(len(rows)))
    number = pl.int_range(1, pl.len() + 1).cast(pl.String).str.zfill(digits)
    return rows.select((pl.lit(f"{name}-") + number).alias("customer_id"), pl.all())


def mean_value_minor(rows: pl.DataFrame) -> float:
    """Mean value of a conversion, minor units: what stands in for a margin, which no file tells."""
    mean = rows.filter(pl.col("converted") == 1)["value_minor"].mean()
    require(isinstance(mean, float), "rows", len(rows), "must hold at least one conversion")
    assert isinstance(mean, float)
    return mean
