"""`nextchannel rehearse`: weeks of a campaign in minutes, with simulated customers, against a running service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nextchannel.commands.simulate import Preset

if TYPE_CHECKING:
    from datetime import datetime

    from training.rehearse import Rehearsed


def rehearse(
    url: Annotated[str, typer.Argument(help="Address of a service that NEXTCHANNEL_REHEARSE_FROM started.")],
    preset: Annotated[Preset, typer.Option(help="Which market.")] = Preset.RETAIL,
    customers: Annotated[int, typer.Option(min=100, help="Size of the market.")] = 2_000,
    days: Annotated[
        int, typer.Option(min=1, help="In which customers are decided for, each once a week.")
    ] = 28,
    policy: Annotated[str, typer.Option(help="Policy of the campaign.")] = "bandit",
    seed: Annotated[int, typer.Option(help="Same seed, same market.")] = 1,
    key: Annotated[
        str,
        typer.Option(
            envvar="NEXTCHANNEL_KEY", help="API key with every scope, where the service asks for one."
        ),
    ] = "",
    first: Annotated[
        str, typer.Option(help="Command to run before the first decision; {now} is where the clock stands.")
    ] = "",
    weekly: Annotated[str, typer.Option(help="The same before each week that follows.")] = "",
) -> None:
    """Play a simulated market against a service: register, decide, activate, report; all of it over HTTP."""
    from dataclasses import replace
    from datetime import UTC, datetime

    import httpx
    import numpy as np

    from models.domain.campaign import PolicyName
    from models.domain.errors import InvalidInputError
    from nextchannel.commands.progress import progress_bar
    from training.rehearse import RehearsedService
    from training.rehearse import rehearse as play
    from training.simulator.market import Market

    if policy not in [name.value for name in PolicyName]:
        raise InvalidInputError("--policy", policy, f"must be one of {', '.join(PolicyName)}")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if not url.startswith(("http://", "https://")):
        raise InvalidInputError("URL", url, "must be an address like http://127.0.0.1:8000")
    client = httpx.Client(base_url=url, headers=headers, timeout=600)
    with client, progress_bar("simulated days") as progress:
        done = play(
            RehearsedService(client),
            Market(preset.value, customers, seed),
            lambda campaign: replace(campaign, policy=PolicyName(policy)),
            days,
            datetime.now(UTC),
            np.random.default_rng([seed, 1]),
            each_week=lambda week, now: _run(weekly if week else first, now),
            progress=progress,
        )
    typer.echo("\n".join(_lines(done)))


def _run(command: str, now: datetime) -> None:
    """Run a command of the caller's; what it says goes to standard error, and where it fails the rehearsal goes on.

    Raises:
        InvalidInputError: there is no such command.
    """
    import shlex
    import subprocess
    import sys

    from models.domain.errors import InvalidInputError

    if not command:
        return
    words = [word.replace("{now}", now.isoformat()) for word in shlex.split(command)]
    try:
        ended = subprocess.run(words, stdout=sys.stderr, check=False)  # noqa: S603 - the caller's own words
    except OSError as exc:
        raise InvalidInputError("command", words[0], f"must be one that can be run ({exc.strerror})") from exc
    if ended.returncode:
        typer.echo(
            f"{now:%Y-%m-%d}: {command!r} ended with {ended.returncode}; the rehearsal goes on", err=True
        )


def _lines(done: Rehearsed) -> list[str]:
    """The table that is printed."""
    lines = [
        "Simulated. Expected net value in minor units, by week:",
        f"{'week':>4} {'decisions':>10} {'contacts':>9} {'claimed':>12} {'true':>12} {'oracle':>12} {'share':>6}",
    ]
    for number, week in enumerate(done.weeks, 1):
        share = f"{week.true / week.oracle:6.1%}" if week.oracle > 0 else "     -"
        lines.append(
            f"{number:>4} {week.n_decisions:>10,} {week.n_contacts:>9,} {week.claimed:>12,.0f} "
            f"{week.true:>12,.0f} {week.oracle:>12,.0f} {share}"
        )
        lines += [f"     {n:>10,} decisions were {reason}" for reason, n in week.degraded.most_common()]
        lines += [f"     {n:>10,} were refused: {title}" for title, n in week.refused.most_common()]
    lines.append(
        f"{done.n_facts:,} interactions reported; the clock stands at {done.ended_at.isoformat()}; "
        f"{done.share_of_oracle:.1%} of what full knowledge would earn."
    )
    return lines
