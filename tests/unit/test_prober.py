"""The prober: pairs at their pace, crashes told at once, minutes kept like those of any other source."""

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import LogCapture

from rollout.analysis.cells import bucket
from rollout.analysis.guards import CRASHED_PAIRS
from rollout.errors import RefusedError, UnavailableError
from rollout.lifecycle import Phase, Rollout
from rollout.policy import Probes
from rollout.ports import Answer
from rollout.prober import AT_ONCE, Prober
from rollout.prober.pairs import Pair
from rollout.prober.stream import UNDER_WAY, UNDER_WAY_HURRIED, Stream
from rollout.store import SqlStore, open_store
from rollout.world import EndpointRef, EndpointState, Split
from tests.support.local_azure import HandClock
from tests.support.models import FAILED, GOOD, HUNG, LOCKED, REFUSED, UNREACHED, LocalModels
from tests.support.stories import REF, a_policy, a_rollout

PROBES = Probes(requests=('{"a": 1}', '{"a": 2}'))
POLICY = a_policy(probes=PROBES)
ENDPOINT = EndpointState(
    name=REF.name,
    resource_id="/x",
    state="Succeeded",
    traffic=Split.of({"blue": 95, "green": 5}),
    scoring_uri="https://x/score",
)


# --- the pace: simulated, in real seconds


@dataclass
class Race:
    """A stream whose answers come after their own time; `models` says what a deployment answers to a pair begun then."""

    models: Callable[[str, float], Answer]
    stream: Stream = field(default_factory=lambda: Stream(rollout_id="r1", ref=REF, probes=PROBES))
    begun: list[float] = field(default_factory=list)
    most: int = 0

    def run(self, *, until: float) -> float | None:
        """Play it; when a crash was told, None if none was."""
        self.stream.follow(a_rollout(policy=POLICY), ENDPOINT, wanted=True, now=0.0)
        waiting: list[tuple[float, int, Any]] = []
        order = count()
        for look in range(int(until / 0.05)):
            now = look * 0.05
            while waiting and waiting[0][0] <= now:
                at, _, (flight, role, answer) = heapq.heappop(waiting)
                pair = flight.take(role, answer, at)
                if pair is not None and self.stream.landed(flight, pair, 0, at):
                    return at
            self.stream.look(now)
            while (due := self.stream.next_due()) is not None and due <= now:
                flight = self.stream.begin(now, 60.0)
                self.begun.append(now)
                for role, name in (("baseline", "blue"), ("candidate", "green")):
                    answer = self.models(name, now)
                    heapq.heappush(waiting, (now + answer.milliseconds / 1000, next(order), (flight, role, answer)))
            self.most = max(self.most, len(self.stream.flights))
        return None


def breaking(at: float, answer: Answer) -> Callable[[str, float], Answer]:
    """Green answers so from this moment on."""
    return lambda name, now: answer if name == "green" and now >= at else GOOD


@settings(max_examples=60, deadline=None)
@given(at=st.floats(5.0, 6.0), slow=st.floats(1.0, 1500.0))
def test_a_hang_is_told_within_ten_seconds(at: float, slow: float) -> None:
    usual = replace(GOOD, milliseconds=slow)
    race = Race(lambda name, now: HUNG if name == "green" and now >= at else usual)

    told = race.run(until=30.0)

    assert told is not None
    assert told - at <= 9.5
    assert race.most <= UNDER_WAY_HURRIED


@settings(max_examples=30, deadline=None)
@given(at=st.floats(20.0, 21.0), slow=st.floats(600.0, 2500.0))
def test_a_candidate_that_is_slow_by_nature_is_no_suspect(at: float, slow: float) -> None:
    """It is asked as often as any other, and its hang is told as soon."""

    def models(name: str, now: float) -> Answer:
        usual = replace(GOOD, milliseconds=slow if name == "green" else 80.0)
        return HUNG if name == "green" and now >= at else usual

    race = Race(models)
    told = race.run(until=40.0)

    assert told is not None
    assert told - at <= 9.9
    assert len([begun for begun in race.begun if begun < at]) <= at + 2 * UNDER_WAY_HURRIED


@settings(max_examples=60, deadline=None)
@given(at=st.floats(5.0, 6.0), answer=st.sampled_from([FAILED, replace(FAILED, status=None, cls="5xx")]))
def test_a_crash_is_told_within_five_seconds(at: float, answer: Answer) -> None:
    race = Race(breaking(at, answer))

    told = race.run(until=30.0)

    assert told is not None
    assert told - at <= 5.0
    assert race.most <= UNDER_WAY


def test_a_healthy_candidate_is_asked_as_often_as_the_policy_says() -> None:
    race = Race(lambda _name, _now: GOOD)

    assert race.run(until=120.0) is None
    assert len(race.begun) == 120
    assert race.most == 1


