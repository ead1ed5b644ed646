"""When a slot falls for one customer."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from models.domain.customer import zone


def moment_of(local: datetime) -> datetime:
    """The moment at which clocks in a zone show a time, aware UTC.

    A local time that a change to summer time skips is taken at the first moment after the gap; one that comes
    twice is taken the first time.

    Args:
        local: With a `ZoneInfo`; its `fold` is 0.

    Example:
        >>> moment_of(datetime(2026, 3, 29, 2, 30, tzinfo=zone("Europe/Berlin")))  # from 02:00 to 03:00
        datetime.datetime(2026, 3, 29, 1, 0, tzinfo=datetime.timezone.utc)
    """
    moment = local.astimezone(UTC)
    if moment.astimezone(local.tzinfo).time() == local.time():
        return moment
    return _end_of_gap(local)


def next_send_times(slots: tuple[time, ...], time_zone: str, now: datetime) -> tuple[datetime, ...]:
    """The next moment, at or after `now`, at which each local time of day comes round.

    See `moment_of` for local times that are skipped or come twice.

    Args:
        slots: Local times of day.
        time_zone: IANA name.
        now: Aware.

    Returns:
        One aware UTC moment a slot, in the order of `slots`.

    Example:
        >>> next_send_times((time(9),), "Asia/Taipei", datetime(2026, 3, 1, 2, tzinfo=UTC))
        (datetime.datetime(2026, 3, 2, 1, 0, tzinfo=datetime.timezone.utc),)
    """
    local_zone = zone(time_zone)
    today = now.astimezone(local_zone).date()
    moments = []
    for slot in slots:
        for days in (0, 1, 2):
            moment = moment_of(datetime.combine(today + timedelta(days=days), slot, tzinfo=local_zone))
            if moment >= now:
                moments.append(moment)
                break
    return tuple(moments)


def _end_of_gap(local: datetime) -> datetime:
    """The first moment after the gap that swallowed `local`: where the UTC offset changes."""
    before = local.replace(fold=0).utcoffset()
    after = local.replace(fold=1).utcoffset()
    assert before is not None
    assert after is not None
    # In a gap fold=0 carries the offset before it and fold=1 the offset after it (PEP 495).
    low = (local.replace(tzinfo=None) - max(before, after)).replace(tzinfo=UTC)
    high = (local.replace(tzinfo=None) - min(before, after)).replace(tzinfo=UTC)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(local.tzinfo).utcoffset() == after:
            high = middle
        else:
            low = middle
    return high.replace(microsecond=0)
