"""`rollout freeze`, `unfreeze` and `freezes`: nothing gets more traffic for now.

The rule: as for every command that changes something: the daemon writes it down with who, why and from where.
"""

import re
from typing import Annotated

import typer

from rollout.cli.options import (
    Config,
    Endpoint,
    Format,
    Name,
    Output,
    Reason,
    Workspace,
    daemon,
    say,
    seconds,
    show,
    who,
)
from rollout.errors import PolicyError

All = Annotated[bool, typer.Option("--all", help="Everything that this daemon moves.")]
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?(Z|[+-]\d{2}:\d{2})?")


def freeze(
    endpoint: Endpoint = None,
    name: Name = None,
    everything: All = False,
    workspace: Workspace = None,
    reason: Reason = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Over by itself: after 2h or 3d, or at 2027-01-05T08:00+01:00.")
    ] = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Let no share rise, of an endpoint or of --all. Needs --reason.

    Judging goes on, and a candidate that fails is still rolled back.
    """
    if not reason:
        raise PolicyError('A freeze is told to people: say why with --reason "…".')
    place = _place(endpoint, name, everything, verb="freeze")
    found = daemon(config).post(
        "/v1/freezes", {**place, "workspace": workspace, "reason": reason, **_ends(until), **who()}
    )
    _tell(found, [found["sentence"]], output)


def unfreeze(
    endpoint: Endpoint = None,
    name: Name = None,
    everything: All = False,
    workspace: Workspace = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Lift the freezes of an endpoint, or those of --all."""
    place = _place(endpoint, name, everything, verb="unfreeze")
    found = daemon(config).post("/v1/freezes/lift", {**place, "workspace": workspace, **who()})
    _tell(found, [f"Lifted: {one['sentence']}" for one in found["lifted"]], output)


def freezes(output: Format = Output.TABLE, config: Config = None) -> None:
    """Show what is frozen."""
    found = daemon(config).get("/v1/freezes")
    _tell(found, [one["sentence"] for one in found["freezes"]] or ["Nothing is frozen."], output)


def _tell(found: object, sentences: list[str], output: Output) -> None:
    if output is Output.JSON:
        show(found, (), output)
        return
    for sentence in sentences:
        say(sentence)


def _place(endpoint: str | None, name: str | None, everything: bool, *, verb: str) -> dict[str, object]:
    word = endpoint or name
    if bool(word) == everything or (endpoint and name and endpoint != name):
        raise PolicyError(f"Name one endpoint, or all: rollout {verb} ENDPOINT, or rollout {verb} --all.")
    return {"all": True} if everything else {"endpoint": word}


def _ends(until: str | None) -> dict[str, object]:
    """A moment, or a time from now on the daemon's clock."""
    if until is None:
        return {}
    if _MOMENT.fullmatch(until):
        day = until if len(until) > len("2027-01-05") else f"{until}T00:00"
        zoned = day.endswith("Z") or re.search(r"[+-]\d{2}:\d{2}$", day)
        if not zoned:
            raise PolicyError(f"--until {until} has no time zone: write {day}Z for UTC, or {day}+01:00.")
        return {"until": day.replace(" ", "T")}
    return {"lasts": seconds(until, option="--until")}
