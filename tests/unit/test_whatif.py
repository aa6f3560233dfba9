"""What would have changed a verdict: every number that is told is tried out on the judge."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rollout.analysis.altered import altered, taken
from rollout.analysis.cells import BAD, GOOD, REPORTED, UNTIMED, Cell, bucket, custom
from rollout.analysis.exhibits import Exhibit
from rollout.analysis.replay import Judged, replay
from rollout.analysis.terms import Source
from rollout.analysis.verdict import Reason, Series, Verdict, begin, judge
from rollout.analysis.whatif import what_if
from rollout.policy import Checks, ErrorCheck, LatencyCheck, Policy
from tests.support.judging import START, cell, logs, look, policy, stage
from tests.support.played import Played, played


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A candidate that gets worse in its second step, and is rolled back."""
    found = played(tmp_path_factory.mktemp("whatif"), worse_after=12)
    yield found
    found.store.close()


def judged(
    one: Policy, baseline: Mapping[int, Cell], candidate: Mapping[int, Cell], *, read: bool = True, **changes: object
) -> Judged:
    """One look at cells that are all closed."""
    shown = {} if read else {"read_at": 0}
    series: Series = logs(baseline, candidate, **shown)
    judgement, verdict = look(one, baseline, candidate, at=stage(**changes), **shown)
    at = datetime.fromtimestamp(series.closed_before * 60, UTC)
    return Judged(at=at, stage=stage(**changes), verdict=verdict, judgement=judgement, series=(series,))


def minutes(count: int, one: Cell) -> dict[int, Cell]:
    return {START + at: one for at in range(count)}


def numbers(sentence: str) -> list[float]:
    """Every number of a sentence, in order."""
    return [float(found) for found in re.findall(r"\d+(?:\.\d+)?", sentence.replace("\u2009", ""))]


def with_bad(exhibits: Iterable[Exhibit], since: int, bad: Callable[[float, float], float]) -> list[Exhibit]:
    """The same looks, but with this many of the candidate's n requests bad, where x were, from this minute on."""

    def changed(minute: int, one: Cell | None) -> Cell | None:
        if one is None or minute < since:
            return one
        n, x = one.count(), one.count("5xx")
        at = next(iter(one.histograms["ok"]))
        parts = {"ok": {at: n - bad(x, n)}, "5xx": {at: bad(x, n)}}
        return Cell(histograms=parts)  # type: ignore[arg-type]  # parts of requests: only to be weighed

    return [
        replace(
            exhibit,
            sources=tuple(
                replace(shown, candidate={at: changed(at, one) for at, one in shown.candidate.items()})
                for shown in exhibit.sources
            ),
        )
        for exhibit in exhibits
    ]


def failing(site: Played) -> tuple[Judged, str]:
    last = list(replay(site.rollout.policy, site.store.exhibits("r1")))[-1]
    (sentence,) = what_if(last, site.rollout.policy, candidate="green")
    return last, sentence


def test_so_many_fewer_bad_requests_are_just_enough(site: Played) -> None:
    last, sentence = failing(site)
    fewer, left, bad, *_ = numbers(sentence)
    assert left + fewer == bad
    since = last.verdict.first_bad
    assert since is not None

    def action(missing: float) -> str:
        exhibits = with_bad(site.store.exhibits("r1"), since, lambda x, n: x * (1 - missing / bad))
        return list(replay(site.rollout.policy, exhibits))[-1].verdict.action

    assert action(fewer) != "fail"
    assert action(fewer - 1) == "fail"


def test_that_much_more_margin_is_just_enough(site: Played) -> None:
    _, sentence = failing(site)
    written = re.search(r"max_increase: ([\d.]+pp)", sentence)
    assert written
    points = float(written[1].removesuffix("pp"))

    def action(increase: float) -> str:
        checks = Checks(error_rate=ErrorCheck(max_increase=f"{increase:g}pp"))
        other = site.rollout.policy.model_copy(update={"checks": checks})
        return list(replay(other, site.store.exhibits("r1")))[-1].verdict.action

    assert action(points) != "fail"
    assert action(round(points - 0.1, 2)) == "fail"


def test_so_many_more_would_have_been_too_many(site: Played) -> None:
    first = [one for one in replay(site.rollout.policy, site.store.exhibits("r1")) if one.stage.step == 0][-1]
    assert first.verdict.action == "pass"
    errors = what_if(first, site.rollout.policy, candidate="green")[0]
    suspicious, failing_ones = numbers(errors)
    assert errors.startswith("Errors: ")
    assert 0 < suspicious < failing_ones
    cells = [first.series[0].candidate[minute] for minute in taken(first.series[0]) if minute >= first.stage.since]
    good = sum(one.count("ok") for one in cells)

    def verdict(more: float) -> Verdict:
        exhibits = with_bad(site.store.exhibits("r1"), 0, lambda x, n: x + (n - x) * more / good)
        return next(one for one in replay(site.rollout.policy, exhibits) if one.at == first.at).verdict

    assert verdict(suspicious).action != "pass"
    assert verdict(suspicious - 1).action == "pass"
    assert verdict(failing_ones - 1).evidence < first.verdict.threshold <= verdict(failing_ones).evidence


