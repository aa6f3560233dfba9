"""The trial before a rollout: does each of the two deployments answer each sample request?

The rule: asked one by one, stable first, until one does not answer well; a request that was refused as the caller's fault
will be refused again, so a person must act; all else may pass by itself.
"""

from collections.abc import Callable
from datetime import datetime

from rollout.analysis.cells import CLIENT_ERROR_CLASSES
from rollout.errors import RefusedError, RolloutError
from rollout.policy import Probes
from rollout.ports import Answer, Scoring
from rollout.world import EndpointState, Trial


def made(
    scoring: Scoring, endpoint: EndpointState, probes: Probes, *, names: tuple[str, str], now: Callable[[], datetime]
) -> Trial:
    """How the deployments (stable, candidate) answered; waits for every answer."""
    for number, request in enumerate(probes.requests, start=1):
        which = (
            "the sample request" if len(probes.requests) == 1 else f"sample request {number} of {len(probes.requests)}"
        )
        for name in names:
            try:
                answer = scoring.send(endpoint, request.encode(), deployment=name, timeout=probes.timeout)
            except RolloutError as error:
                return Trial(at=now(), problem=error.message.rstrip("."), final=isinstance(error, RefusedError))
            if answer.cls != "ok":
                return Trial(at=now(), problem=f"{name} {_said(answer)} to {which}", final=_final(answer))
    return Trial(at=now())


def _said(answer: Answer) -> str:
    return f"answered {answer.why.rstrip('.')}" if answer.status is not None else f"gave {answer.why}"


def _final(answer: Answer) -> bool:
    return answer.cls in CLIENT_ERROR_CLASSES
