"""The connection to the database: transactions, durability, and whose fault an error is.

The rule: every write is one BEGIN IMMEDIATE transaction that is on the disk when it returns (`synchronous=FULL`: an
intent must survive a power cut), and no error of SQLAlchemy or SQLite leaves this room.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from rollout.errors import ConflictError, UnavailableError

#: How long a write waits for another process's, in milliseconds.
BUSY_TIMEOUT_MS = 5000
#: Connections kept, and how many more may be open at once: more than the daemon has threads.
POOL_SIZE, POOL_OVERFLOW = 8, 24
#: How long a thread waits for a connection, in seconds.
POOL_TIMEOUT = 10.0


class Database:
    """A SQLite file, used by many threads; `shown` is how messages name it."""

    def __init__(self, path: Path) -> None:
        self.shown = str(path)
        self._engine = _engine(path)
        self._writers = self._engine.execution_options(rollout_begin="BEGIN IMMEDIATE")
        self._one_writer = threading.Lock()  # fair among our threads; SQLite's own lock is for other processes

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent look. Raises UnavailableError."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, durable when the block has ended. Raises UnavailableError, ConflictError."""
        with self._translated(), self._one_writer, self._writers.begin() as connection:
            yield connection

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise ConflictError(f"Another writer was faster in the store {self.shown} ({error.orig}).") from error
        except PoolTimeoutError as error:
            raise UnavailableError(
                f"The store {self.shown} gave no connection within {POOL_TIMEOUT:.0f} s: its disk may be slow."
            ) from error
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise UnavailableError(
                f"The store {self.shown} did not answer ({getattr(error, 'orig', None) or error}):"
                " check that its disk has room and that this user may write there."
            ) from error


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_TIMEOUT,
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:  # noqa: ARG001 - SQLAlchemy calls it so
    assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - for the type checker
    connection.isolation_level = None  # transactions are begun by `_begin`, not by the driver
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("rollout_begin", "BEGIN"))
