"""What the scoring front end wrote down, and when Azure Monitor will show it.

The rule: every request becomes one row, once; a row is handed to the logs and to the metrics when its own ingestion
delay has passed, never earlier, and rows overtake each other as they do on Azure. Pure: the clock's `now` and the
random generator are given.
"""

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

Span = tuple[timedelta, timedelta]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficRow:
    """One request, as a row of AmlOnlineEndpointTrafficLog (its columns in snake_case).

    Durations are real milliseconds since the request's start, sizes are bytes. `deployment_name` is empty where the
    request was refused before it was routed, `model_status_code` is 0 where the model gave no answer, and
    `response_code` is 0 where the client left before the answer.
    """

    time_generated: datetime
    resource_id: str
    endpoint_name: str
    deployment_name: str
    response_code: int
    response_code_reason: str = ""
    model_status_code: int = 0
    model_status_reason: str = ""
    total_duration_ms: int = 0
    request_duration_ms: int = 0
    response_duration_ms: int = 0
    request_throttling_delay_ms: int = 0
    response_throttling_delay_ms: int = 0
    request_payload_size: int = 0
    response_payload_size: int = 0
    method: str = "POST"
    path: str = "/score"
    protocol: str = "HTTP/1.1"
    user_agent: str = ""
    auth_type: str = ""
    identity_data: str = ""
    x_request_id: str = ""
    xms_client_request_id: str = ""

    @property
    def status(self) -> str:
        """The answer in short: `200`, or `424/500` with the model's own status."""
        return f"424/{self.model_status_code}" if self.response_code == 424 else str(self.response_code)

    @property
    def is_error(self) -> bool:
        """Whether the service or the model failed: 5xx, time-outs, throttling, model errors."""
        if self.response_code == 424:
            return self.model_status_code >= 500
        return self.response_code >= 500 or self.response_code in (408, 429)

    @property
    def is_client_error(self) -> bool:
        """Whether the request was answered as its caller's fault."""
        return 400 <= self.response_code < 500 and not self.is_error


@dataclass(frozen=True, kw_only=True)
class Delays:
    """The shortest and the longest time a row needs until Azure Monitor shows it; each row draws its own."""

    logs: Span = (timedelta(minutes=3), timedelta(minutes=5))
    metrics: Span = (timedelta(minutes=1), timedelta(minutes=2))


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How much later than usual a row arrives; None: never."""

    logs: timedelta | None = timedelta(0)
    metrics: timedelta | None = timedelta(0)


ON_TIME = Lateness()


@dataclass
class Tally:
    """What one deployment has answered since the sandbox started."""

    requests: int = 0
    bad: int = 0
    client_errors: int = 0
    gone: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, row: TrafficRow) -> None:
        """Count one more request."""
        self.requests += 1
        self.bad += row.is_error
        self.client_errors += row.is_client_error
        self.gone += row.response_code == 0
        self.statuses[row.status] += 1

    def dump(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "requests": self.requests,
            "bad": self.bad,
            "client_errors": self.client_errors,
            "gone": self.gone,
            "statuses": dict(sorted(self.statuses.items())),
        }


class Ingestion:
    """Rows on their way into Azure Monitor: handed over once each, in the order in which they arrive."""

    def __init__(self) -> None:
        self._waiting: list[tuple[datetime, int, TrafficRow]] = []
        self._order = count()

    def put(self, row: TrafficRow, *, at: datetime) -> None:
        """Let the row arrive at this time."""
        heapq.heappush(self._waiting, (at, next(self._order), row))

    def arrived(self, now: datetime) -> list[tuple[datetime, TrafficRow]]:
        """The rows that arrived since the last call, each with its ingestion time."""
        rows: list[tuple[datetime, TrafficRow]] = []
        while self._waiting and self._waiting[0][0] <= now:
            at, _, row = heapq.heappop(self._waiting)
            rows.append((at, row))
        return rows

    def __iter__(self) -> Iterator[TrafficRow]:
        """The rows that have not arrived yet, in no order."""
        return (row for _, _, row in self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)


class TrafficLog:
    """Every request the front end answered: on its way to the logs, to the metrics, and counted at once."""

    def __init__(self, *, chance: random.Random, delays: Delays | None = None) -> None:
        self.delays = delays or Delays()  # may be replaced at any time; rows already on their way keep theirs
        self.logs = Ingestion()
        self.metrics = Ingestion()
        self._chance = chance
        self._tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)

    def append(self, row: TrafficRow, *, late: Lateness = ON_TIME) -> None:
        """Record a request; it is counted at once and shown when it has arrived."""
        self._tallies[row.endpoint_name, row.deployment_name].add(row)
        if late.logs is not None:
            self.logs.put(row, at=row.time_generated + self._draw(self.delays.logs) + late.logs)
        if late.metrics is not None:
            self.metrics.put(row, at=row.time_generated + self._draw(self.delays.metrics) + late.metrics)

    def statistics(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Endpoint, deployment, counts; plain values. Requests that were never routed stand under an empty name."""
        result: dict[str, dict[str, dict[str, Any]]] = {}
        for (endpoint, deployment), tally in sorted(self._tallies.items()):
            result.setdefault(endpoint, {})[deployment] = tally.dump()
        return result

    def _draw(self, span: Span) -> timedelta:
        shortest, longest = span
        return shortest + (longest - shortest) * self._chance.random()
