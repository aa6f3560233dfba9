"""The parts of the store: packing, documents, opening, migrating, errors."""

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st

from rollout.analysis.cells import ANSWER_SIZE, CLASSES, REPORTED, UNTIMED, Cell, custom
from rollout.analysis.verdict import Finding, Judgement, Pair, Rate, Reason, Verdict
from rollout.errors import RefusedError, RolloutError, SettingsError, UnavailableError
from rollout.store import codec, open_store, tables
from rollout.store.database import Database
from rollout.store.packing import PACKED_CLASSES, difference, pack, unpack
from tests.support.stories import NOON, REF, a_rollout

# --- Packing -------------------------------------------------------------------------------------------------------

_MEASURES = (ANSWER_SIZE, *REPORTED.values(), custom("empty_answers"), custom("größe"))
_HISTOGRAMS = st.dictionaries(
    st.sampled_from(CLASSES) | st.sampled_from(_MEASURES),
    st.dictionaries(st.integers(UNTIMED, 200), st.integers(0, 2**40), max_size=6),
)


def _full(cell: Cell) -> dict[str, dict[int, int]]:
    """Without zero counts and empty classes, which say nothing."""
    some = {name: {key: count for key, count in of.items() if count} for name, of in cell.histograms.items()}
    return {name: of for name, of in some.items() if of}


@given(_HISTOGRAMS)
def test_a_packed_cell_comes_back(histograms: dict[str, dict[int, int]]) -> None:
    cell = Cell(histograms=histograms)
    assert unpack(pack(cell)).histograms == _full(cell)


@given(_HISTOGRAMS, _HISTOGRAMS)
def test_bytes_are_equal_exactly_when_cells_are(one: dict[str, dict[int, int]], two: dict[str, dict[int, int]]) -> None:
    one_cell, two_cell = Cell(histograms=one), Cell(histograms=two)
    assert (pack(one_cell) == pack(two_cell)) == (_full(one_cell) == _full(two_cell))
    shuffled = {name: dict(reversed(of.items())) for name, of in reversed(one.items())}
    assert pack(Cell(histograms=shuffled)) == pack(one_cell)


def test_all_of_a_cell_is_packed() -> None:
    assert [field.name for field in fields(Cell)] == ["histograms"]
    assert set(CLASSES) <= set(PACKED_CLASSES)


def test_a_cell_without_measures_is_written_as_it_always_was() -> None:
    # these bytes lie in stores of versions before
    plain = Cell(histograms={"ok": {40: 200, 41: 1}, "gone": {UNTIMED: 2}, ANSWER_SIZE: {80: 0}})
    written = bytes([1, 0, 2, 41, 200, 1, 1, 1, 7, 1, 0, 2])
    assert pack(plain) == written
    assert unpack(written) == Cell(histograms={"ok": {40: 200, 41: 1}, "gone": {UNTIMED: 2}})
    assert pack(Cell(histograms={"ok": {40: 1}, ANSWER_SIZE: {80: 1}}))[0] == 2


def test_a_cell_is_small() -> None:
    busy = Cell(histograms={"ok": {bucket: 200 + bucket for bucket in range(40, 60)}, "5xx": {70: 3}})
    assert len(pack(busy)) < 70
    assert len(pack(Cell())) == 1


@pytest.mark.parametrize(
    "cell",
    [{"odd": {1: 1}}, {"custom": {0: 1}}, {"ok": {-2: 1}}, {"ok": {1: -1}}],
    ids=["class", "measure", "bucket", "count"],
)
def test_what_cannot_be_packed_is_refused(cell: dict[str, dict[int, int]]) -> None:
    with pytest.raises(ValueError, match="cell"):
        pack(Cell(histograms=cell))


def test_another_form_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="form 9"):
        unpack(b"\x09\x00")


def test_difference_counts_rows_that_came_went_or_changed() -> None:
    one, moved = pack(Cell(histograms={"ok": {1: 5}})), pack(Cell(histograms={"ok": {1: 3}, "5xx": {1: 2}}))
    assert [difference(one, one), difference(one, moved), difference(None, one), difference(one, None)] == [0, 2, 5, 5]
    sized = pack(Cell(histograms={"ok": {1: 5}, ANSWER_SIZE: {80: 5}}))
    assert difference(one, sized) == 0
    assert difference(None, pack(Cell(histograms={custom("empty"): {0: 4, 1: 2}}))) == 6


# --- Documents -----------------------------------------------------------------------------------------------------

_FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def _verdict(number: float) -> Verdict:
    rate = Rate(bad=number, n=number, value=number)
    finding = Finding(
        check="error_rate",
        source="logs",
        unit="share",
        baseline=rate,
        candidate=replace(rate, value=None),
        margin=0.005,
        maximum=None,
        bar=number,
        evidence=number,
        weight=0.5,
        not_worse=number,
        compatible=None,
        action="hold",
        sentence="Errors 6.8 % vs 0.3 %.",
    )
    return Verdict(
        action="fail",
        reason=Reason.REGRESSION,
        sentence="Failed.",
        findings=(finding, finding),
        evidence=number,
        threshold=20.0,
        blocks=3,
        requests=Pair(baseline=4, candidate=5),
        first_bad=29_000_000,
        harmed=number,
        notes=("one", "two"),
    )


@given(number=_FLOATS, active=st.timedeltas(timedelta(0), timedelta(days=400)), at=st.datetimes(timezones=st.just(UTC)))
def test_a_rollout_comes_back_bit_by_bit(number: float, active: timedelta, at: datetime) -> None:
    rollout = a_rollout(
        verdict=_verdict(number), judgement=Judgement(alpha=number), active=active, decided_at=at, created_at=at
    )
    assert codec.load_rollout(codec.dump_rollout(rollout), name="r1") == rollout


