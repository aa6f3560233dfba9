"""The dispatcher: finds rollouts that are due, leases them, and has them ticked.

The rule: a rollout is ticked by one thread at a time, because a lease says so. Work is split by what is at stake: a roll
back never waits behind ticks that wait for Azure, and a start that hangs never holds up a judgement.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

import structlog

from rollout.daemon.pools import Pool
from rollout.errors import ConflictError, RolloutError
from rollout.lifecycle import Phase
from rollout.ports import Clock, Lease, Store

#: Threads for each kind of tick.
STARTING, JUDGING, ROLLING_BACK = "starting", "judging", "rolling-back"
LANES: Mapping[str, int] = {STARTING: 4, JUDGING: 16, ROLLING_BACK: 8}
#: A lease outlives the longest write (connect 5 s + read 20 s, after a fresh read); in seconds that a person waits.
LEASE = 60.0
RENEW_EVERY = LEASE / 3
#: How often the store is asked what is due, on the daemon's clock, and at most how often in seconds.
LOOK_EVERY = timedelta(seconds=1)
LOOK_AT_MOST_EVERY = 0.05
CLAIMED_AT_ONCE = 50
#: When a tick that failed is tried again: the store's fault, and ours.
TRY_AGAIN, AFTER_A_BUG = timedelta(seconds=5), timedelta(seconds=60)


def lane(phase: Phase) -> str:
    """Which threads tick a rollout in this phase."""
    if phase is Phase.ROLLING_BACK:
        return ROLLING_BACK
    return STARTING if phase in {Phase.PENDING, Phase.PREPARING} else JUDGING


class Dispatcher:
    """Claims what is due and ticks it; `wake` makes it look at once."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        tick: Callable[[Lease], None],
        ticked: Callable[[], None],
        owner: str,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._store = store
        self._clock = clock
        self._work = tick
        self._ticked = ticked  # alerts may have been written down
        self._owner = owner
        self._log = log
        self._second = clock.real_seconds(timedelta(seconds=1))
        self._lease = timedelta(seconds=LEASE / self._second)
        self._pools = {name: Pool(name, size) for name, size in LANES.items()}
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._awake, self._stopping = threading.Event(), threading.Event()
        self._looked = self._seconds()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        """Begin to look for rollouts that are due."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once: something changed."""
        self._awake.set()

    def silent_for(self) -> float:
        """Seconds since it last began to look."""
        return self._seconds() - self._looked

    def _seconds(self) -> float:
        """A stopwatch of a person's seconds."""
        return self._clock.monotonic() * self._second

    def renew(self) -> None:
        """Hold what is being ticked, or waits for a thread, for longer."""
        until = self._clock.now() + self._lease
        with self._lock:
            held = list(self._held.values())
        for lease in held:
            try:
                renewed = self._store.renew(lease, until=until)
            except ConflictError:
                continue  # ended or lost: the tick finds out when it saves
            with self._lock:
                if lease.rollout_id in self._held:
                    self._held[lease.rollout_id] = renewed

    def stop(self, timeout: float) -> int:
        """Take nothing new, let running ticks end within `timeout` seconds; how many did not."""
        ends = self._seconds() + timeout
        self._stopping.set()
        self._awake.set()
        self._thread.join(timeout)
        left = sum(pool.settle(max(0.0, ends - self._seconds())) for pool in self._pools.values())
        self._store.release_all(self._owner)
        return left

    # --- in the dispatcher's thread

    def _run(self) -> None:
        pause = max(LOOK_AT_MOST_EVERY, self._clock.real_seconds(LOOK_EVERY))
        while not self._stopping.is_set():
            self._awake.clear()
            self._looked = self._seconds()
            try:
                self._dispatch()
            except RolloutError as error:
                self._log.warning("The store does not say what is due.", reason=error.message)
            except Exception as error:
                self._log.error("Looking for due rollouts failed in a way that nobody foresaw.", exc_info=error)
            self._awake.wait(pause)

    def _dispatch(self) -> None:
        leases = self._store.claim_due(
            now=self._clock.now(), owner=self._owner, lease=self._lease, limit=CLAIMED_AT_ONCE
        )
        for lease in leases:
            with self._lock:
                self._held[lease.rollout_id] = lease
            phase = self._store.load(lease.rollout_id).phase
            self._pools[lane(phase)].submit(partial(self._tick, lease.rollout_id))
        if len(leases) == CLAIMED_AT_ONCE:
            self._awake.set()

    # --- in a pool's thread

    def _tick(self, rollout_id: str) -> None:
        with self._lock:
            lease = self._held.get(rollout_id)
        if lease is None or self._stopping.is_set():
            return
        try:
            self._work(lease)
        except RolloutError as error:
            self._log.warning("A tick did not end.", rollout=rollout_id, reason=error.message)
            self._give_back(lease, TRY_AGAIN)
        except Exception as error:
            self._log.error("A tick failed in a way that nobody foresaw.", rollout=rollout_id, exc_info=error)
            self._give_back(lease, AFTER_A_BUG)
        finally:
            with self._lock:
                self._held.pop(rollout_id, None)
            self._ticked()
            self._awake.set()

    def _give_back(self, lease: Lease, after: timedelta) -> None:
        try:
            self._store.release(lease, due_at=self._clock.now() + after)
        except RolloutError as error:  # it runs out by itself
            self._log.warning("A lease could not be given back.", rollout=lease.rollout_id, reason=error.message)
