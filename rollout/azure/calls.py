"""Calls to Azure Monitor: how many at once, how many in half a minute, and when a call is made twice.

The rule: Azure counts queries per identity over all workspaces (200 in 30 s, 5 at once), so all readers of one identity
share one `Calls`, which stays below both. The SDKs' own retries are off: they would sleep for whatever Retry-After says.
Ours is one more try, after a short wait with chance in it, where a moment helps; asking for less is the caller's business.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore, Event, Lock
from typing import Any, TypeVar

from azure.core.exceptions import HttpResponseError

from rollout.azure.cloud import NO_RETRIES
from rollout.azure.errors import in_our_words, is_passing
from rollout.errors import ThrottledError

AT_ONCE = 4
PER_WINDOW = 150
WINDOW = 30.0  # seconds
#: Longest wait for one of the places, in seconds: about one slow query.
PLACE_TIMEOUT = 45.0
#: A second try comes after this many seconds, drawn evenly.
SECOND_TRY = (0.5, 2.0)

T = TypeVar("T")


class Calls:
    """The calls of one identity to one service."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        chance: random.Random,
        pause: Callable[[float], object] | None = None,
        at_once: int = AT_ONCE,
        per_window: int = PER_WINDOW,
    ) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._pause = pause or Event().wait
        self._places = BoundedSemaphore(at_once)
        self._per_window = per_window
        self._begun: deque[float] = deque()
        self._lock = Lock()

    def run(self, call: Callable[[], T], *, doing: str, remedy: str = "") -> T:
        """What `call` returns. Raises ThrottledError when there is no room, else what `in_our_words` makes of its errors."""
        with in_our_words(doing, remedy=remedy):
            try:
                with self._place(doing):
                    return call()
            except Exception as error:
                if not is_passing(error):
                    raise
            self._pause(self._chance.uniform(*SECOND_TRY))
            with self._place(doing):
                return call()

    @contextmanager
    def _place(self, doing: str) -> Iterator[None]:
        if not self._places.acquire(timeout=PLACE_TIMEOUT):
            raise ThrottledError(
                f"Cannot {doing}: all places for queries were taken for {PLACE_TIMEOUT:.0f} s. It is tried again later."
            )
        try:
            self._count(doing)
            yield
        finally:
            self._places.release()

    def _count(self, doing: str) -> None:
        with self._lock:
            now = self._monotonic()
            while self._begun and now - self._begun[0] >= WINDOW:
                self._begun.popleft()
            if len(self._begun) >= self._per_window:
                wait = WINDOW - (now - self._begun[0])
                raise ThrottledError(
                    f"Cannot {doing}: {self._per_window} queries in {WINDOW:.0f} s are our limit."
                    f" It is tried again in {wait:.0f} s.",
                    retry_after=wait,
                )
            self._begun.append(now)


def send(query: Callable[..., T], *values: Any, **options: Any) -> T | None:
    """What a query of an SDK returns, asked once; None where Azure answers 204, which is how it may say "no data".

    An answer that is not JSON (204, a proxy's HTML, a cut body) would leave the SDK as a JSONDecodeError without its status.
    """
    answers: list[Any] = []
    try:
        return query(
            *values, raw_response_hook=lambda response: answers.append(response.http_response), **NO_RETRIES, **options
        )
    except ValueError as error:
        if not answers:
            raise
        if answers[-1].status_code == 204:
            return None
        raise HttpResponseError(message="the answer is not JSON", response=answers[-1]) from error
