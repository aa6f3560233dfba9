"""The commands about evidence: explain, replay, export.

The rule: what a person reads comes from the daemon; `replay` of a file needs none.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rollout.cli.client import rollout_path
from rollout.cli.options import Config, Endpoint, Format, Name, Output, Workspace, daemon, handle, show
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError

SAME, DIFFERENT = 0, 1
MAX_EXPORT = 256 * 1024 * 1024  # bytes


def explain(
    endpoint: Endpoint = None,
    name: Name = None,
    workspace: Workspace = None,
    step: Annotated[int | None, typer.Option("--step", min=1, help="The last verdict on this step.")] = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Explain a verdict, and what would have changed it."""
    path = rollout_path(handle(endpoint, name, verb="explain"), "explain")
    view = daemon(config).get(path, workspace=workspace, step=step)
    if output is Output.JSON:
        show(view, (), output)
        return
    from rollout.cli.explaining import explanation

    show(view, explanation(view, look_of(sys.stdout)), output)


def export(endpoint: Endpoint = None, name: Name = None, workspace: Workspace = None, config: Config = None) -> None:
    """Write down what a rollout was judged on, for `replay`."""
    path = rollout_path(handle(endpoint, name, verb="export"), "export")
    found = daemon(config).get(path, workspace=workspace)
    sys.stdout.write(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n")


def replay(
    what: Annotated[
        str | None, typer.Argument(metavar="ENDPOINT|FILE", help="An endpoint, or what `export` wrote.")
    ] = None,
    name: Name = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="Judge with this policy instead.")] = None,
    workspace: Workspace = None,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Judge a rollout again, with its own policy or another one.

    With its own policy every verdict must come out the same: exits 1 where one does not.
    """
    from rollout.cli.explaining import replayed
    from rollout.lifecycle.export import load_export
    from rollout.lifecycle.replaying import judge_again

    text, file = _exported(handle(what, name, verb="replay"), workspace, config)
    found = judge_again(load_export(text, file=file), other=_policy(policy, config))
    show(found, replayed(found, look_of(sys.stdout)), output)
    raise typer.Exit(DIFFERENT if found["same"] is False else SAME)


def _exported(word: str, workspace: str | None, config: Path | None) -> tuple[str, str]:
    """The export's text, and what to call it."""
    path = Path(word)
    if not path.is_file():
        if path.suffix in {".json", ".jsonl"} or "/" in word:
            raise PolicyError(f"There is no file {word}.")
        return json.dumps(daemon(config).get(rollout_path(word, "export"), workspace=workspace)), word
    if path.stat().st_size > MAX_EXPORT:
        raise PolicyError(f"{word} is larger than {MAX_EXPORT // 1024**2} MiB: that is no export.")
    try:
        return path.read_text(encoding="utf-8"), word
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{word} cannot be read: {error}.") from None


def _policy(file: Path | None, config: Path | None) -> Any:
    if file is None:
        return None
    from rollout.beside import Beside
    from rollout.cli.linting import defaults_of, text_of
    from rollout.policy import parse_policy

    return parse_policy(text_of(file), file=str(file), defaults=defaults_of(config), files=Beside(file.parent))
