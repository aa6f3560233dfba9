"""The smoke test before a rollout: many sample requests to each deployment, and what their answers must be like.

The rule: what a warm-up answers does not count. After it every answer of both must be good; the candidate's must come in
time and look like stable's. A candidate that has answered well and then fails is not still starting: that is final.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from math import ceil

from rollout.analysis.cells import CLIENT_ERROR_CLASSES
from rollout.policy import SmokeTest
from rollout.ports import Answer, Scoring
from rollout.prober.shapes import Shape
from rollout.world import EndpointState, Trial

#: The part of the answers that must have come within `max_latency`.
IN_TIME = 0.95
#: Differences of shape that are told.
MOST_TOLD = 3


@dataclass(eq=False, kw_only=True)
class _Side:
    """One deployment's answers so far."""

    name: str
    answered: bool = False  # one was good, be it of the warm-up
    times: list[float] = field(default_factory=list)
    shape: Shape = field(default_factory=Shape)

    def count(self, answer: Answer) -> None:
        self.answered = True
        self.times.append(answer.milliseconds)
        self.shape.take(answer.body)

    @property
    def late(self) -> float:
        """The latency that only one in twenty exceeds, in milliseconds: the nearest rank."""
        return sorted(self.times)[ceil(IN_TIME * len(self.times)) - 1]


def made(
    scoring: Scoring, endpoint: EndpointState, test: SmokeTest, *, names: tuple[str, str], now: Callable[[], datetime]
) -> Trial:
    """How the deployments (stable, candidate) did; waits for every answer. Raises what `Scoring.send` raises."""
    baseline, candidate = (_Side(name=name) for name in names)

    def send(side: _Side, body: bytes) -> Answer:
        return scoring.send(endpoint, body, deployment=side.name, timeout=test.timeout)

    for body in islice(_turns(test), test.warm_up):
        for side in (baseline, candidate):
            side.answered |= send(side, body).cls == "ok"
    for number, body in enumerate(islice(_turns(test), test.count), start=1):
        for side in (baseline, candidate):
            answer = send(side, body)
            if answer.cls != "ok":
                stays = answer.cls in CLIENT_ERROR_CLASSES or (side is candidate and side.answered)
                problem = f"{side.name} {said(answer)} to request {number} of {test.count} of the smoke test"
                return Trial(at=now(), of="smoke_test", problem=problem, final=stays)
            side.count(answer)
    problem = _slow(test, candidate, baseline) or (_differs(baseline, candidate) if test.same_shape else "")
    if problem:
        return Trial(at=now(), of="smoke_test", problem=problem, final=True)
    return Trial(at=now(), of="smoke_test", told=_passed(test, baseline, candidate))


def said(answer: Answer) -> str:
    """What is wrong with an answer, after its deployment's name."""
    return f"answered {answer.why.rstrip('.')}" if answer.status is not None else f"gave {answer.why}"


def _turns(test: SmokeTest) -> Iterator[bytes]:
    while True:
        yield from (request.encode() for request in test.requests)


def _slow(test: SmokeTest, candidate: _Side, baseline: _Side) -> str:
    bound = test.max_latency
    if bound is None or candidate.late <= bound / timedelta(milliseconds=1):
        return ""
    return (
        f"{candidate.name} answered the smoke test's requests with a 95th percentile of {candidate.late:.0f} ms, above "
        f"`max_latency` {bound / timedelta(milliseconds=1):.0f} ms ({baseline.name}: {baseline.late:.0f} ms)"
    )


def _differs(baseline: _Side, candidate: _Side) -> str:
    found = list(islice(baseline.shape.differences(candidate.shape), MOST_TOLD + 1))
    told = "; ".join(f"{place} is {there}, {baseline.name}'s is {here}" for place, here, there in found[:MOST_TOLD])
    more = "; and more" if len(found) > MOST_TOLD else ""
    return f"{candidate.name}'s answers to the smoke test have another shape: {told}{more}" if found else ""


def _passed(test: SmokeTest, baseline: _Side, candidate: _Side) -> str:
    shape = f", in the shape of {baseline.name}'s" if test.same_shape else ""
    return (
        f"{candidate.name} answered {test.count} of {test.count} requests of the smoke test{shape}: 95th percentile "
        f"{candidate.late:.0f} ms ({baseline.name}: {baseline.late:.0f} ms)."
    )