def test_slow_answers_bound_how_many_are_under_way() -> None:
    slow = replace(GOOD, milliseconds=30_000.0)
    race = Race(lambda _name, _now: slow)

    assert race.run(until=120.0) is None
    assert race.most == UNDER_WAY


def test_a_hang_of_both_is_nobodys_crash() -> None:
    race = Race(lambda _name, _now: HUNG)

    assert race.run(until=60.0) is None
    assert race.stream.failed == 0
    assert len(race.begun) <= 60


def test_one_good_answer_ends_the_suspicion() -> None:
    race = Race(lambda name, now: FAILED if name == "green" and 5.0 <= now < 6.0 else GOOD)

    assert race.run(until=65.0) is None
    assert race.stream.failed == 0
    assert len(race.begun) < 75  # some more at once, then the usual pace


def test_what_goes_on_failing_is_asked_as_usual() -> None:
    race = Race(breaking(0.0, FAILED))
    race.run(until=60.0)
    crashed = len(race.begun)
    assert race.stream.failed == CRASHED_PAIRS

    assert not race.stream.hurried
    assert crashed == CRASHED_PAIRS
    assert race.stream.interval(60.0) == 1.0


@settings(max_examples=200, deadline=None)
@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from([GOOD, FAILED, HUNG, REFUSED]), st.sampled_from([GOOD, FAILED, HUNG, REFUSED, LOCKED])
        )
    )
)
def test_failed_pairs_are_those_in_a_row_that_only_the_candidate_failed(answers: list[tuple[Answer, Answer]]) -> None:
    stream = Stream(rollout_id="r1", ref=REF, probes=PROBES)
    stream.follow(a_rollout(policy=POLICY), ENDPOINT, wanted=True, now=0.0)
    row = 0

    for baseline, candidate in answers:
        pair = Pair(baseline=baseline, candidate=candidate)
        stream.landed(stream.begin(0.0, 60.0), pair, 0, 0.0)
        if LOCKED not in (baseline, candidate):
            row = row + 1 if baseline is GOOD and candidate in (FAILED, HUNG) else 0
        assert stream.failed == row


def test_a_pair_that_reached_nobody_says_nothing() -> None:
    assert not Pair(baseline=UNREACHED, candidate=UNREACHED).counts
    assert not Pair(baseline=GOOD, candidate=LOCKED).counts
    assert Pair(baseline=GOOD, candidate=UNREACHED).counts
    assert Pair(baseline=GOOD, candidate=UNREACHED).failed
    assert not Pair(baseline=FAILED, candidate=FAILED).failed


# --- the prober itself: its clock moves when told, and what it sends is answered at once