def test_a_suspicion_is_told_with_what_would_have_avoided_it(site: Played) -> None:
    looks = list(replay(site.rollout.policy, site.store.exhibits("r1")))
    first = next(one for one in looks if one.verdict.action == "retreat")
    (sentence,) = what_if(first, site.rollout.policy, candidate="green")
    assert sentence.endswith("it would not have been under suspicion at this look.")


def test_the_hard_guard_counts_the_last_minute() -> None:
    found = judged(policy(), minutes(3, cell(200)), minutes(3, cell(20, bad=80)))
    assert found.verdict.reason is Reason.HARD_GUARD
    (sentence,) = what_if(found, policy(), candidate="green")
    assert numbers(sentence) == [31, 49, 80]  # 49 of 100 is under a half


def test_a_maximum_counts_what_makes_it_sure() -> None:
    one = policy(checks=Checks(error_rate=ErrorCheck(max_increase="50pp", max="5%")))
    found = judged(one, minutes(6, cell(2000)), minutes(6, cell(90, bad=10)))
    assert found.verdict.reason is Reason.MAXIMUM
    (sentence,) = what_if(found, one, candidate="green")
    fewer = numbers(sentence)[0]
    assert 60 - fewer == pytest.approx(0.05 * 600 + 1.645 * (600 * 0.05 * 0.95) ** 0.5, abs=1.5)


def test_the_maximum_that_is_told_is_the_next_one_that_would_not_have_failed() -> None:
    """A maximum below stable's own rate would not have failed either: only higher ones are looked for."""

    def capped(most: str) -> Policy:
        return policy(checks=Checks(error_rate=ErrorCheck(max_increase="50pp", max=most)))

    def look_with(most: str) -> Judged:
        return judged(capped(most), minutes(6, cell(17_919, bad=81)), minutes(6, cell(1982, bad=18)))

    found = look_with("0.5%")
    assert found.verdict.reason is Reason.MAXIMUM
    (sentence,) = what_if(found, capped("0.5%"), candidate="green")
    assert "or with `max: 0.8%` instead of 0.5%, it would not have failed at this look." in sentence
    assert [look_with(most).verdict.action for most in ("0.4%", "0.7%", "0.8%")] == ["hold", "fail", "pass"]


def test_of_three_bad_requests_two_may_be_too_many() -> None:
    one = policy(checks=Checks(error_rate=ErrorCheck(max_increase="0.01pp"), client_errors=None, latency_p95=None))

    def look_with(bad: int) -> Judged:
        return judged(one, minutes(3, cell(450)), {**minutes(2, cell(50)), START + 2: cell(50 - bad, bad=bad)})

    assert [look_with(bad).verdict.action for bad in (1, 2, 3)] == ["hold", "retreat", "retreat"]
    (sentence,) = what_if(look_with(3), one, candidate="green")
    assert sentence.startswith("With 2 fewer bad requests on green (1 instead of 3), or with ")


def test_latency_is_told_in_slow_requests_and_percent() -> None:
    one = policy(checks=Checks(error_rate=None, client_errors=None, latency_p95=LatencyCheck()), min_requests=10)
    baseline = minutes(30, cell(2000, ms=100))
    candidate = minutes(30, cell(200, ms=140))
    found = judged(one, baseline, candidate)
    assert found.verdict.action in {"retreat", "fail"}
    (sentence,) = what_if(found, one, candidate="green")
    assert "slow requests" in sentence
    wider = re.search(r"latency_p95: \{max_increase: ([\d.]+)%\}", sentence)
    assert wider
    assert 35 <= float(wider[1]) <= 45  # 140 ms are 40 % above 100 ms


@pytest.mark.parametrize(
    ("changes", "candidate", "told"),
    [
        ({"bake": 10}, 4, "With 6 more judged minutes and nothing else changed, the bake would be over."),
        ({"bake": 5}, 4, "With 1 more judged minute and nothing else changed, the bake would be over."),
        ({"bake": 4}, 4, "With 260 more requests on green in this step, it could have been judged."),
    ],
)
def test_what_is_missing_is_told(changes: dict[str, int], candidate: int, told: str) -> None:
    one = policy(checks=Checks(latency_p95=None), first_step="as_written")
    found = judged(one, minutes(candidate, cell(90)), minutes(candidate, cell(10)), **changes)
    assert what_if(found, one, candidate="green") == (told,)


