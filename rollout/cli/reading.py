"""The commands that read: list, get, status, watch, history, alerts, policies.

The rule: they show what the daemon says and change nothing.
"""

import sys
import threading
from typing import Annotated, Any

import typer

from rollout.cli import listing, render
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
    show(found, listing.overview(found["rollouts"], look_of(sys.stdout)), output)


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
    view = client.get(path, workspace=workspace, events=LAST_EVENTS)
    show(view, render.status(view, look_of(sys.stdout), history=view["events"]), output)


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
    show(found, listing.deliveries(found["deliveries"], look_of(sys.stdout), now=now), output)


def policies(output: Format = Output.TABLE, config: Config = None) -> None:
    """Show the daemon's policies and the mistakes in them."""
    found = daemon(config).get("/v1/policies")
    show(found, listing.policies(found["policies"], look_of(sys.stdout)), output)


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

    A daemon that restarts meanwhile is waited for. `quiet` (and a pipe) gets the sentences as they come, a terminal the
    whole picture.
    """
    pause, limit = threading.Event(), seconds(timeout)
    looks = None if limit is None else max(1, round(limit / REFRESH))
    told = _Sentences() if quiet or not sys.stdout.isatty() else _Picture()
    missed = count = 0
    while True:
        try:
            view = client.get(path, workspace=workspace, events=told.events)
            missed = 0
        except UnavailableError:
            missed += 1
            if count == 0 or missed > PATIENCE:
                raise
        else:
            code = outcome_code(view)
            over = code is not None and (wait or view["ended"])
            if output is Output.TABLE:
                told.tell(view)
            elif over:
                show(view, (), output)
            if over:
                return code if wait and code is not None else 0
        count += 1
        if looks is not None and count > looks:
            return TIMED_OUT if wait else 0
        pause.wait(REFRESH)


class _Picture:
    """The whole picture, drawn again in place."""

    events = LAST_EVENTS

    def __init__(self) -> None:
        self._screen = Screen()

    def tell(self, view: Any) -> None:
        """Draw it."""
        self._screen.draw(render.status(view, look_of(sys.stdout), history=view["events"]))


class _Sentences:
    """Each sentence once, as it comes."""

    events = 50

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def tell(self, view: Any) -> None:
        """Print what is new."""
        look, now = look_of(sys.stdout), moment(view["clock"]["now"])
        for event in view["events"]:
            key = (str(event["at"]), str(event["sentence"]))
            if key not in self._told:
                self._told.add(key)
                show(None, [look.characters(line) for line in render.event_lines(event, look, now=now)], Output.TABLE)
        sys.stdout.flush()