@dataclass
class Bench:
    """A prober over a real store."""

    store: SqlStore
    models: LocalModels = field(default_factory=LocalModels)
    clock: HandClock = field(default_factory=HandClock)
    changed: list[EndpointRef] = field(default_factory=list)
    busy: UnavailableError | None = None
    noting: Callable[[], None] = field(default=lambda: None)
    log: structlog.stdlib.BoundLogger = field(default_factory=structlog.stdlib.get_logger)
    prober: Prober = field(init=False)

    def __post_init__(self) -> None:
        self.prober = Prober(
            store=self.store,
            clock=self.clock,
            scoring={REF.workspace: self.models},
            on_change=self.note,
            submit=lambda work: work(),
            log=self.log,
        )

    def note(self, refs: Iterable[EndpointRef]) -> None:
        self.noting()
        if self.busy is not None:
            raise self.busy
        self.changed += refs

    def follow(self, **changes: Any) -> Rollout:
        rollout = a_rollout(policy=POLICY, **changes)
        self.prober.follow(rollout, ENDPOINT)
        return rollout

    def run(self, seconds: int) -> None:
        """Time passes, second by second."""
        for _ in range(seconds):
            self.prober.round()
            self.clock.move(1)

    @property
    def minute(self) -> int:
        return int(self.clock.now().timestamp() // 60)

    def stored(self) -> Any:
        return self.store.cells("probes", REF, start=self.minute - 60, end=self.minute + 1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    store = open_store(f"sqlite:///{tmp_path / 'rollout.db'}", exclusive=True)
    yield Bench(store=store)
    store.close()


def test_minutes_are_stored_as_they_end(bench: Bench) -> None:
    bench.models.answers["green"] = REFUSED
    bench.follow()
    first = bench.minute
    bench.run(150)

    stored = bench.stored()
    assert stored.closed_before == bench.minute
    assert set(stored.cells) == {"blue", "green"}
    assert stored.cells["blue"][first + 1].histograms["ok"] == {bucket(80): 60}
    assert stored.cells["blue"][first + 1].measure("answer_size") == {bucket(1000): 60}
    assert stored.cells["green"][first + 1].histograms == {"model_4xx": {bucket(20): 60}}
    assert max(stored.cells["blue"]) < bench.minute
    assert bench.changed == [REF] * (bench.minute - first)


def test_requests_are_sent_in_turn_to_both(bench: Bench) -> None:
    bench.follow()
    bench.run(4)

    for name in ("blue", "green"):
        assert [body for asked, body in bench.models.asked if asked == name] == [b'{"a": 1}', b'{"a": 2}'] * 2


def test_deployments_are_asked_by_the_names_that_azure_gives_them(bench: Bench) -> None:
    bench.follow(stable="Blue", candidate="GREEN")
    bench.run(60)
    bench.prober.round()

    assert {name for name, _ in bench.models.asked} == {"Blue", "GREEN"}
    assert bench.stored().cells.keys() == {"blue", "green"}


def test_ten_failed_pairs_are_told_at_once(bench: Bench) -> None:
    bench.follow()
    bench.run(30)
    bench.models.answers["green"] = FAILED
    while bench.prober.failed_pairs("r1") < CRASHED_PAIRS:
        assert bench.changed == []
        bench.run(1)

    assert bench.changed == [REF]
    stored = bench.stored()
    assert stored.cells["green"][bench.minute].count("model_5xx") >= CRASHED_PAIRS  # seen, though its minute still runs
    assert stored.closed_before <= bench.minute


def test_a_crash_is_told_again_where_telling_failed(bench: Bench) -> None:
    bench.models.answers["green"] = FAILED
    bench.follow()
    bench.busy = UnavailableError("the store is busy")
    with pytest.raises(UnavailableError):
        bench.run(30)
    assert bench.prober.failed_pairs("r1") == CRASHED_PAIRS
    bench.busy = None
    bench.run(1)
    assert bench.changed == [REF]


@pytest.mark.parametrize(
    "changes",
    [
        {"share": 0},
        {"phase": Phase.ROLLING_BACK},
        {"phase": Phase.ROLLED_BACK},
        {"phase": Phase.SUCCEEDED},
        {"phase": Phase.PREPARING, "share": 0},
    ],
)
def test_nothing_is_sent_where_nothing_is_judged(bench: Bench, changes: dict[str, Any]) -> None:
    bench.follow()
    bench.run(5)
    bench.follow(**changes)
    sent = len(bench.models.asked)
    trial = 4 * (changes["phase"] is Phase.PREPARING) if "phase" in changes else 0
    bench.run(120)

    assert len(bench.models.asked) <= sent + trial
    assert bench.stored().cells["blue"]  # what was seen before is not lost


@pytest.mark.parametrize("phase", [Phase.RETREATED, Phase.WAITING, Phase.PAUSED, Phase.PROMOTING])
def test_judged_phases_are_probed(bench: Bench, phase: Phase) -> None:
    bench.follow(phase=phase)
    bench.run(5)

    assert len(bench.models.asked) == 10


def test_an_ended_rollout_is_forgotten(bench: Bench) -> None:
    bench.follow()
    bench.run(5)
    bench.follow(phase=Phase.ROLLED_BACK)
    bench.run(70)

    assert bench.prober.round() is None  # rests until somebody wakes it
    assert bench.prober.failed_pairs("r1") == 0


def test_who_is_not_looked_at_is_not_probed(bench: Bench) -> None:
    bench.follow()
    bench.run(400)
    sent = len(bench.models.asked)
    bench.run(60)

    assert len(bench.models.asked) == sent


def test_fresh_evidence_begins_with_no_failed_pairs(bench: Bench) -> None:
    bench.models.answers["green"] = FAILED
    rollout = bench.follow()
    bench.run(20)
    assert bench.prober.failed_pairs("r1") >= CRASHED_PAIRS
    bench.follow(judged_from=rollout.created_at + timedelta(hours=1))

    assert bench.prober.failed_pairs("r1") == 0


def test_without_a_key_nothing_counts_and_it_is_told_why(bench: Bench) -> None:
    bench.models.broken = RefusedError("Cannot get the key of endpoint x: Azure answered 403.")
    bench.follow()
    bench.run(130)

    assert bench.prober.trouble("r1") == "Cannot get the key of endpoint x: Azure answered 403."
    assert bench.stored().read_at is None  # nobody was asked: no reading
    assert len(bench.models.asked) <= 2 * 5  # and it is not tried at the usual pace
    bench.models.broken = None
    bench.run(130)
    assert bench.prober.trouble("r1") is None
    assert bench.stored().cells["green"]


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_not_let_in_says_why_slows_down_and_has_read_nothing(bench: Bench, status: int) -> None:
    log = LogCapture()
    bench.log = structlog.wrap_logger(None, processors=[log], wrapper_class=structlog.stdlib.BoundLogger)
    bench.__post_init__()
    bench.models.answers = dict.fromkeys(("blue", "green"), replace(LOCKED, status=status, why=f"{status}: Go away."))
    bench.follow()
    bench.run(130)

    told = bench.prober.trouble("r1") or ""
    assert told.startswith(f"Endpoint {REF.name} lets no probes in: it answered {status}: Go away. Check")
    assert [line["reason"] for line in log.entries] == [told]  # once
    assert bench.stored().read_at is None  # nobody was judged: no reading
    assert len(bench.models.asked) <= 2 * 5
    bench.models.answers = {}
    bench.run(130)
    assert bench.prober.trouble("r1") is None
    assert bench.stored().cells["green"]


@pytest.mark.parametrize(
    ("deployment", "answer", "problem", "final"),
    [
        ("green", REFUSED, "green answered 424, the model answered 400: no such column to sample request 1 of 2", True),
        ("green", HUNG, "green gave no answer within 4 s to sample request 1 of 2", False),
        ("blue", FAILED, "blue answered 424, the model answered 500 to sample request 1 of 2", False),
    ],
)
def test_a_trial_before_the_start(bench: Bench, deployment: str, answer: Answer, problem: str, final: bool) -> None:
    bench.models.answers[deployment] = answer
    bench.follow(phase=Phase.PREPARING, share=0)
    trial = bench.prober.trial("r1")

    assert trial is not None
    assert (trial.problem, trial.final) == (problem, final)
    assert bench.changed == [REF]
    del bench.models.answers[deployment]
    bench.clock.move(10)
    bench.follow(phase=Phase.PREPARING, share=0)
    again = bench.prober.trial("r1")
    assert again is not None
    assert (again.problem is None) == (not final)  # what is final is not tried again


def test_a_candidate_that_is_still_being_created_is_not_tried(bench: Bench) -> None:
    bench.models.answers["green"] = REFUSED  # as Azure answers for a deployment that is not there yet
    bench.follow(phase=Phase.PREPARING, share=0, pins=None)
    assert bench.prober.trial("r1") is None
    assert bench.models.asked == []
    del bench.models.answers["green"]
    bench.follow(phase=Phase.PREPARING, share=0)
    trial = bench.prober.trial("r1")
    assert trial is not None
    assert trial.problem is None


def test_all_rollouts_together_are_bounded(tmp_path: Path) -> None:
    """Threads that hang in answers: no more pairs are begun than there is room for."""
    store = open_store(f"sqlite:///{tmp_path / 'rollout.db'}", exclusive=True)
    hold, clock, models = threading.Event(), HandClock(), LocalModels()
    models.before = lambda _deployment: assert_true(hold.wait(30))
    threads: list[threading.Thread] = []

    def submit(work: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()

    prober = Prober(
        store=store,
        clock=clock,
        scoring={REF.workspace: models},
        on_change=lambda _refs: None,
        submit=submit,
        log=structlog.stdlib.get_logger(),
    )
    for number in range(40):
        ref = EndpointRef(workspace=REF.workspace, name=f"e{number}")
        prober.follow(a_rollout(f"r{number}", ref, policy=POLICY), ENDPOINT)
    for _ in range(5):
        prober.round()
        clock.move(1)
    assert len(threads) == 2 * AT_ONCE
    hold.set()
    for thread in threads:
        thread.join(30)
    prober.round()
    store.close()


def assert_true(value: bool) -> None:
    assert value


def test_the_thread_begins_and_stops(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'rollout.db'}", exclusive=True)
    asked, clock = threading.Event(), HandClock()
    models = LocalModels(before=lambda _deployment: asked.set())
    prober = Prober(
        store=store,
        clock=clock,
        scoring={REF.workspace: models},
        on_change=lambda _refs: None,
        submit=lambda work: partial(work)(),
        log=structlog.stdlib.get_logger(),
    )
    prober.start()
    prober.follow(a_rollout(policy=POLICY), ENDPOINT)
    assert asked.wait(30)
    prober.stop(30)
    store.close()


def test_what_goes_on_failing_is_logged_once(bench: Bench) -> None:
    """The thread comes back to it four times a second."""
    log, again = LogCapture(), threading.Semaphore(0)
    bench.log = structlog.wrap_logger(None, processors=[log], wrapper_class=structlog.stdlib.BoundLogger)
    bench.__post_init__()
    bench.models.answers["green"] = FAILED
    bench.follow()
    bench.busy, bench.noting = UnavailableError("the store is busy"), again.release
    with pytest.raises(UnavailableError):
        bench.run(30)
    bench.prober.start()
    assert all(again.acquire(timeout=30) for _ in range(3))
    bench.prober.stop(30)

    assert [line["reason"] for line in log.entries if "does not take" in line["event"]] == ["the store is busy"]
