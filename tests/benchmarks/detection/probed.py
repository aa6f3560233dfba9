"""Crashes, as the prober sees them: its own stream of pairs, on a clock that jumps from answer to answer.

The rule: `rollout.prober.stream.Stream` decides when pairs are sent and when it is a crash; only the answers are made up.
A crash begins at a random moment between two pairs.
"""

import heapq
from dataclasses import dataclass
from typing import Any

import numpy as np

from rollout.analysis.engine import Array
from rollout.analysis.guards import CRASHED_PAIRS
from rollout.policy import Probes
from rollout.ports import Answer
from rollout.prober.prober import LOOK_EVERY
from rollout.prober.stream import HURRIED, Stream
from rollout.world import EndpointRef
from tests.benchmarks.detection.workload import Endpoint

PROBES = Probes(requests=("{}",))
QUICK, TIMEOUT = 0.05, PROBES.timeout.total_seconds()  # seconds until an answer
GOOD, ERROR, HUNG = (
    Answer(status=200, cls="ok", milliseconds=1000 * QUICK),
    Answer(status=502, cls="5xx", milliseconds=1000 * QUICK),
    Answer(status=None, cls="timeout", milliseconds=1000 * TIMEOUT),
)
LONGEST = 600.0  # seconds after which a crash counts as not seen


@dataclass(frozen=True)
class Crash:
    """What is wrong with the candidate: this part of its answers is bad, late or at once."""

    part: float
    hangs: bool = False


CRASHES = {
    "+50pp": Crash(0.50),
    "every answer is an error": Crash(1.0),
    "every answer hangs": Crash(1.0, hangs=True),
}


def seconds_to_crash(crash: Crash, base: float, rng: np.random.Generator) -> float:
    """From the fault to the moment at which the stream says that it is a crash; infinite where it does not in time."""
    stream = Stream(rollout_id="r", ref=EndpointRef(workspace="w", name="e"), probes=PROBES)
    endpoint: Any = object()  # it is only asked whether there is one
    stream.endpoint, stream.wanted, stream.due = endpoint, True, float(rng.random()) * stream.interval(60.0)
    answers: list[tuple[float, int, Any, str, Answer]] = []
    now, count = 0.0, 0
    while now < LONGEST:
        due = stream.next_due()
        now = min([now + LOOK_EVERY, *([max(due, now)] if due is not None else []), *(one[0] for one in answers[:1])])
        while answers and answers[0][0] <= now:
            _, _, flight, role, answer = heapq.heappop(answers)
            pair = flight.take(role, answer, now)
            if pair is not None and stream.landed(flight, pair, 0, now):
                return now
        stream.look(now)
        if due is not None and stream.next_due() is not None and stream.due <= now:
            flight = stream.begin(now, 60.0)
            for role, answer in (
                ("baseline", _answer(Crash(0.0), base, rng)),
                ("candidate", _answer(crash, base, rng)),
            ):
                count += 1
                heapq.heappush(answers, (now + answer.milliseconds / 1000, count, flight, role, answer))
    return float("inf")


def _answer(crash: Crash, base: float, rng: np.random.Generator) -> Answer:
    if rng.random() < crash.part:
        return HUNG if crash.hangs else ERROR
    return ERROR if rng.random() < base else GOOD


def false_crashes(endpoint: Endpoint) -> Array:
    """For each rollout, at most so many crashes are seen by chance: as if every minute were probed in the greatest hurry."""
    ids, total = np.arange(endpoint.rollouts), np.zeros(endpoint.rollouts)
    for minute, place in endpoint.schedule():
        truth = endpoint.truth(minute, ids, **place)
        only = truth.errors[1] * (1.0 - truth.errors[0])
        total += 60.0 / HURRIED * only**CRASHED_PAIRS
    return total
