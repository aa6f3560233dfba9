"""Commands: what people asked for, and what became of it.

The rule: a command is written down once and answered once. One that comes too late for its rollout is answered too.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select, update

from rollout.errors import RefusedError
from rollout.lifecycle.phases import Phase
from rollout.store import codec, tables
from rollout.store.database import Database
from rollout.world import Command, CommandResult

_T = tables.commands.c


class Commands:
    """The part of the store that holds commands; see `ports.Store` for what each method promises."""

    _database: Database

    def submit(self, command: Command) -> None:
        """Write a command down and make its rollout due. The same command again changes nothing."""
        with self._database.writing() as connection:
            write_down(connection, command)

    def pending_commands(self, rollout_id: str) -> Sequence[Command]:
        """Not yet answered, oldest first."""
        query = select(_T.doc).where(_T.rollout_id == rollout_id, _T.sentence.is_(None)).order_by(_T.number)
        with self._database.reading() as connection:
            return [codec.load_command(doc) for doc in connection.scalars(query)]

    def command_result(self, command_id: str) -> CommandResult | None:
        """None while no tick has seen it."""
        query = select(_T.accepted, _T.sentence).where(_T.id == command_id, _T.sentence.is_not(None))
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return CommandResult(command_id=command_id, accepted=row.accepted, sentence=row.sentence) if row else None


def write_down(connection: Connection, command: Command) -> None:
    """A command for its rollout's next tick; one for a rollout that has ended is answered at once."""
    rollout = tables.rollouts.c
    found = connection.execute(
        select(rollout.phase, rollout.active, rollout.due_at).where(rollout.id == command.rollout_id)
    ).one_or_none()
    if found is None:
        raise RefusedError(f"There is no rollout {command.rollout_id} to {command.verb}.")
    if connection.scalar(select(_T.number).where(_T.id == command.id)) is not None:
        return
    row = {"id": command.id, "rollout_id": command.rollout_id, "doc": codec.dump_command(command)}
    connection.execute(insert(tables.commands), row)
    if found.active:
        connection.execute(
            update(tables.rollouts)
            .where(rollout.id == command.rollout_id)
            .values(due_at=min(found.due_at, command.at), woken=True)
        )
    else:
        answer_the_rest(connection, command.rollout_id, phase=Phase(found.phase))


def answer(connection: Connection, results: Sequence[CommandResult]) -> None:
    """Write down what became of these commands; the first answer stays."""
    for result in results:
        connection.execute(
            update(tables.commands)
            .where(_T.id == result.command_id, _T.sentence.is_(None))
            .values(accepted=result.accepted, sentence=result.sentence)
        )


def answer_the_rest(connection: Connection, rollout_id: str, *, phase: Phase) -> None:
    """The rollout has ended and no tick will look again: whoever still waits is told so."""
    connection.execute(
        update(tables.commands)
        .where(_T.rollout_id == rollout_id, _T.sentence.is_(None))
        .values(accepted=False, sentence=f"Too late: the rollout had already ended ({phase.replace('_', ' ')}).")
    )
