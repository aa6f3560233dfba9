"""The API's token, and where the daemon answers: two small files for the commands, readable by their owner alone.

The rule: the token is made at the first start and stays; whoever can read the file may command the daemon.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from rollout.errors import SettingsError

OWNER_ONLY = 0o600
LEAST_LENGTH = 16
ADDRESS_FILE = "daemon.json"


def read_or_make(path: Path, *, make: Callable[[], str]) -> str:
    """The token in this file, which is made where it is missing. Raises SettingsError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w") as stream:
            stream.write(make() + "\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise SettingsError(f"api: token_file: {path} cannot be written: {error.strerror}.") from None
    return _checked(path)


def _checked(path: Path) -> str:
    try:
        mode = path.stat().st_mode & 0o777
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"api: token_file: {path} cannot be read: it should hold one line of letters.") from None
    if mode & 0o077:
        raise SettingsError(f"api: token_file: others may read {path} (mode {mode:o}): chmod 600 {path}, or delete it.")
    if len(token) < LEAST_LENGTH or any(character.isspace() for character in token):
        raise SettingsError(f"api: token_file: {path} holds no token: delete it, and the daemon makes a new one.")
    return token


def write_address(folder: Path, address: str) -> Path:
    """Leave the address beside the token; returns the file, to be removed at the end."""
    path = folder / ADDRESS_FILE
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w") as stream:
        json.dump({"address": address, "pid": os.getpid()}, stream)
    new.replace(path)
    return path
