"""The commands that change something: start, approve, reject, promote, pause, resume, abort.

The rule: a command is written down by the daemon as a fact, with who, why and from where; the next tick answers it, and
the answer is what is printed. What needs a reason is refused here before anything is asked.
"""

import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout.cli import render
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
from rollout.cli.terminal import fold, look_of
from rollout.errors import PolicyError, RolloutError, UnavailableError

ANSWER_WITHIN = 20.0  # seconds until a tick has surely seen the command
ANSWER_EVERY = 0.1
MAX_POLICY = 256 * 1024  # bytes


def start(
    policy: Annotated[str, typer.Argument(help="A policy file, or the name of a policy that the daemon has loaded.")],
    candidate: Annotated[str | None, typer.Option("--candidate", help="The deployment to move traffic to.")] = None,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Start a rollout, or a release.

    A policy with waves starts a release over several endpoints: `rollout release` shows it.
    """
    client = daemon(config)
    view = client.post("/v1/rollouts", {"policy": policy_body(policy), "candidate": candidate, **who()})
    if "members" in view:
        raise typer.Exit(_started_release(client, view, wait=wait, timeout=timeout, output=output))
    path = rollout_path(str(view["endpoint"]))
    if wait:
        raise typer.Exit(follow(client, path, view["workspace"], quiet=True, wait=True, timeout=timeout, output=output))
    show(view, [*render.status(view, look_of(sys.stdout)), *_plan(client, view), "", _hint(view)], output)


def _started_release(client: Client, view: Any, *, wait: bool, timeout: str | None, output: Output) -> int:
    from rollout.cli.release_view import release
    from rollout.cli.releases import release_path

    name = str(view["name"])
    if wait:
        return follow(client, release_path(name), None, quiet=True, wait=True, timeout=timeout, output=output)
    show(view, [*release(view, look_of(sys.stdout)), "", f"See how it goes: rollout release show {name}"], output)
    return 0


def _plan(client: Client, view: Any) -> list[str]:
    """What the rollout will see and take, where the daemon knows the endpoint's traffic. It has begun, come what may."""
    from rollout.cli.plan_view import short

    look = look_of(sys.stdout)
    if view["mode"] == "observe":
        return []  # the steps are people's
    try:
        plan = client.get(rollout_path(str(view["endpoint"]), "plan"), workspace=view["workspace"])["plan"]
    except RolloutError as error:
        return ["", *fold(f"No plan: {error.message}", look.width)]
    return ["", *short(plan, look)] if plan else []


def _hint(view: Any) -> str:
    return f"Watch it: rollout watch {view['endpoint']}"


def policy_body(word: str) -> dict[str, Any]:
    """A file is sent as text with its name and the files that it names; anything else is a name that the daemon knows."""
    path = Path(word)
    if not path.is_file():
        if path.suffix in {".yaml", ".yml"} or "/" in word:
            raise PolicyError(f"There is no file {word}.")
        return {"name": word}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{word} cannot be read: {error}.") from None
    if len(text) > MAX_POLICY:
        raise PolicyError(f"{word} is larger than {MAX_POLICY // 1024} KiB: that is no policy.")
    return {"text": text, "file": word, "files": _files_of(text, path)}


def _files_of(text: str, path: Path) -> dict[str, str]:
    """The texts of the files that a policy names; what cannot be read is told at its place by whoever reads the policy."""
    if not any(field in text for field in ("request_file", "kql_file", "file:")):
        return {}
    from rollout.beside import Beside
    from rollout.documents.text import read
    from rollout.policy.attached import named

    files, found = Beside(path.parent), {}
    for name in dict.fromkeys(named(read(text, file=str(path)).value)):
        try:
            found[name] = files(name)
        except ValueError as error:
            raise PolicyError(f"{path}: {error}.") from None
    return found


def approve(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    reason: Reason = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Approve the step that a rollout waits for."""
    _ask("approve", endpoint or name, workspace, {"reason": reason}, output, config)


def reject(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    reason: Reason = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Refuse the step that a rollout waits for: roll back."""
    _ask("reject", endpoint or name, workspace, {"reason": reason}, output, config)


def promote(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    full: Annotated[bool, typer.Option("--full", help="Skip all steps: all traffic now. Needs --reason.")] = False,
    reason: Reason = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Skip the rest of this step, or with --full of all steps.

    While guarding it ends that: the candidate keeps all traffic.
    """
    if full and not reason:
        raise PolicyError('promote --full skips every check: say why with --reason "…".')
    _ask("promote", endpoint or name, workspace, {"full": full, "reason": reason}, output, config)


def pause(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    reason: Reason = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Leave the traffic as it is until `resume`."""
    _ask("pause", endpoint or name, workspace, {"reason": reason}, output, config)


def resume(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    adopt: Annotated[bool, typer.Option("--adopt", help="Go on from the split that a person has set.")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="Put the rollout's own split back first.")] = False,
    reason: Reason = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Go on with a paused rollout. After a failed judgement this needs --reason."""
    if adopt and restore:
        raise PolicyError("--adopt keeps the split that is there, --restore puts ours back: choose one.")
    drift = "adopt" if adopt else "restore" if restore else None
    _ask("resume", endpoint or name, workspace, {"drift": drift, "reason": reason}, output, config)


def abort(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    reason: Reason = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """End the rollout: all traffic back to stable. Needs --reason."""
    if not reason:
        raise PolicyError('abort moves all traffic back to stable: say why with --reason "…".')
    _ask("abort", endpoint or name, workspace, {"reason": reason}, output, config)


def _ask(
    verb: str, name: str | None, workspace: str | None, body: dict[str, Any], output: Output, config: Path | None
) -> None:
    client = daemon(config)
    path = rollout_path(handle(name, None, verb=verb), "commands")
    written = client.post(path, {"verb": verb, "workspace": workspace, **body, **who()})
    answer = _answer(client, written)
    if output is Output.JSON:
        show(answer, (), output)
    else:
        say(str(answer["sentence"]))
    if answer["state"] == "refused":
        raise typer.Exit(FAILED)


def _answer(client: Client, written: Any) -> Any:
    """What a tick made of the command; the command itself, still waiting, where none came in time."""
    pause = threading.Event()
    for _ in range(round(ANSWER_WITHIN / ANSWER_EVERY)):
        if written["state"] != "waiting":
            break
        pause.wait(ANSWER_EVERY)
        with suppress(UnavailableError):  # it is written down: a daemon that restarts answers it afterwards
            written = client.get(f"/v1/commands/{written['id']}")
    return written
