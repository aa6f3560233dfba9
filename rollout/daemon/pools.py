"""Threads for work that may wait for Azure: each kind of work has its own, so that none starves another.

The rule: bounded, and never in the way of leaving: the threads are daemons, so a call that hangs in a socket does not
keep the process from ending.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import SimpleQueue

Work = Callable[[], None]


class Pool:
    """A fixed number of threads that take work in turn."""

    def __init__(self, name: str, size: int) -> None:
        self._queue: SimpleQueue[tuple[Future[None], Work]] = SimpleQueue()
        self._open: set[Future[None]] = set()
        self._lock = threading.Lock()
        for number in range(size):
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True).start()

    def submit(self, work: Work) -> "Future[None]":
        """Have it done as soon as a thread is free."""
        future: Future[None] = Future()
        with self._lock:
            self._open.add(future)
        future.add_done_callback(self._closed)
        self._queue.put((future, work))
        return future

    def settle(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for all work given so far; how much of it is still not done."""
        with self._lock:
            pending = set(self._open)
        return len(wait(pending, timeout=timeout).not_done)

    def _closed(self, future: "Future[None]") -> None:
        with self._lock:
            self._open.discard(future)

    def _serve(self) -> None:
        while True:
            future, work = self._queue.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            del future, work  # an idle thread keeps nothing alive
