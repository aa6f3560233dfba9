"""How often Log Analytics may be asked, and how long it repeats an answer.

The rule: limits hold for each caller over all its queries; times are the sandbox's clock.
"""

import asyncio
from collections import OrderedDict, defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

MAX_QUERIES = 200  # by one caller in `WINDOW`
WINDOW = timedelta(seconds=30)
MAX_CONCURRENT = 5  # queries of one caller
MAX_QUEUED = 200
CACHED_FOR = timedelta(minutes=2)
MAX_CACHED = 200  # answers


class ThrottledError(Exception):
    """Too many queries. `retry_after`: seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("Your request has been throttled")
        self.retry_after = retry_after


class Budget:
    """200 queries in 30 seconds, 5 at a time and 200 waiting, for each caller."""

    def __init__(self) -> None:
        self._asked: dict[str, deque[datetime]] = defaultdict(deque)
        self._places: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MAX_CONCURRENT))
        self._inside: dict[str, int] = defaultdict(int)

    @asynccontextmanager
    async def place(self, caller: str, *, now: datetime) -> AsyncIterator[None]:
        """Count one query and wait for its turn. Raises ThrottledError."""
        asked = self._asked[caller]
        while asked and asked[0] <= now - WINDOW:
            asked.popleft()
        if len(asked) >= MAX_QUERIES or self._inside[caller] >= MAX_CONCURRENT + MAX_QUEUED:
            raise ThrottledError(int(WINDOW.total_seconds()))
        asked.append(now)
        self._inside[caller] += 1
        try:
            async with self._places[caller]:
                yield
        finally:
            self._inside[caller] -= 1


@dataclass(frozen=True, kw_only=True)
class Cached:
    """An answer, and when it was made."""

    body: dict[str, Any]
    made: datetime


class AnswerCache:
    """Answers of the last two minutes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str | None, ...], Cached] = OrderedDict()

    def get(self, key: tuple[str | None, ...], *, now: datetime) -> Cached | None:
        """The answer to the same request, if it is young enough."""
        found = self._kept.get(key)
        return found if found is not None and now - found.made < CACHED_FOR else None

    def put(self, key: tuple[str | None, ...], body: dict[str, Any], *, now: datetime) -> None:
        """Keep an answer."""
        self._kept[key] = Cached(body=body, made=now)
        self._kept.move_to_end(key)
        while len(self._kept) > MAX_CACHED:
            self._kept.popitem(last=False)
