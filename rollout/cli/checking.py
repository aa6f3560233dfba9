"""`rollout check try`: run the query of a policy's own check once, and see what it counts and what the check would say.

The rule: the daemon runs it, since it has the identity; the query is looked at here first, so that what may not stand in it
is told without anybody being asked.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout.cli.client import Client, find_daemon
from rollout.cli.options import Config, Format, Name, Output, Workspace, show
from rollout.cli.terminal import Look, fold, look_of, table
from rollout.cli.words import number
from rollout.errors import PolicyError

GOOD, MISTAKES = 0, 1
#: Seconds for the daemon's answer: each of ten queries may take half a minute.
PATIENCE = 330.0
MAX_STDIN = 1024 * 1024  # characters; that a query is too long is told by the rules for queries
INDENT = "  "

app = typer.Typer(help="Try the queries of a policy's own checks.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def check() -> None:
    """Try the queries of a policy's own checks."""


@app.command("try")
def try_out(
    what: Annotated[
        str | None,
        typer.Argument(metavar="QUERY", help="A file with a query, or - for stdin; with -f a check's name."),
    ] = None,
    *,
    policy: Annotated[
        Path | None, typer.Option("-f", "--file", help="A policy file: its checks are tried, or the one named.")
    ] = None,
    endpoint: Name = None,
    hours: Annotated[int, typer.Option("--hours", min=1, max=24, help="How far to look back.")] = 1,
    max_increase: Annotated[
        str | None, typer.Option("--max-increase", help="With a query: the increase allowed; else 1pp.")
    ] = None,
    workspace: Workspace = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Run a check's query once and show what it counts.

    Exits 1 where a query is no use.
    """
    asked = _of_policy(policy, what, config) if policy else _of_query(what, endpoint, max_increase or "1pp")
    given = {"endpoint": endpoint, "workspace": workspace, "hours": hours}
    asked |= {name: value for name, value in given.items() if value is not None}
    found = Client(find_daemon(config, os.environ), timeout=PATIENCE).post("/v1/checks/try", asked)
    show(found, [] if output is Output.JSON else lines(found, look_of(sys.stdout)), output)
    raise typer.Exit(MISTAKES if any(one["error"] for one in found["checks"]) else GOOD)


# --- what to try


def _of_query(what: str | None, endpoint: str | None, max_increase: str) -> dict[str, Any]:
    from rollout.policy.queries import check_query

    if what is None:
        raise PolicyError("Which query? Name its file, write - to read it from stdin, or name a policy with -f.")
    if not endpoint:
        raise PolicyError("Which endpoint? Name it with -n ENDPOINT.")
    try:
        query = check_query(_text(what))
    except ValueError as error:
        raise PolicyError(f"{what}: {error}.") from None
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(what).stem).strip("._-") if what != "-" else ""
    return {"endpoint": endpoint, "checks": [{"name": stem or "query", "kql": query, "max_increase": max_increase}]}


def _text(what: str) -> str:
    from rollout.cli.linting import text_of

    return sys.stdin.read(MAX_STDIN) if what == "-" else text_of(Path(what))


def _of_policy(file: Path, name: str | None, config: Path | None) -> dict[str, Any]:
    from rollout.beside import Beside
    from rollout.cli.linting import defaults_of, text_of
    from rollout.policy import first_of, parse_policy

    files = Beside(file.parent)
    found = first_of(parse_policy(text_of(file), file=str(file), defaults=defaults_of(config), files=files))
    known = ", ".join(check.name for check in found.checks.custom)
    if not known:
        raise PolicyError(f"{file} has no checks of its own: write them under `checks: custom:`.")
    wanted = [check for check in found.checks.custom if name in (None, check.name)]
    if not wanted:
        raise PolicyError(f"{file} has no check {name} of its own; it has {known}.")
    checks = [check.model_dump(mode="json", include={"name", "kql", "max_increase"}) for check in wanted]
    return {"endpoint": found.endpoint_name, "workspace": found.workspace, "checks": checks}


# --- what came of it


def lines(found: Mapping[str, Any], look: Look) -> Sequence[str]:
    """A trial for people."""
    start, end = (str(found[key])[11:16] for key in ("start", "end"))
    shown: list[str] = []
    for one in found["checks"]:
        shown += [""] if shown else []
        shown.append(look.paint(f"Check {one['name']} on {found['endpoint']}, {start} to {end} UTC", "bold"))
        shown += _of_check(one, look)
    return [look.characters(line) for line in shown]


def _of_check(one: Mapping[str, Any], look: Look) -> Sequence[str]:
    if one["error"]:
        mark = look.paint("✖", "bad")
        return [f"{mark} {line}" if not at else f"  {line}" for at, line in enumerate(_folded(one["error"], look))]
    told = [f"{INDENT}{line}" for line in _table(one["deployments"])]
    gone = [each["name"] for each in one["deployments"] if not each["known"]]
    if gone:
        told.append(f"{INDENT}* not a deployment of the endpoint (any more): its rows do not count")
    return [*told, *([""] if told else []), *(f"{INDENT}{line}" for line in _folded(one["sentence"], look))]


def _table(deployments: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    if not deployments:
        return []
    rows = [("deployment", "n", "bad", "rate", "first", "last")]
    for each in deployments:
        rate = "–" if each["rate"] is None else f"{each['rate'] * 100:.2f} %"
        name = each["name"] if each["known"] else f"{each['name']} *"
        rows.append(
            (name, number(each["n"]), number(each["bad"]), rate, str(each["first"])[11:16], str(each["last"])[11:16])
        )
    return table(rows, right=frozenset({1, 2, 3}))


def _folded(text: str, look: Look) -> Sequence[str]:
    return fold(text, look.width - len(INDENT))
