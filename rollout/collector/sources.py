"""Sources: where a workspace is read from, and how each source has been doing.

The rule: a source that fails is remembered with its sentence; one that asks to be left alone is left alone.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rollout.analysis.cells import REPORTED
from rollout.errors import RefusedError, RolloutError, ThrottledError
from rollout.policy import Policy
from rollout.ports import Clock, Endpoints, Logs, Telemetry

#: The lag is learned from this many last reads.
LAG_MEMORY = 30
#: Asked to slow down without being told for how long: this long, doubled each time in a row, up to a limit.
SLOW_DOWN, SLOW_DOWN_MOST = timedelta(seconds=30), timedelta(minutes=5)
#: A source whose reads fail for so long is trouble to tell; before, it is a hiccup.
HICCUP = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class WorkspaceSources:
    """Where one workspace of the settings is read from. The keys name what several workspaces may share."""

    workspace: str
    endpoints: Endpoints
    logs_key: Hashable | None = None
    logs: Logs | None = None
    metrics_key: Hashable | None = None
    metrics: Telemetry | None = None

    def key(self, source: str) -> Hashable | None:
        """The key of this workspace's logs (which a policy's own checks are read from, too) or metrics."""
        return {"logs": self.logs_key, "custom": self.logs_key, "metrics": self.metrics_key}.get(source)

    def missing(self, source: str) -> str | None:
        """Why this workspace has no such source, in a sentence; None if it has."""
        if source in {"logs", "custom"} and self.logs is None:
            what = "promotion is decided on its logs" if source == "logs" else "the policy's own checks read its logs"
            return f"workspace {self.workspace} has no log_workspace in the settings, and {what}"
        if source == "metrics" and self.metrics is None:
            return (
                f"workspace {self.workspace} reads no metrics (`metrics: none` in the settings), and this policy is judged "
                "by them alone"
            )
        return None

    def telemetry(self, source: str) -> Telemetry | None:
        """This workspace's logs or metrics."""
        return self.logs if source == "logs" else self.metrics


def measures(source: str, policy: Policy) -> bool:
    """Whether this policy is judged by what the source measures beside its requests.

    Reported latencies are of use only where no log tells the durations.
    """
    if source == "logs":
        return policy.checks.answer_size is not None
    return "logs" not in policy.expert.evidence and any(name in REPORTED for name in policy.checks.active())


@dataclass(kw_only=True)
class SourceStatus:
    """How a source has been doing: for readiness, and to say why there is no data."""

    source: str
    key: Hashable
    last_success: datetime | None = None
    last_error: str | None = None  # of the last read; None if that one worked
    failing_since: datetime | None = None  # when the first of the reads failed that have failed in a row
    proven: bool = False  # it is known to have worked before this process asked it
    not_before: datetime | None = None  # asked to slow down until then
    throttled: int = 0  # how often in a row
    rechecked_at: datetime | None = None
    refused: bool = False  # the last error needs a person
    arrivals: deque[timedelta] = field(default_factory=lambda: deque(maxlen=LAG_MEMORY))

    def slowed(self, now: datetime) -> bool:
        """The source asked not to be asked now."""
        return self.not_before is not None and now < self.not_before

    def trouble(self, now: datetime) -> str | None:
        """Why it cannot be read, if that will not pass by itself, has lasted, or was never otherwise."""
        worked = self.proven or self.last_success is not None
        lasted = self.failing_since is not None and now - self.failing_since >= HICCUP
        return self.last_error if self.refused or lasted or not worked else None


class remembering:  # noqa: N801  (reads as a verb where it is used)
    """Remember in a source's status how the read inside went; errors go on their way."""

    def __init__(self, status: SourceStatus, clock: Clock) -> None:
        self._status = status
        self._clock = clock

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        status, now = self._status, self._clock.now()
        if error is None:
            status.last_success, status.last_error, status.refused = now, None, False
            status.failing_since = None
            status.not_before, status.throttled = None, 0
        elif isinstance(error, RolloutError):
            status.last_error, status.refused = error.message, isinstance(error, RefusedError)
            status.failing_since = status.failing_since or now
            if isinstance(error, ThrottledError):
                status.not_before = now + patience(error, status.throttled)
                status.throttled += 1


def patience(error: ThrottledError, before: int) -> timedelta:
    """How long to leave a source alone that asked for it; it has asked `before` times in a row already."""
    if error.retry_after:
        return timedelta(seconds=error.retry_after)
    return min(SLOW_DOWN * (1 << min(before, 10)), SLOW_DOWN_MOST)
