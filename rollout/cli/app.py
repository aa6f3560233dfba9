"""The command line: which commands there are, and how every one of them ends.

The rule: thin. Commands talk to the daemon's API (`client`), print what it says (`render`) and leave with a code; what
is heavy (the daemon, the sandbox, the policy parser) is imported inside the command that needs it. No stack trace for
an error that Rollout knows how to tell; Ctrl-C is quiet.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from rollout.cli import (
    acting,
    again,
    checking,
    deployments,
    doctor,
    endpoints,
    evidence,
    freezing,
    importing,
    initializing,
    observing,
    planning,
    predicting,
    reading,
    releases,
    triggering,
)
from rollout.cli.options import FAILED, Config, Format, Output
from rollout.cli.terminal import fold, look_of
from rollout.errors import RolloutError, SettingsError

INTERRUPTED = 130
MISTAKES = 1  # lint found some
UNUSABLE = 2  # the daemon's settings
SANDBOX_PARTS = ("aiohttp", "trustme", "duckdb", "duckdb_kql")

app = typer.Typer(
    name="rollout",
    help="Move an Azure ML online endpoint's traffic to a new deployment in steps, and back by itself if it is worse.",
    epilog="A person always wins: `rollout pause` leaves the traffic alone, `rollout abort` moves it back.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

COMMANDS: Sequence[tuple[str, Callable[..., None]]] = (
    ("plan", planning.plan),
    ("start", acting.start),
    ("list", reading.list_rollouts),
    ("get", reading.get),
    ("status", reading.status),
    ("watch", reading.watch),
    ("approve", acting.approve),
    ("reject", acting.reject),
    ("promote", acting.promote),
    ("pause", acting.pause),
    ("resume", acting.resume),
    ("abort", acting.abort),
    ("undo", again.undo),
    ("retry", again.retry),
    ("freeze", freezing.freeze),
    ("unfreeze", freezing.unfreeze),
    ("freezes", freezing.freezes),
    ("history", reading.history),
    ("observe", observing.observe),
    ("explain", evidence.explain),
    ("replay", evidence.replay),
    ("export", evidence.export),
    ("alerts", reading.alerts),
    ("policies", reading.policies),
    ("triggers", triggering.triggers),
    ("predict", predicting.predict),
    ("doctor", doctor.doctor),
    ("init", initializing.init),
    ("import", importing.import_policy),
)
for _name, _command in COMMANDS:
    app.command(_name)(_command)
app.add_typer(endpoints.app, name="endpoint")
app.add_typer(deployments.app, name="deployment")
app.add_typer(checking.app, name="check")
app.add_typer(releases.app, name="release")


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="Policy files.", show_default=False)],
    effective: Annotated[
        bool, typer.Option("--effective", help="Print each policy with every default, as it would be judged.")
    ] = False,
    config: Config = None,
) -> None:
    """Report every mistake in policy files. Exits 1 if there are any."""
    from rollout.cli.linting import lint_files

    raise typer.Exit(lint_files(files, effective=effective, config=config))


@app.command()
def schema() -> None:
    """Print the JSON Schema of policies, for editors."""
    from rollout.policy import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")


@app.command()
def daemon(
    config: Annotated[
        Path | None, typer.Option("--config", help="The settings; else ROLLOUT_CONFIG or ./rollout.yaml.")
    ] = None,
) -> None:
    """Run the daemon until SIGTERM or Ctrl-C.

    It judges and moves traffic; leases are handed over on the way out. Exits 2 if the settings cannot be used.
    """
    from rollout.daemon import run

    raise typer.Exit(run(config or Path(os.environ.get("ROLLOUT_CONFIG") or "rollout.yaml")))


@app.command()
def demo(
    output: Format = Output.TABLE,
    rps: Annotated[int, typer.Option("--rps", min=50, max=300, help="Real predictions per second.")] = 150,
    state: Annotated[
        Path | None, typer.Option("--state", help="Keep settings, logs and store in this folder; else a temporary one.")
    ] = None,
) -> None:
    """Watch two rollouts on a local Azure: good and bad.

    The first one is promoted, the second rolls back. Exits 0 only if both do.
    """
    _sandbox()
    from rollout.cli.demo.acts import run

    raise typer.Exit(run(output=output.value, rps=rps, state=state))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def sandbox() -> None:
    """Run a local Azure, send it load, inject faults."""
    raise AssertionError("its commands are `_sandbox`'s: they are imported only where one is asked for")


def _sandbox() -> typer.Typer:
    missing = [part for part in SANDBOX_PARTS if find_spec(part) is None]
    if missing:
        raise SettingsError(
            f"The sandbox needs {', '.join(missing)}: install Rollout with its extra, azureml-rollout[sandbox]."
        )
    from rollout.sandbox.commands import app as local_azure

    found: typer.Typer = local_azure
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    try:
        local = words[:1] == ["sandbox"]
        command = typer.main.get_command(_sandbox() if local else app)
        name = "rollout sandbox" if local else "rollout"
        found = command.main(words[1:] if local else words, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        return found if isinstance(found, int) else 0
    except typer.TyperException as error:
        return _usage(error)
    except RolloutError as error:
        _complain(error)
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # `rollout list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _usage(error: typer.TyperException) -> int:
    show = getattr(error, "show", None)
    if show is not None:
        show()
    else:
        sys.stderr.write(f"{error.format_message()}\n")
    return FAILED


def _complain(error: RolloutError) -> None:
    look = look_of(sys.stderr)
    lines = [
        part
        for line in error.message.splitlines()
        for part in (fold(line, look.width - 7) if sys.stderr.isatty() else [line])
    ]
    sys.stderr.write(look.paint("Error: ", "bad", "bold") + look.characters("\n       ".join(lines)) + "\n")
