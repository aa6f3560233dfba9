"""`rollout import`: another tool's canary as a policy.

The rule: the policy goes to stdout, what it does not say that the other file did to stderr (and into the policy, as
comments). It needs no daemon and no Azure.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rollout.cli.terminal import fold, look_of


class Tool(StrEnum):
    """Whose file it is."""

    ARGO = "argo"
    FLAGGER = "flagger"
    SAGEMAKER = "sagemaker"


def import_policy(
    file: Annotated[Path, typer.Argument(help="Its YAML or JSON file, or - for stdin.", show_default=False)],
    tool: Annotated[Tool, typer.Option("--from", help="Whose file it is.", show_default=False)],
    endpoint: Annotated[str | None, typer.Option("-n", "--endpoint", help="The Azure ML endpoint's name.")] = None,
) -> None:
    """Convert another tool's canary to a policy, on stdout."""
    from rollout.cli.linting import text_of
    from rollout.policy.importing import convert

    text, name = (sys.stdin.read(), "stdin") if str(file) == "-" else (text_of(file), str(file))
    found = convert(text, tool=tool.value, file=name, endpoint=endpoint)
    look = look_of(sys.stderr)
    lines = ["Not carried over, or not as it was:"] if found.notes else []
    for note in found.notes:
        lines += fold(f"- {note}", look.width, indent="  ")
    sys.stdout.write(found.text)
    sys.stdout.flush()
    sys.stderr.write("".join(look.characters(line) + "\n" for line in lines))
