"""The commands that come after a rollout: undo a promotion, retry what did not end with one.

The rule: each begins a rollout of its own; what an undo meets at once (a deployment that is gone, another one with
traffic) is printed before the command returns, and is its exit code.
"""

import sys
import threading
from contextlib import suppress
from typing import Annotated, Any

import typer

from rollout.cli import render
from rollout.cli.acting import ANSWER_EVERY, ANSWER_WITHIN
from rollout.cli.client import Client, rollout_path
from rollout.cli.options import (
    FAILED,
    Config,
    Endpoint,
    Format,
    Name,
    Output,
    Reason,
    Timeout,
    Wait,
    Workspace,
    daemon,
    handle,
    say,
    show,
    who,
)
from rollout.cli.reading import follow
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError, UnavailableError


def undo(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    reason: Reason = None,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Take a promotion back: all traffic to the kept stable.

    At once, and without judging anything. With --wait, 0 says that it is done,
    5 that it was not begun.
    """
    client, path = daemon(config), rollout_path(handle(endpoint, name, verb="undo"))
    view = client.post(f"{path}/undo", {"workspace": workspace, "reason": reason, **who()})
    if wait:
        code = follow(client, path, view["workspace"], quiet=True, wait=True, timeout=timeout, output=output)
        raise typer.Exit(code)
    begun = _begun(client, path, view)
    if output is Output.JSON:
        show(begun, (), output)
    else:
        say(str(view["sentence"]))
        if begun["sentence"] != view["sentence"]:
            say(str(begun["sentence"]))
    if begun["phase"] == "aborted":
        raise typer.Exit(FAILED)


def retry(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    *,
    from_step: Annotated[
        int, typer.Option("--from-step", min=1, max=50, help="Begin with this step. Beyond the first needs --reason.")
    ] = 1,
    reason: Reason = None,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Start again what was rolled back, aborted or halted.

    The same policy and deployments, with fresh evidence.
    """
    if from_step > 1 and not reason:
        raise PolicyError('retry --from-step skips steps: say why with --reason "…".')
    client, path = daemon(config), rollout_path(handle(endpoint, name, verb="retry"))
    view = client.post(f"{path}/retry", {"workspace": workspace, "from_step": from_step, "reason": reason, **who()})
    if wait:
        code = follow(client, path, view["workspace"], quiet=True, wait=True, timeout=timeout, output=output)
        raise typer.Exit(code)
    lines = [*render.status(view, look_of(sys.stdout)), "", f"Watch it: rollout watch {view['endpoint']}"]
    show(view, lines, output)


def _begun(client: Client, path: str, view: Any) -> Any:
    """The undo once it moves traffic, waits for something, or has ended; as it is, where no tick has come in time."""
    pause = threading.Event()
    for _ in range(round(ANSWER_WITHIN / ANSWER_EVERY)):
        waits = view["phase"] == "preparing" and str(view["sentence"]).startswith("Not undone yet")
        if view["phase"] not in {"pending", "preparing"} or waits:
            break
        pause.wait(ANSWER_EVERY)
        with suppress(UnavailableError):
            view = client.get(path, workspace=view["workspace"])
    return view
