"""How often the log workspace may be asked: 200 in 30 seconds and 5 at a time, for each caller."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from rollout.sandbox.query_limits import MAX_CACHED, AnswerCache, Budget, ThrottledError
from tests.support.traffic import START

SECOND = timedelta(seconds=1)


async def ask(budget: Budget, seconds: float = 0, caller: str = "me") -> None:
    async with budget.place(caller, now=START + seconds * SECOND):
        pass


def test_the_201st_query_in_30_seconds_is_refused_until_the_window_has_moved() -> None:
    async def story() -> None:
        budget = Budget()
        for _ in range(200):
            await ask(budget)
        with pytest.raises(ThrottledError) as caught:
            await ask(budget, 29.9)
        assert caught.value.retry_after == 30
        await ask(budget, 29.9, caller="another")
        await ask(budget, 30)

    asyncio.run(story())


def test_five_run_at_a_time_and_200_may_wait() -> None:
    async def story() -> None:
        budget, stack = Budget(), AsyncExitStack()
        for _ in range(5):
            await stack.enter_async_context(budget.place("me", now=START))
        waiting = [asyncio.create_task(ask(budget, 40)) for _ in range(200)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        with pytest.raises(ThrottledError):
            await ask(budget, 80)
        await stack.aclose()
        await asyncio.gather(*waiting)
        await ask(budget, 80)

    asyncio.run(story())


def test_an_answer_is_kept_for_two_minutes() -> None:
    cache = AnswerCache()
    cache.put(("q",), {"rows": 1}, now=START)
    kept = cache.get(("q",), now=START + 119 * SECOND)
    assert kept is not None
    assert kept.body == {"rows": 1}
    assert cache.get(("q",), now=START + 120 * SECOND) is None
    assert cache.get(("other",), now=START) is None


def test_only_so_many_answers_are_kept() -> None:
    cache = AnswerCache()
    for number in range(MAX_CACHED + 1):
        cache.put((str(number),), {}, now=START)
    assert cache.get(("0",), now=START) is None
    assert cache.get((str(MAX_CACHED),), now=START) is not None
