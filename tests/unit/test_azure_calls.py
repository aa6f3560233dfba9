"""How many calls to Azure Monitor may be made: at once, in half a minute, and a second time."""

import random
import threading
from collections.abc import Callable

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseTimeoutError

from rollout.azure.calls import Calls
from rollout.errors import ThrottledError, UnavailableError


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def failing(*errors: Exception) -> Callable[[], str]:
    """A call that fails with these errors, one after the other, and then works."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def test_a_window_holds_so_many_and_then_asks_to_wait() -> None:
    clock = Hand()
    calls = Calls(monotonic=clock, chance=random.Random(1), per_window=3)
    for second in (0.0, 1.0, 2.0):
        clock.now = second
        assert calls.run(failing(), doing="ask") == "done"
    clock.now = 10.0
    with pytest.raises(
        ThrottledError, match=r"Cannot ask: 3 queries in 30 s are our limit\. It is tried again in 20 s"
    ) as caught:
        calls.run(failing(), doing="ask")
    assert caught.value.retry_after == 20.0
    clock.now = 30.0  # the first one has left the window
    assert calls.run(failing(), doing="ask") == "done"
    with pytest.raises(ThrottledError):
        calls.run(failing(), doing="ask")


def test_so_many_run_at_once() -> None:
    calls = Calls(monotonic=Hand(), chance=random.Random(1), at_once=2)
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2)

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait(20)  # only two can ever be here together, so that they meet in pairs
        with lock:
            running -= 1

    threads = [threading.Thread(target=calls.run, args=(call,), kwargs={"doing": "ask"}) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (running, most) == (0, 2)


def test_a_broken_connection_gets_one_second_try() -> None:
    pauses: list[float] = []
    calls = Calls(monotonic=Hand(), chance=random.Random(1), pause=pauses.append)
    assert calls.run(failing(ServiceRequestError("reset")), doing="ask") == "done"
    with pytest.raises(UnavailableError, match="Cannot ask: no answer from Azure"):
        calls.run(failing(ServiceRequestError("reset"), ServiceRequestError("reset")), doing="ask")
    assert len(pauses) == 2


@pytest.mark.parametrize("error", [ServiceResponseTimeoutError("slow"), HttpResponseError("?"), ValueError("not JSON")])
def test_what_a_moment_does_not_heal_gets_none(error: Exception) -> None:
    pauses: list[float] = []
    calls = Calls(monotonic=Hand(), chance=random.Random(1), pause=pauses.append)
    with pytest.raises(UnavailableError):
        calls.run(failing(error), doing="ask")
    assert pauses == []


def test_a_failed_call_gives_its_place_back() -> None:
    calls = Calls(monotonic=Hand(), chance=random.Random(1), at_once=1)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            calls.run(failing(ValueError("no")), doing="ask")
    assert calls.run(failing(), doing="ask") == "done"
