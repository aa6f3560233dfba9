"""`rollout triggers`: what is watched, what was seen, what it did and why not.

The rule: that of `reading`: it shows what the daemon says and changes nothing.
"""

import sys
from collections.abc import Sequence
from datetime import datetime, tzinfo

from rollout.cli.options import Config, Endpoint, Format, Name, Output, Workspace, daemon, show
from rollout.cli.render import View
from rollout.cli.terminal import Look, fold, look_of
from rollout.cli.words import ago, ahead, clock_time, maybe, moment

_STYLES = {"started": "good", "waiting": "warn", "refused": "bad"}


def triggers(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Show what starts rollouts by itself, and what did not and why."""
    found = daemon(config).get("/v1/triggers", endpoint=endpoint or name, workspace=workspace)
    lines = shown(found["triggers"], look_of(sys.stdout), now=moment(found["now"]), of=endpoint or name)
    show(found, lines, output)


def shown(
    found: Sequence[View], look: Look, *, now: datetime, zone: tzinfo | None = None, of: str | None = None
) -> list[str]:
    """A block for each policy with a trigger, of all endpoints or of one; pure."""
    if not found:
        which = f"No policy of {of}" if of else "No policy"
        return [f"{which} has a trigger. `rollout start POLICY` starts a rollout."]
    blocks = [_block(one, look, now=now, zone=zone) for one in found]
    lines = [line for block in blocks for line in ("", *block)][1:]
    return [look.characters(line) for line in lines]


def _block(one: View, look: Look, *, now: datetime, zone: tzinfo | None) -> list[str]:
    head = f"{look.paint(str(one['policy']), 'bold')}  {one['endpoint']} in {one['workspace'] or '-'}"
    waits = " or ".join(one["waits_for"])
    lines = [head, *fold(f"waits for {waits}; when busy: {one['when_busy']}", look.width - 2)]
    lines += [_looks(one, now=now, zone=zone)]
    lines = [lines[0], *("  " + line for line in lines[1:])]
    if one["trouble"]:
        lines += ["  " + look.paint(line, "bad") for line in fold(str(one["trouble"]), look.width - 2)]
    for start in one["starts"]:
        lines += _start(start, look, now=now, zone=zone)
    return lines


def _looks(one: View, *, now: datetime, zone: tzinfo | None) -> str:
    since, looked, due = maybe(one["since"]), maybe(one["looked_at"]), maybe(one["next_due"])
    told = [f"since {clock_time(since, today=now, zone=zone)}" if since else "not looked for yet"]
    told += [f"last look {ago(looked, now=now)}"] if looked else []
    told += [f"next time {ahead(due, now=now, zone=zone)}"] if due else []
    return ", ".join(told)


def _start(start: View, look: Look, *, now: datetime, zone: tzinfo | None) -> list[str]:
    state = look.paint(str(start["state"]), _STYLES.get(str(start["state"]), "quiet"))
    at = clock_time(moment(start["at"]), today=now, zone=zone)
    why = f"rollout {start['rollout']}" if start["rollout"] else str(start["why"])
    line = f"  {at}  {start['what']}  {state}"
    return [line, *("    " + folded for folded in fold(why, look.width - 4) if why)]
