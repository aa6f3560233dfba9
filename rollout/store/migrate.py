"""Bring a database to the schema of this version, when it is opened.

The rule: forward only, all steps in one transaction. A database of a newer version is refused, untouched.
"""

from importlib.resources import as_file, files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from rollout.errors import RefusedError
from rollout.store.database import Database


def is_current(database: Database) -> bool:
    """Whether the schema is this version's. Raises RefusedError where it is a newer one's."""
    with as_file(files("rollout.store") / "migrations") as folder, database.reading() as connection:
        return _missing(connection, _config(folder), database.shown) == 0


def migrate(database: Database) -> None:
    """Make the schema this version's. Raises RefusedError where it is a newer one's."""
    with as_file(files("rollout.store") / "migrations") as folder, database.writing() as connection:
        config = _config(folder)
        if _missing(connection, config, database.shown):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _missing(connection: Connection, config: Config, shown: str) -> int:
    """How many steps the database is behind."""
    found = MigrationContext.configure(connection).get_current_revision()
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]  # newest first
    if found is not None and found not in known:
        raise RefusedError(
            f"The store {shown} was written by a newer version of Rollout (schema {found}; this version knows up to"
            f" {known[0]}): upgrade Rollout, or give it a store of its own."
        )
    return len(known) if found is None else known.index(found)


def _config(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
