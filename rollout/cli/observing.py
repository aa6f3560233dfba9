"""`rollout observe`: judge a traffic shift that people make by hand.

The rule: it starts a rollout whose policy says `mode: observe`, and then only watches; nothing here asks for a write.
"""

import json
import sys
from typing import Annotated

import typer

from rollout.cli import render
from rollout.cli.acting import policy_body
from rollout.cli.client import rollout_path
from rollout.cli.options import (
    Config,
    Endpoint,
    Format,
    Name,
    Output,
    Timeout,
    Wait,
    Workspace,
    daemon,
    handle,
    show,
    who,
)
from rollout.cli.reading import follow
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError


def observe(
    endpoint: Endpoint = None,
    *,
    name: Name = None,
    workspace: Workspace = None,
    stable: Annotated[str | None, typer.Option("--stable", help="The deployment that serves today.")] = None,
    candidate: Annotated[str | None, typer.Option("--candidate", help="The deployment to judge against it.")] = None,
    policy: Annotated[
        str | None,
        typer.Option("-f", "--file", help="A policy file, or the name of a policy of the daemon; else defaults."),
    ] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", help="End so long after the candidate's first traffic: 8h, 3d; else 8h.")
    ] = None,
    no_watch: Annotated[bool, typer.Option("--no-watch", help="Start it and return.")] = False,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Judge what you shift by hand; never write.

    Says what a rollout would do. Needs no policy, and read rights only.
    Exit codes with --wait: 0 it would have promoted, 2 it would have rolled back,
    3 neither.
    """
    about = endpoint or name
    client = daemon(config)
    asked = {
        "policy": policy_body(policy)
        if policy
        else _defaults(handle(endpoint, name, verb="observe"), workspace, deadline),
        "endpoint": handle(endpoint, name, verb="observe") if about else None,
        "stable": stable,
        "candidate": candidate,
        "observe": True,
    }
    if policy and (workspace or deadline):
        raise PolicyError(
            "-w and --deadline go without a policy: a policy names its workspace and its deadline itself."
        )
    view = client.post("/v1/rollouts", {**asked, **who()})
    if no_watch:
        show(view, render.status(view, look_of(sys.stdout)), output)
        return
    path = rollout_path(str(view["endpoint"]))
    raise typer.Exit(follow(client, path, view["workspace"], quiet=False, wait=wait, timeout=timeout, output=output))


def _defaults(endpoint: str, workspace: str | None, deadline: str | None) -> dict[str, str]:
    """The policy of those who have none: everything by default."""
    written = {"endpoint_name": endpoint, "mode": "observe", "workspace": workspace, "deadline": deadline}
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in written.items() if value is not None]
    return {"text": "".join(lines), "file": "rollout observe"}
