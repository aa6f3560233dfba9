"""The trial before a rollout: does each of the two deployments answer each sample request, and pass the smoke test?

The rule: asked one by one, stable first, until one does not answer well; a request that was refused as the caller's fault
will be refused again, so a person must act; all else may pass by itself, and is tried again a few times.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from rollout.analysis.cells import CLIENT_ERROR_CLASSES
from rollout.errors import RefusedError, RolloutError
from rollout.lifecycle import Phase, Rollout
from rollout.policy import Policy, Probes
from rollout.ports import Scoring
from rollout.prober import smoke
from rollout.prober.smoke import said
from rollout.world import EndpointRef, EndpointState, Pin, Trial, TrialOf

#: How soon a trial that did not succeed is made again, in seconds.
TRY_AGAIN = 5.0
#: After so many trials in a row a person must look, whatever it was.
TRIALS = 6
_PROBES: TrialOf = "probes"
_SMOKE_TEST: TrialOf = "smoke_test"


@dataclass(eq=False, kw_only=True)
class Attempts:
    """The trials of one rollout, of the two deployments as they are now; used under the prober's lock."""

    ref: EndpointRef
    policy: Policy
    names: tuple[str, str]
    pins: tuple[Pin, Pin]
    after: datetime | None = None  # the end of the mirror steps that it came after
    trial: Trial | None = None
    made: int = 0
    at: float = 0.0
    under_way: bool = False

    def due(self, now: float) -> bool:
        """Whether a trial is to be made now; then it is under way."""
        if self.trial is not None and (self.trial.problem is None or self.trial.final or now - self.at < TRY_AGAIN):
            return False
        due, self.under_way = not self.under_way, True
        return due

    def took(self, trial: Trial, now: float) -> None:
        """It was made."""
        self.made = 0 if trial.problem is None else self.made + 1
        self.trial = replace(trial, final=trial.final or self.made >= TRIALS)
        self.at, self.under_way = now, False


def wanted(rollout: Rollout) -> bool:
    """Both deployments exist, and nothing else is awaited; the policy has something to ask them."""
    asks = rollout.policy.probes is not None or rollout.policy.smoke_test is not None
    return asks and rollout.phase is Phase.PREPARING and rollout.pins is not None and not rollout.mirrors


def attempts_of(rollout: Rollout, known: Attempts | None) -> Attempts | None:
    """The attempts to go on with: another deployment, or one that was changed in place, is tried anew. None: none."""
    if not wanted(rollout) or rollout.pins is None or not rollout.stable or not rollout.candidate:
        return None
    names, pins = (rollout.stable, rollout.candidate), rollout.pins
    after = rollout.mirroring.off_at if rollout.mirroring else None
    if (
        known is not None
        and (known.names, known.after) == (names, after)
        and not any(map(Pin.difference, known.pins, pins))
    ):
        return known
    return Attempts(ref=rollout.ref, policy=rollout.policy, names=names, pins=pins, after=after)


def made(
    scoring: Scoring, endpoint: EndpointState, policy: Policy, *, names: tuple[str, str], now: Callable[[], datetime]
) -> Trial:
    """How the deployments (stable, candidate) answered; waits for every answer."""
    trial, of = Trial(at=now()), _PROBES
    try:
        if policy.probes is not None:
            trial = _probed(scoring, endpoint, policy.probes, names=names, now=now)
        if policy.smoke_test is not None and trial.problem is None:
            of = _SMOKE_TEST
            trial = smoke.made(scoring, endpoint, policy.smoke_test, names=names, now=now)
    except RolloutError as error:
        return Trial(at=now(), of=of, problem=error.message.rstrip("."), final=isinstance(error, RefusedError))
    return trial


def _probed(
    scoring: Scoring, endpoint: EndpointState, probes: Probes, *, names: tuple[str, str], now: Callable[[], datetime]
) -> Trial:
    for number, request in enumerate(probes.requests, start=1):
        which = (
            "the sample request" if len(probes.requests) == 1 else f"sample request {number} of {len(probes.requests)}"
        )
        for name in names:
            answer = scoring.send(endpoint, request.encode(), deployment=name, timeout=probes.timeout)
            if answer.cls != "ok":
                return Trial(
                    at=now(), problem=f"{name} {said(answer)} to {which}", final=answer.cls in CLIENT_ERROR_CLASSES
                )
    return Trial(at=now())
