"""`rollout lint`: the mistakes of policy files, or each policy with every default.

The rule: it needs no daemon and no Azure, only the files; with settings at hand, their `defaults` count as they would in
the daemon. Mistakes go to stdout, one line each, for editors and pipelines to read; so do notes, which are no mistakes.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rollout.cli.client import DEFAULT_CONFIG
from rollout.errors import PolicyError, SettingsError

CLEAN, MISTAKES = 0, 1


def lint_files(files: Sequence[Path], *, effective: bool, config: Path | None) -> int:
    """Print what is wrong with these files (or, with `effective`, what they mean); returns the exit code."""
    from rollout.beside import Beside
    from rollout.policy import advice, effective_yaml, parse_policy

    defaults = defaults_of(config)
    code = CLEAN
    for index, file in enumerate(files):
        try:
            policy = parse_policy(text_of(file), file=str(file), defaults=defaults, files=Beside(file.parent))
        except PolicyError as error:
            code = MISTAKES
            sys.stdout.write(f"{error.message}\n")
            continue
        if effective:
            sys.stdout.write(("---\n" if index else "") + effective_yaml(policy))
        else:
            sys.stdout.writelines(f"{file}: note: {sentence}.\n" for sentence in advice(policy))
    if code == CLEAN and not effective:
        sys.stdout.write(f"{_count(len(files), 'policy', 'policies')} without mistakes.\n")
    return code


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def text_of(file: Path) -> str:
    """A file's text. Raises PolicyError where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{file}: it cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{file}: it is not text (UTF-8).") from None


def defaults_of(config: Path | None) -> Mapping[str, object]:
    """The organisation's defaults from the settings, where there are any; a mistake in the rest of them is not ours."""
    path = config or Path(os.environ.get("ROLLOUT_CONFIG") or DEFAULT_CONFIG)
    if not path.is_file():
        if config is not None:
            raise SettingsError(f"No settings at {config}: name them with --config FILE, or leave it out.")
        return {}
    from rollout.documents.text import read

    found = read(text_of(path), file=str(path)).value
    defaults = found.get("defaults") if isinstance(found, dict) else None
    return defaults if isinstance(defaults, dict) else {}
