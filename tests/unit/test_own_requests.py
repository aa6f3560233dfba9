"""Platform metrics without our own probes: by deployment, minute and class, never below zero."""

from hypothesis import given
from hypothesis import strategies as st

from rollout.analysis.cells import CLASSES, UNTIMED, Cell
from rollout.collector.own import without

COUNTS = st.dictionaries(st.sampled_from(CLASSES), st.integers(1, 50))


def counted(**counts: int) -> Cell:
    return Cell(histograms={name.removeprefix("c"): {UNTIMED: count} for name, count in counts.items()})


def probed(**counts: int) -> Cell:
    return Cell(histograms={name: {20: count} for name, count in counts.items()} | {"answer_size": {80: 5}})


def test_probes_are_taken_out_of_their_own_minute_and_deployment() -> None:
    live, ours = counted(ok=100, model_5xx=12), probed(ok=50, model_5xx=10)

    left = without({"blue": {7: live, 8: live}, "green": {7: live}}, {"blue": {7: ours}, "purple": {7: ours}})

    assert left["blue"][7].sizes == {"ok": 50, "model_5xx": 2}
    assert left["blue"][8] == live
    assert left["green"][7] == live


def test_an_answer_that_was_not_awaited_may_be_told_as_given_up() -> None:
    left = without({"green": {7: counted(ok=5, timeout=2, gone=6)}}, {"green": {7: probed(timeout=7)}})

    assert left["green"][7].sizes == {"ok": 5, "gone": 1}


def test_measures_are_left_alone() -> None:
    cell = Cell(histograms={"ok": {UNTIMED: 3}, "reported_p95": {60: 1}})

    assert without({"green": {7: cell}}, {"green": {7: probed(ok=3)}})["green"][7].histograms == {
        "reported_p95": {60: 1}
    }


@given(live=COUNTS, ours=COUNTS)
def test_what_is_left_is_the_live_traffic_and_never_below_zero(live: dict[str, int], ours: dict[str, int]) -> None:
    both = {name: live.get(name, 0) + ours.get(name, 0) for name in CLASSES}
    shown = Cell(histograms={name: {UNTIMED: count} for name, count in both.items() if count})

    assert without({"g": {0: shown}}, {"g": {0: probed(**ours)}})["g"][0].sizes == live
    less = without(
        {"g": {0: Cell(histograms={name: {UNTIMED: n} for name, n in live.items()})}}, {"g": {0: probed(**ours)}}
    )
    assert all(0 < count <= live[name] for name, count in less["g"][0].sizes.items())
