"""The voter mail of Michigan (Gerber, Green and Larimer, 2006): one of four letters before an election, or none.

344,084 registered voters; 5 of 9 households got no letter, 1 of 9 each of the four: do your civic duty, you are being
studied, your own household's record of voting, your neighbours' too. The outcome is whether the person voted.
Source: Gerber, Green and Larimer (2008), Social Pressure and Voter Turnout, American Political Science Review 102:33.

Letters were dealt to whole households within 10,000 neighbourhoods (`cluster`); the file tells the neighbourhood, not
the household. Neighbourhoods hold whole households, so what is kept together and what errors are clustered by is
the neighbourhood. A vote has no price, and no cost of a letter is published: values are votes, letters are free.
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

LETTERS: Final = {
    "No Postcard": None,
    "Civic Duty": "civic_duty",
    "Hawthorne": "hawthorne",
    "Self": "self",
    "Neighbors": "neighbors",
}
# Votes in earlier elections (everybody voted in the general election of 2004), and the size of the household.
_ATTRIBUTES: Final = (
    "sex", "age", "hh_size", "primary_00", "general_00", "primary_02", "general_02", "primary_04",
)  # fmt: skip
# Values are votes per 100 people.
_VALUE_OF_A_VOTE: Final = 100.0


def _parse(content: bytes) -> pl.DataFrame:
    rows = numbered(pl.read_csv(content, infer_schema_length=None), "michigan")
    letter = pl.col("treatment").replace_strict(LETTERS, return_dtype=pl.String)
    return rows.select(
        "customer_id",
        pl.col("cluster").cast(pl.String).alias("unit"),
        letter.alias("offer"),
        pl.when(letter.is_null()).then(5 / 9).otherwise(1 / 9).alias("propensity"),
        pl.lit(0).alias("visited"),
        pl.col("primary_06").alias("converted"),
        (_VALUE_OF_A_VOTE * pl.col("primary_06")).alias("value_minor"),
        *_ATTRIBUTES,
    )


MICHIGAN: Final = PublicExperiment(
    name="michigan",
    title="The voter mail of Michigan, 2006 (real data, Gerber, Green and Larimer)",
    file=PublicFile(
        # The page of the study; the extract with these columns is the data set `shaming` of the R package primer.data.
        address="https://isps.yale.edu/research/data/d001",
        fetched=False,
        sha256="54765894609d6c4e2c05aadb30b874292a36c82efed80d3fa84ec2dd3262662e",
        path=Path("michigan_mail") / "shaming.csv.gz",
    ),
    parse=_parse,
    channel=replace(
        next(channel for channel in DEFAULT_CHANNELS if channel.name == "direct_mail"), cost_minor=0.0
    ),
    contact_point="{}, Michigan",
    offers={
        "civic_duty": "Do your civic duty: vote",
        "hawthorne": "You are being studied",
        "self": "Who of your household votes is public",
        "neighbors": "What if your neighbours knew whether you voted?",
    },
    attributes=_ATTRIBUTES,
    ran_at=datetime(2006, 7, 28, 9, tzinfo=UTC),
    window=timedelta(days=14),
    unit_of_value="Votes per 100 people",
    minor_per_unit=1.0,
)
