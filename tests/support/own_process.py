"""The commands that talk to Azure themselves, run in the process of the tests: azure-ai-ml takes four seconds to import.

The rule: the same `main` as the console script's, with words in and exit code, stdout and stderr out.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollout.cli.app import main
from rollout.sandbox.resources import Timings

#: Operations of an Azure in a hurry, in seconds of its clock: the commands wait for many of them.
BRISK = Timings().changed(
    **dict.fromkeys(("endpoint_create", "endpoint_update", "endpoint_delete", "read_lag"), 6),
    **dict.fromkeys(("deployment_create", "deployment_update", "deployment_scale", "deployment_delete"), 12),
)


class _Stream(io.StringIO):
    """A pipe that takes all characters."""

    encoding = "utf-8"  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Commands:
    """A folder with settings, and a person who types."""

    folder: Path

    def __call__(self, *words: str, code: int = 0) -> Ran:
        """`rollout WORDS`, which must end with this code."""
        out, err = _Stream(), _Stream()
        with _in(self.folder), redirect_stdout(out), redirect_stderr(err):
            try:
                main(list(words))
            except SystemExit as ended:
                ran = Ran(code=int(ended.code or 0), out=out.getvalue(), err=err.getvalue())
        assert not any(line.startswith("Traceback") for line in ran.err.splitlines())
        assert ran.code == code, f"rollout {' '.join(words)} ended with {ran.code}:\n{ran.out}\n{ran.err}"
        return ran

    def write(self, name: str, text: str) -> str:
        """A file in the folder; its name is returned."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return name


def commands_for(folder: Path, sandbox: Any) -> Commands:
    """A person with settings for this running sandbox."""
    (folder / "rollout.yaml").write_text(f"cloud: {{sandbox: {sandbox.file}}}\n")
    return Commands(folder=folder)


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
