"""The front of the store: open one, use it as a `ports.Store`, close it.

The rule: a store that is open has the schema of this version, and at most one daemon.
"""

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from rollout.errors import SettingsError
from rollout.store.cells import Cells
from rollout.store.commands import Commands
from rollout.store.database import Database
from rollout.store.exhibits import Exhibits
from rollout.store.freezes import Freezes
from rollout.store.lock import FileLock
from rollout.store.migrate import is_current, migrate
from rollout.store.noise import Noise
from rollout.store.outbox import Outbox
from rollout.store.releases import Releases
from rollout.store.retention import Retention
from rollout.store.rollouts import Rollouts, free_all
from rollout.store.starts import Starts


class SqlStore(Rollouts, Releases, Starts, Freezes, Exhibits, Noise, Commands, Cells, Outbox, Retention):
    """A `ports.Store` in a SQL database, for any number of threads."""

    def __init__(self, database: Database, *, lock: FileLock | None) -> None:
        self._database = database
        self._lock = lock

    def close(self) -> None:
        """Release files and connections; closing twice is allowed."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()


def open_store(url: str, *, exclusive: bool) -> SqlStore:
    """The store at `url` (`sqlite:///file.db`), created or migrated if need be.

    `exclusive` is for the daemon: it holds the file alone, and what a dead predecessor had leased is free.
    Raises SettingsError for a url that cannot be used, RefusedError where another daemon holds the file or a newer
    version wrote it, UnavailableError where the file cannot be read or written.
    """
    path = _path(url)
    return _open_alone(path) if exclusive else _open_shared(path)


def _open_alone(path: Path) -> SqlStore:
    lock = FileLock(path)
    database = Database(path)
    try:
        migrate(database)
        free_all(database)
    except BaseException:
        database.close()
        lock.release()
        raise
    return SqlStore(database, lock=lock)


def _open_shared(path: Path) -> SqlStore:
    database = Database(path)
    try:
        if not is_current(database):
            _migrate_alone(path, database)
    except BaseException:
        database.close()
        raise
    return SqlStore(database, lock=None)


def _migrate_alone(path: Path, database: Database) -> None:
    """A file that a daemon of an older version works on is not changed under it."""
    lock = FileLock(path)
    try:
        migrate(database)
    finally:
        lock.release()


def _path(url: str) -> Path:
    """The file that the url names, its folder made; a file is created readable by its owner alone."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError("store: this is not the address of a store: write sqlite:///rollout.db.") from None
    if parsed.get_backend_name() != "sqlite":
        raise SettingsError(f"store: {parsed.get_backend_name()} is not yet supported: write sqlite:///rollout.db.")
    if not parsed.database or parsed.database == ":memory:":
        raise SettingsError("store: a store needs a file, to survive a restart: write sqlite:///rollout.db.")
    path = Path(parsed.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise SettingsError(f"store: {path} cannot be written ({error.strerror}): choose another place.") from error
    return path
