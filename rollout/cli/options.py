"""The options that commands share, and what they all do: find the daemon, name an endpoint, print.

The rule: the endpoint's name is the handle of every verb, as a word or with `-n`; every read knows `-o json`.
"""

import getpass
import json
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout.cli.client import Client, find_daemon
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError

#: How a wait ends (also the end of `--wait`).
PROMOTED, ROLLED_BACK, NEEDS_PERSON, TIMED_OUT, FAILED = 0, 2, 3, 4, 5


class Output(StrEnum):
    """How to print what was read."""

    TABLE = "table"
    JSON = "json"


Endpoint = Annotated[str | None, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.", show_default=False)]
Name = Annotated[str | None, typer.Option("-n", "--endpoint", help="The endpoint's name, as an option.")]
Workspace = Annotated[
    str | None, typer.Option("-w", "--workspace", help="The workspace, where two have an endpoint of this name.")
]
Config = Annotated[
    Path | None, typer.Option("--config", help="The daemon's settings; else ROLLOUT_CONFIG or ./rollout.yaml.")
]
Format = Annotated[Output, typer.Option("-o", "--output", help="A table for people, or JSON.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why: it is kept in the history.")]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Wait for the end: 0 promoted, 2 rolled back, 3 needs a person, 4 timed out, 5 error."),
]
Timeout = Annotated[str | None, typer.Option("--timeout", help="Give up waiting after this time: 90s, 30m, 8h.")]


def daemon(config: Path | None) -> Client:
    """The daemon that the options and the environment name."""
    return Client(find_daemon(config, os.environ))


def handle(word: str | None, option: str | None, *, verb: str) -> str:
    """The endpoint that the command is about."""
    if word and option and word != option:
        raise PolicyError(f"Two endpoints are named, {word} and {option}: name one.")
    name = word or option
    if not name:
        raise PolicyError(f"Which endpoint? Name it: rollout {verb} ENDPOINT. `rollout list` shows what there is.")
    return name


def who() -> dict[str, str]:
    """Who asks and from where: the user of the operating system, or ROLLOUT_USER."""
    try:
        user = os.environ.get("ROLLOUT_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return {"by": user, "origin": f"cli@{socket.gethostname()}"}


def show(found: object, lines: Sequence[str], output: Output) -> None:
    """Print what was read, as asked."""
    if output is Output.JSON:
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))


def say(sentence: str) -> None:
    """Print a sentence in characters that the terminal has."""
    sys.stdout.write(look_of(sys.stdout).characters(sentence) + "\n")
    sys.stdout.flush()


_UNITS: Mapping[str, int] = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def seconds(text: str | None, *, option: str = "--timeout") -> float | None:
    """`90s`, `30m`, `1h30m`, `2d` or plain seconds."""
    if text is None:
        return None
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise PolicyError(f"{option} {text} is not a time: write 90s, 30m, 1h30m or 8h.")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def outcome_code(view: Mapping[str, Any]) -> int | None:
    """The exit code that this outcome has; None while there is none."""
    codes = {"promoted": PROMOTED, "rolled_back": ROLLED_BACK, "needs_person": NEEDS_PERSON, "not_started": FAILED}
    codes |= {"undone": PROMOTED}
    codes |= {"would_have_promoted": PROMOTED, "would_have_rolled_back": ROLLED_BACK, "undecided": NEEDS_PERSON}
    codes |= {"stopped": ROLLED_BACK}  # of a release
    return codes.get(str(view["outcome"])) if view["outcome"] else None