def test_the_format_before_stays_readable() -> None:
    document = json.loads(codec.dump_rollout(a_rollout()))
    older = json.dumps({"format": 1, "was_called": document["rollout"], "judgement": document["judgement"]})

    def upgrade(value: dict) -> dict:
        return {"format": 2, "rollout": value["was_called"], "judgement": value["judgement"]}

    assert codec.load_rollout(older, name="r1", upgrades={1: upgrade}, newest=2) == a_rollout()


def test_a_newer_document_is_refused() -> None:
    newer = codec.dump_rollout(a_rollout()).replace('"format":1', '"format":2')
    with pytest.raises(RefusedError, match=r"newer version of Rollout \(format 2, this version reads up to 1\)"):
        codec.load_rollout(newer, name="r1")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"phase":"progressing"', '"phase":"dancing"', "phase: Input should be"),
        ('"share":5', '"share":null', "share: "),
        ('{"format":1', '{"formal":1', "KeyError: 'format'"),
        ('\\"version\\":', '\\"version\\":9', "ValueError"),
    ],
)
def test_a_document_that_cannot_be_read_says_why(old: str, new: str, why: str) -> None:
    doc = codec.dump_rollout(a_rollout())
    assert old in doc
    with pytest.raises(RefusedError, match="Rollout r1 in the store cannot be read") as caught:
        codec.load_rollout(doc.replace(old, new), name="r1")
    assert why in caught.value.message


# --- Opening -------------------------------------------------------------------------------------------------------


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/rollout.db"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    open_store(_url(tmp_path), exclusive=True).close()
    database = Database(tmp_path / "rollout.db")
    yield database
    database.close()


def test_a_store_is_made_with_its_folder_and_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "100 % deep"
    open_store(_url(tmp_path / "state" / "100%20%25%20deep"), exclusive=True).close()

    assert stat.S_IMODE((folder / "rollout.db").stat().st_mode) == 0o600


def test_the_file_is_durable_and_checks_references(database: Database) -> None:
    with database.writing() as connection:
        asked = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    assert asked == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000, "foreign_keys": 1}


def test_a_second_daemon_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    store = open_store(_url(tmp_path), exclusive=True)
    store.create(a_rollout(), [], [])
    with pytest.raises(RefusedError, match=rf"in use by another Rollout daemon \(process {os.getpid()}\)"):
        open_store(_url(tmp_path), exclusive=True)

    reader = open_store(_url(tmp_path), exclusive=False)
    assert reader.load("r1") == a_rollout()
    reader.close()
    store.close()
    store.close()
    open_store(_url(tmp_path), exclusive=True).close()


def test_another_process_holds_the_store_until_it_dies(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.saver", str(tmp_path / "rollout.db"), "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "1\n"
            with pytest.raises(RefusedError, match=rf"\(process {process.pid}\): stop that one first"):
                open_store(_url(tmp_path), exclusive=True)
        finally:
            process.kill()
    open_store(_url(tmp_path), exclusive=True).close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("rollout.db", "not the address of a store"),
        ("postgresql+psycopg://me:hidden@host/db", "postgresql is not yet supported"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:////proc/rollout/rollout.db", "/proc/rollout/rollout.db cannot be written"),
    ],
)
def test_an_address_of_no_use_is_the_authors_mistake(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        open_store(url, exclusive=True)
    assert "hidden" not in caught.value.message


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "rollout.db").write_text("Dear diary, " * 100)
    for exclusive in (True, False, True):
        with pytest.raises(UnavailableError, match=r"rollout\.db did not answer \(file is not a database\)"):
            open_store(_url(tmp_path), exclusive=exclusive)


def test_a_damaged_store_is_told(tmp_path: Path) -> None:
    store = open_store(_url(tmp_path), exclusive=True)
    other = sqlite3.connect(tmp_path / "rollout.db", isolation_level=None)
    other.execute("DROP TABLE readings")
    other.close()

    with pytest.raises(UnavailableError, match="no such table: readings"):
        store.put_cells("logs", REF, {}, window=(0, 1), closed_before=0, read_at=NOON)
    store.close()


def test_times_without_a_zone_are_refused(tmp_path: Path) -> None:
    store = open_store(_url(tmp_path), exclusive=True)
    with pytest.raises((ValueError, RolloutError), match="has no time zone"):
        store.claim_due(now=NOON.replace(tzinfo=None), owner="me", lease=timedelta(seconds=1))
    store.close()


# --- Migrating -----------------------------------------------------------------------------------------------------


def test_migrations_lead_to_the_tables(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def _set_revision(folder: Path, revision: str) -> None:
    with sqlite3.connect(folder / "rollout.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, exclusive: bool) -> None:
    open_store(_url(tmp_path), exclusive=True).close()
    _set_revision(tmp_path, "9999")

    with pytest.raises(RefusedError, match=r"newer version of Rollout \(schema 9999; this version knows up to 0006\)"):
        open_store(_url(tmp_path), exclusive=exclusive)
    _set_revision(tmp_path, "0006")
    open_store(_url(tmp_path), exclusive=True).close()


def test_a_new_file_is_not_migrated_under_a_daemon_that_holds_it(tmp_path: Path) -> None:
    store = open_store(_url(tmp_path), exclusive=True)
    with sqlite3.connect(tmp_path / "rollout.db") as connection:
        connection.execute("DELETE FROM alembic_version")
    connection.close()

    with pytest.raises(RefusedError, match="in use by another Rollout daemon"):
        open_store(_url(tmp_path), exclusive=False)
    store.close()
