"""The smoke test: sample requests to both deployments by name before any traffic moves.

The rule: as with probes, a policy holds the requests themselves; what is sent, and what must come back, stands here whole.
"""

from typing import Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from rollout.documents.mistakes import rule
from rollout.documents.models import BUILT, Model
from rollout.documents.units import show
from rollout.policy.attached import MAX_FILES
from rollout.policy.probes import TIMEOUT, Request, Timeout, WrittenRequests, written_timeout

COUNT, WARM_UP, MOST = 20, 10, 200


class Demands(Model):
    """How many requests are sent, and what their answers must be like."""

    count: StrictInt = Field(
        default=COUNT, ge=1, le=MOST, description="Requests to each deployment, all of which must be answered well"
    )
    warm_up: StrictInt = Field(
        default=WARM_UP, ge=0, le=MOST, description="Requests to each deployment before them that do not count"
    )
    max_latency: Timeout | None = Field(
        default=None, description="The candidate's 95th percentile, at most", examples=["800ms"]
    )
    timeout: Timeout = Field(default=TIMEOUT, description="What takes longer is no answer", examples=["4s"])
    same_shape: StrictBool = Field(
        default=True, description="The candidate's answers have the keys, types and nesting of stable's"
    )

    @model_validator(mode="after")
    def _latency_can_be_told(self) -> Self:
        if self.max_latency is not None and self.max_latency > self.timeout:
            written = show(written_timeout(self.max_latency))
            message = f"{written} is longer than `timeout` ({written_timeout(self.timeout)}): raise `timeout`, too"
            raise rule((("max_latency",), message))
        return self


class SmokeTest(Demands):
    """Sample requests as they are sent, in turn, and what their answers must be like."""

    model_config = BUILT

    requests: tuple[Request, ...] = Field(min_length=1, max_length=MAX_FILES)


class WrittenSmokeTest(WrittenRequests, Demands):
    """Sample requests to both deployments by name before any traffic moves: what must come back."""

    def smoke_test(self) -> SmokeTest:
        """What this means."""
        return SmokeTest(requests=self.found(), **{name: getattr(self, name) for name in Demands.model_fields})
