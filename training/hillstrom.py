"""The MineThatData e-mail experiment (Kevin Hillstrom, 2008): men's mail, women's mail, or none.

64,000 customers of a retailer were drawn at random into three equal parts; visits, conversions and spend of the
following two weeks were counted.
Source: https://blog.minethatdata.com/2008/03/minethatdata-e-mail-analytics-and-data.html

Spend is revenue, which stands in for margin.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from models.domain.channel import DEFAULT_CHANNELS
from training.public_experiment import PublicExperiment, numbered
from training.public_file import PublicFile

SEGMENTS: Final = {"Mens E-Mail": "mens", "Womens E-Mail": "womens", "No E-Mail": None}
# What was known before the mailing; `channel` is where the customer bought before, `history` dollars in a year.
_ATTRIBUTES: Final = ("recency", "history", "mens", "womens", "newbie", "zip_code", "channel")


def _parse(content: bytes) -> pl.DataFrame:
    rows = numbered(pl.read_csv(content, infer_schema_length=None), "hillstrom")
    return rows.select(
        "customer_id",
        pl.col("customer_id").alias("unit"),
        pl.col("segment").replace_strict(SEGMENTS, return_dtype=pl.String).alias("offer"),
        pl.lit(1 / 3).alias("propensity"),
        pl.col("visit").alias("visited"),
        pl.col("conversion").alias("converted"),
        (100.0 * pl.col("spend")).alias("value_minor"),
        *_ATTRIBUTES,
    )


HILLSTROM: Final = PublicExperiment(
    name="hillstrom",
    title="The e-mail experiment of 2008 (real data, MineThatData)",
    file=PublicFile(
        # The address has no TLS: the checksum is what makes the download trustworthy.
        address=(
            "http://www.minethatdata.com/"
            "Kevin_Hillstrom_MineThatData_E-MailAnalytics_DataMiningChallenge_2008.03.20.csv"
        ),
        fetched=True,
        sha256="0e5893329d8b93cefecc571777672028290ab69865718020c78c7284f291aece",
        path=Path("hillstrom") / "hillstrom.csv.gz",
    ),
    parse=_parse,
    # It reports nothing, so nobody counts as "did not open".
    channel=replace(
        next(channel for channel in DEFAULT_CHANNELS if channel.name == "email"), receipts=frozenset()
    ),
    contact_point="{}@example.com",
    offers={"mens": "New for men", "womens": "New for women"},
    attributes=_ATTRIBUTES,
    ran_at=datetime(2008, 3, 1, 9, tzinfo=UTC),
    window=timedelta(days=14),
    unit_of_value="Cents of spend less cost a customer",
    minor_per_unit=100.0,
)
