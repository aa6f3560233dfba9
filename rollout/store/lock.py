"""One daemon per SQLite file: a lock beside it, held by the process and dropped by the kernel when it dies.

The rule: the lock is the file lock, not the file: a file that a dead process left behind locks nobody out.
"""

import fcntl
import os
from pathlib import Path

from rollout.errors import RefusedError


class FileLock:
    """The right to be the only daemon on a database file; `release` gives it back."""

    def __init__(self, database: Path) -> None:
        """Take it now. Raises RefusedError, naming the process that holds it."""
        self._path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise RefusedError(
                f"The store {database} is in use by another Rollout daemon"
                f"{f' (process {holder})' if holder.isdigit() else ''}: stop that one first, or give this one a store of its own."
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Let the next daemon in."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
