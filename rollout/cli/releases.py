"""`rollout release`: show, list, pause, resume, abort releases over several endpoints.

The rule: that of `reading` and `acting`; a release is steered at once, so its answer needs no waiting. It is started with
`rollout start`, by a policy that has `waves`.
"""

import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rollout.cli import release_view
from rollout.cli.options import FAILED, Config, Format, Output, Reason, Timeout, Wait, daemon, say, show, who
from rollout.cli.reading import follow
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError

app = typer.Typer(help="Releases over several endpoints, in waves.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The release's name: its policy's.", show_default=False)]


def release_path(name: str, *more: str) -> str:
    """The address of a release, and of what hangs below it."""
    return "/".join(["/v1/releases", quote(name, safe=""), *more])


@app.command("list")
def list_releases(
    active: Annotated[bool, typer.Option("--active", help="Only releases that have not ended.")] = False,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """List releases, newest first."""
    found = daemon(config).get("/v1/releases", active=True if active else None)
    show(found, release_view.releases(found["releases"], look_of(sys.stdout)), output)


@app.command("show")
def show_release(
    name: Name, wait: Wait = False, timeout: Timeout = None, output: Format = Output.TABLE, config: Config = None
) -> None:
    """Show where a release stands: its waves and their endpoints.

    With --wait, 0 says that all were promoted, 2 that it was stopped or aborted.
    """
    client = daemon(config)
    if wait:
        raise typer.Exit(
            follow(client, release_path(name), None, quiet=True, wait=True, timeout=timeout, output=output)
        )
    view = client.get(release_path(name))
    show(view, release_view.release(view, look_of(sys.stdout)), output)


@app.command()
def pause(name: Name, reason: Reason = None, output: Format = Output.TABLE, config: Config = None) -> None:
    """Let what runs stand still, and begin no wave."""
    _ask("pause", name, reason, output, config)


@app.command()
def resume(name: Name, reason: Reason = None, output: Format = Output.TABLE, config: Config = None) -> None:
    """Go on with a release that was paused or stopped."""
    _ask("resume", name, reason, output, config)


@app.command()
def abort(name: Name, reason: Reason = None, output: Format = Output.TABLE, config: Config = None) -> None:
    """Move back what runs, and begin no wave. Needs --reason."""
    if not reason:
        raise PolicyError('abort moves the traffic of every endpoint that runs back: say why with --reason "…".')
    _ask("abort", name, reason, output, config)


def _ask(verb: str, name: str, reason: str | None, output: Output, config: Any) -> None:
    answer = daemon(config).post(release_path(name, "commands"), {"verb": verb, "reason": reason, **who()})
    if output is Output.JSON:
        show(answer, (), output)
    else:
        say(str(answer["sentence"]))
    if answer["state"] == "refused":
        raise typer.Exit(FAILED)