def test_where_numbers_would_change_nothing_nothing_is_told() -> None:
    found = judged(policy(), {}, {}, read=False)
    assert found.verdict.reason is Reason.NO_DATA
    assert what_if(found, policy(), candidate="green") == ()


def test_blocks_that_do_not_give_the_evidence_back_tell_nothing(site: Played, tmp_path: Path) -> None:
    last, _ = failing(site)
    series = tuple(replace(one, candidate={}) for one in last.series)
    assert what_if(replace(last, series=series), site.rollout.policy, candidate="green") == ()


# --- sources beside the logs

OWN = policy(
    checks={"custom": [{"name": "empty_answers", "kql": "AmlOnlineEndpointTrafficLog"}]},
    expert={"evidence": []},
    when={"suspicion": "hold"},
)


def counted(n: int, bad: int) -> Cell:
    return Cell(histograms={custom("empty_answers"): {GOOD: n - bad, BAD: bad}})


def in_source(source: Source, one: Policy, baseline: Cell, candidate: Cell, count: int = 10, **shown: Any) -> Judged:
    series = replace(logs(minutes(count, baseline), minutes(count, candidate)), source=source, **shown)
    now = series.closed_before
    judgement, verdict = judge(begin(one), policy=one, stage=stage(), series=[series], now=now)
    at = datetime.fromtimestamp(now * 60, UTC)
    return Judged(at=at, stage=stage(), verdict=verdict, judgement=judgement, series=(series,))


def test_what_an_own_check_counted_is_told_in_its_own_name() -> None:
    found = in_source("custom", OWN, counted(900, 9), counted(100, 10), 6)
    assert found.verdict.reason is Reason.REGRESSION
    (sentence,) = what_if(found, OWN, candidate="green")
    fewer, left, before = numbers(sentence)[:3]
    assert (before, fewer + left) == (60, 60)
    wider = re.search(r"`empty_answers: \{max_increase: ([\d.]+)pp\}` instead of 1pp", sentence)
    assert wider
    borne = altered(OWN, "empty_answers", max_increase=float(wider[1]) / 100)
    assert in_source("custom", borne, counted(900, 9), counted(100, 10), 6).verdict.action != "fail"


def test_a_pass_by_an_own_check_says_what_it_could_bear() -> None:
    found = in_source("custom", OWN, counted(900, 9), counted(100, 1))
    assert found.verdict.action == "pass"
    (sentence,) = what_if(found, OWN, candidate="green")
    assert sentence.startswith("Empty_answers: it would have taken about this many more bad requests on green")


def test_of_reported_latency_another_maximum_is_told() -> None:
    one = policy(expert={"evidence": ["metrics"]}, checks={"latency_p95": {"max": "800ms"}})
    theirs, ours = (
        Cell(histograms={"ok": {UNTIMED: 900}, REPORTED["latency_p95"]: {bucket(ms): 1}}) for ms in (500.0, 900.0)
    )
    found = in_source("metrics", one, theirs, ours)
    assert found.verdict.reason is Reason.MAXIMUM
    (sentence,) = what_if(found, one, candidate="green")
    most = re.search(r"With `max: (\d+)ms` instead of 800ms, it would not have failed", sentence)
    assert most
    assert in_source("metrics", altered(one, "latency_p95", max=int(most[1])), theirs, ours).verdict.action != "fail"


def test_the_very_next_millisecond_may_be_enough() -> None:
    one = policy(expert={"evidence": ["metrics"]}, checks={"latency_p95": {"max": "800ms"}})
    theirs, ours = (
        Cell(histograms={"ok": {UNTIMED: 900}, REPORTED["latency_p95"]: {bucket(ms): 1}}) for ms in (500.0, 900.0)
    )

    def told(most: int) -> int:
        tight = altered(one, "latency_p95", max=most)
        (sentence,) = what_if(in_source("metrics", tight, theirs, ours), tight, candidate="green")
        found = re.search(rf"With `max: (\d+)ms` instead of {most}ms, ", sentence)
        assert found
        return int(found[1])

    least = told(800)
    assert told(least - 1) == least
    assert told(least - 2) == least


def test_probes_in_a_row_are_no_numbers() -> None:
    one = policy(probes={"requests": ["{}"]}, expert={"evidence": ["probes"]})
    found = in_source("probes", one, cell(60), cell(60), 2, failed_pairs=10)
    assert found.verdict.reason is Reason.HARD_GUARD
    assert what_if(found, one, candidate="green") == ()
