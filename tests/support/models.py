"""Deployments that answer predictions as the test says: the port `Scoring` without a network."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from rollout.errors import RolloutError
from rollout.ports import Answer
from rollout.world import EndpointState

GOOD = Answer(status=200, cls="ok", milliseconds=80.0, size=1000)
FAILED = Answer(status=424, cls="model_5xx", milliseconds=20.0, why="424, the model answered 500")
HUNG = Answer(status=None, cls="timeout", milliseconds=4000.0, why="no answer within 4 s")
REFUSED = Answer(status=424, cls="model_4xx", milliseconds=20.0, why="424, the model answered 400: no such column")
UNREACHED = Answer(status=None, cls="5xx", milliseconds=1.0, why="no connection (refused)")
LOCKED = Answer(status=401, cls="4xx", milliseconds=5.0, why="401")


@dataclass
class LocalModels:
    """What each deployment answers now; `asked` is what was sent to whom."""

    answers: dict[str, Answer] = field(default_factory=dict)
    broken: RolloutError | None = None
    asked: list[tuple[str, bytes]] = field(default_factory=list)
    before: Callable[[str], None] = lambda _deployment: None

    def send(self, endpoint: EndpointState, body: bytes, *, deployment: str | None, timeout: timedelta) -> Answer:
        """See `rollout.ports.Scoring`."""
        assert endpoint.scoring_uri
        assert timeout
        name = deployment or "blue"
        self.asked.append((name, body))
        self.before(name)
        if self.broken is not None:
            raise self.broken
        return self.answers.get(name, GOOD)
