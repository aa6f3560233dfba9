"""The commands that read: list, get, status, watch, history, alerts, policies.

The rule: they show what the daemon says and change nothing.
"""

import sys
import threading
from typing import Annotated, Any

import typer

from rollout.cli import render
from rollout.cli.client import Client, rollout_path
from rollout.cli.options import (
    TIMED_OUT,
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
    outcome_code,
    seconds,
    show,
)
from rollout.cli.terminal import Screen, look_of
from rollout.cli.words import moment
from rollout.errors import UnavailableError

REFRESH = 1.0  # seconds between two looks while watching
PATIENCE = 30  # looks in a row that may find no daemon (it may be restarting)
LAST_EVENTS = 5


def list_rollouts(
    workspace: Workspace = None,
    active: Annotated[bool, typer.Option("--active", help="Only rollouts that have not ended.")] = False,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """List rollouts, newest first."""
    found = daemon(config).get("/v1/rollouts", workspace=workspace, active=True if active else None)
    show(found, render.overview(found["rollouts"], look_of(sys.stdout)), output)


def get(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Show an endpoint's rollout once; like status."""
    status(endpoint, name, workspace, watch=False, wait=False, timeout=None, output=output, config=config)


def status(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until it ends.")] = False,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Show where an endpoint's rollout stands and why."""
    client = daemon(config)
    path = rollout_path(handle(endpoint, name, verb="status"))
    if watch or wait:
        raise typer.Exit(follow(client, path, workspace, quiet=not watch, wait=wait, timeout=timeout, output=output))
    view, events = _look(client, path, workspace)
    show(view, render.status(view, look_of(sys.stdout), history=events), output)


def watch(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    wait: Wait = False,
    timeout: Timeout = None,
    config: Config = None,
) -> None:
    """Keep showing an endpoint's rollout until it ends."""
    status(endpoint, name, workspace, watch=True, wait=wait, timeout=timeout, output=Output.TABLE, config=config)


def history(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Tell what happened to an endpoint's rollout, oldest first."""
    path = rollout_path(handle(endpoint, name, verb="history"), "history")
    found = daemon(config).get(path, workspace=workspace)
    look, now = look_of(sys.stdout), moment(found["now"])
    lines = [line for event in found["events"] for line in render.event_lines(event, look, now=now)]
    show(found, [look.characters(line) for line in lines], output)


def alerts(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    state: Annotated[str | None, typer.Option("--state", help="Only: waiting, delivered or dead.")] = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Show what became of the alerts, newest first.

    delivered, waiting, or dead (given up after a day, or refused).
    """
    found = daemon(config).get("/v1/deliveries", endpoint=endpoint or name, workspace=workspace, state=state)
    now = moment(found["now"])
    show(found, render.deliveries(found["deliveries"], look_of(sys.stdout), now=now), output)


def policies(output: Format = Output.TABLE, config: Config = None) -> None:
    """Show the daemon's policies and the mistakes in them."""
    found = daemon(config).get("/v1/policies")
    show(found, render.policies(found["policies"], look_of(sys.stdout)), output)


def follow(
    client: Client,
    path: str,
    workspace: str | None,
    *,
    quiet: bool,
    wait: bool,
    timeout: str | None,
    output: Output = Output.TABLE,
) -> int:
    """Look until the rollout ends (or, with `wait`, needs a person); returns the exit code.

    A daemon that restarts meanwhile is waited for; `quiet` prints the sentences as they come, not the whole picture.
    """
    pause, screen, told = threading.Event(), Screen(), ""
    limit = seconds(timeout)
    looks = None if limit is None else max(1, round(limit / REFRESH))
    missed, count = 0, 0
    while True:
        try:
            view, events = _look(client, path, workspace)
            missed = 0
        except UnavailableError:
            missed += 1
            if count == 0 or missed > PATIENCE:
                raise
            view, events = None, []
        if view is not None:
            told = _draw(view, events, screen, told, quiet=quiet, output=output)
            code = outcome_code(view)
            if code is not None and (wait or view["ended"]):
                return _end(view, code, wait=wait, output=output)
        count += 1
        if looks is not None and count > looks:
            return TIMED_OUT if wait else 0
        pause.wait(REFRESH)


def _look(client: Client, path: str, workspace: str | None) -> tuple[Any, list[Any]]:
    found = client.get(path, workspace=workspace, events=LAST_EVENTS)
    return found, list(found["events"])


def _draw(view: Any, events: list[Any], screen: Screen, told: str, *, quiet: bool, output: Output) -> str:
    look = look_of(sys.stdout)
    if output is Output.JSON:
        return told
    if not quiet:
        screen.draw(render.status(view, look, history=events))
    elif view["sentence"] != told:
        at = events[-1]["at"] if events else view["clock"]["now"]
        now = moment(view["clock"]["now"])
        event = {"at": at, "sentence": view["sentence"], "severity": None}
        show(None, [look.characters(line) for line in render.event_lines(event, look, now=now)], Output.TABLE)
        sys.stdout.flush()
    return str(view["sentence"])


def _end(view: Any, code: int, *, wait: bool, output: Output) -> int:
    if output is Output.JSON:
        show(view, (), output)
    return code if wait else 0
