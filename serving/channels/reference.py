"""What the installed adapters can do, as the table of the reference; a test compares the two."""

from __future__ import annotations

from collections.abc import Mapping

from serving.channels.contract import Capabilities, ChannelAdapter, CostUnit, Idempotency

_HEAD = (
    "| adapter | content | reports (by itself or by tracked links) | same message twice | charged per | limits |\n"
    "|---|---|---|---|---|---|"
)
_IDEMPOTENCY = {Idempotency.KEYED: "sent once", Idempotency.NONE: "sent twice"}
_UNITS = {CostUnit.MESSAGE: "message", CostUnit.SEGMENT: "segment"}


def capability_table(adapters: Mapping[str, type[ChannelAdapter]]) -> str:
    """A row an adapter, in order of name, in Markdown."""
    return "\n".join((_HEAD, *(_row(name, adapters[name].capabilities) for name in sorted(adapters))))


def _row(name: str, can: Capabilities) -> str:
    limits = [f"{each.subject} {each.at_most:,} {each.unit} ([source]({each.source}))" for each in can.limits]
    cells = (
        f"`{name}`",
        ", ".join(sorted(can.content_kinds)),
        ", ".join(sorted(can.receipts)) or "nothing",
        _IDEMPOTENCY[can.idempotency],
        _UNITS[can.cost_unit],
        "; ".join(limits) or "none stated",
    )
    return f"| {' | '.join(cells)} |"
