"""The chart of the evidence: pure, within its width, in whatever characters there are."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.cli.chart import EIGHTHS, HEIGHT, Bar, chart
from rollout.cli.terminal import Look, cells

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LINES = {1.0: "suspicion", 20.0: "fails"}


def bars(*values: float) -> list[Bar]:
    return [Bar(at=NOON + timedelta(minutes=minute), value=value) for minute, value in enumerate(values)]


def body(drawn: list[str]) -> list[str]:
    return [line.partition("|")[2] for line in drawn[:HEIGHT]]


def test_a_rise_is_seen_and_the_lines_stand_where_they_belong() -> None:
    drawn = chart(bars(*[0.5] * 20, 2, 8, 30, 100), LINES, Look(width=60), zone=UTC)
    assert next(line for line in drawn if "fails" in line).split("|")[0].strip() == "20"
    assert drawn.index(next(line for line in drawn if "fails" in line)) < drawn.index(
        next(line for line in drawn if "suspicion" in line)
    )
    top, bottom = body(drawn)[0], body(drawn)[-1]
    assert set(top.rstrip()[:-4].strip()) <= {" "}
    assert top.rstrip()[-1] in EIGHTHS
    assert all(character in EIGHTHS for character in bottom)
    assert drawn[-1].split() == ["12:00", "12:23"]


def test_marks_stand_under_their_bars() -> None:
    some = bars(1, 1, 1, 1)
    some[2] = Bar(at=some[2].at, value=1, mark="v")
    *_, marks, _axis = chart(some, LINES, Look(width=50), zone=UTC)
    room = 50 - 8 - 2 - len("suspicion") - 1
    assert marks.index("v") == 10 + room * 2 // 3


@pytest.mark.parametrize("unicode", [True, False])
@given(
    st.lists(st.floats(0, 1e120), min_size=1, max_size=200),
    st.integers(40, 200),
    st.floats(2, 2000),
)
def test_whatever_comes_it_keeps_its_width(unicode: bool, values: list[float], width: int, threshold: float) -> None:
    drawn = chart(bars(*values), {1.0: "suspicion", threshold: "fails"}, Look(width=width, unicode=unicode), zone=UTC)
    assert all(cells(line) <= min(width, 80) for line in drawn)
    assert len(body(drawn)) == HEIGHT
    if not unicode:
        assert "".join(drawn).isascii()


def test_colours_change_nothing_but_colours() -> None:
    some = bars(0.5, 0.6, 2, 30, 5)
    plain = chart(some, LINES, Look(), zone=UTC)
    painted = chart(some, LINES, Look(colours=256), zone=UTC)
    assert [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip() for line in painted] == plain
    assert any("38;5;160" in line for line in painted)
