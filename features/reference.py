"""The reference page of features, written from the list: `python -m features.reference > docs/reference/features.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from features.definitions import FEATURES, Feature
from features.feature_list import AttributeSpec, ChannelSpec, FeatureList

_PAGE = """# Features

One list defines what is known of a customer at a moment: for training frames, for the online store and for what a decision explains.
Every workspace has the {n} features of the first table, and those of the other tables for each of its channels and customer attributes.
This page is written from the list (`python -m features.reference`), and a test holds it against the list.

- A feature counts what happened strictly before the moment and, where it has a window, no longer ago than its days. Nothing looks back further than 730 days.
- Opens and clicks that a machine made never count.
- A rate or share is shrunk, so that it says little where little was seen: `(above + weight x prior) / (below + weight)`.
- Hours and weekends are those of the customer's own time zone.
- An attribute of the customer is the one that was known just before the moment; the first that was told counts as having been so always. The time zone is the present one.
- `place` (`online`, `web` or `app`; `shop` or `store`; `phone`) and `price` (`full` or `discounted`) are attributes of a purchase; a conversion that names
  only its decision counts for the channel of that decision; the content kind is that of the message that an open or click answers.
- The default is the value for a customer of whom nothing is known; none means missing.

{base}

## For each channel

Here for a channel `email` that reports opens and clicks; what a channel cannot report has no feature.

{channel}

## By human effort

Counted over the channels whose `touch` is `low` or `high`.

{touch}

## For each customer attribute

A number gets one feature; a text gets one for each of its twelve most frequent values. Here for `age` and a text `tier`.

{attribute}
"""


def reference_page() -> str:
    """The whole page."""
    email = ChannelSpec(name="email", opens=True, clicks=True)
    attributes = (AttributeSpec(name="age"), AttributeSpec(name="tier", values=("gold", "silver")))
    call = ChannelSpec(name="call", opens=False, clicks=False, touch="high")
    mail = ChannelSpec(name="direct_mail", opens=False, clicks=False, touch="low")
    touch = FeatureList(channels=(call, mail), attributes=()).features[len(FEATURES) :]
    only_email = FeatureList(channels=(email,), attributes=()).features
    with_attributes = FeatureList(channels=(email,), attributes=attributes).features
    return _PAGE.format(
        n=len(FEATURES),
        base=_table(FEATURES),
        channel=_table(only_email[len(FEATURES) + 2 :]),
        touch=_table(touch[:2]),
        attribute=_table(with_attributes[len(only_email) :]),
    )


def _table(features: Iterable[Feature]) -> str:
    rows = ["| feature | type | unit | default | why | formula |", "|---|---|---|---|---|---|"]
    for each in features:
        default = "none" if each.default is None else f"{each.default:.4g}"
        cells = (f"`{each.name}`", each.dtype, each.unit, default, each.why, f"{each.formula}")
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(reference_page())
