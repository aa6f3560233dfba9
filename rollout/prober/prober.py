"""The prober: sends the pairs of all rollouts that ask for probes, and tells what came of them.

The rule: one thread decides what is due, threads of a pool wait for answers; nothing is queued: what finds no room is not
sent. Minutes go to the store as they end, like those of any other source; that ten pairs in a row failed is told at once.
It begins, goes on and stops as the rollout's ticks say, and stops by itself where no tick says anything.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import structlog

from rollout.errors import RolloutError
from rollout.lifecycle import Phase, Rollout
from rollout.policy import Probes
from rollout.ports import Answer, Clock, Scoring, Store
from rollout.prober import trials
from rollout.prober.stream import Flight, Stream, not_let_in
from rollout.prober.trials import Attempts, attempts_of
from rollout.world import EndpointRef, EndpointState, Trial

#: Pairs under way, over all rollouts: twice as many threads are needed.
AT_ONCE = 24
#: How often it looks at what is under way, in seconds, and how long it goes on without being told to.
LOOK_EVERY, FOLLOWED_FOR = 0.25, 300.0
MINUTE = timedelta(minutes=1)
SOURCE = "probes"
_PROBED = frozenset(
    {
        Phase.PROGRESSING,
        Phase.RETREATED,
        Phase.WAITING,
        Phase.PAUSED,
        Phase.PROMOTING,
        Phase.GUARDING,
        Phase.OBSERVING,
    }
)


class Prober:
    """See `rollout.ports.Probes`; safe to use from many threads."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        scoring: Mapping[str, Scoring],
        on_change: Callable[[Iterable[EndpointRef]], None],
        submit: Callable[[Callable[[], None]], object],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._store = store
        self._clock = clock
        self._scoring = scoring
        self._on_change = on_change
        self._submit = submit
        self._log = log
        self._second = clock.real_seconds(timedelta(seconds=1))
        self._minute = clock.real_seconds(MINUTE)
        self._streams: dict[str, Stream] = {}
        self._attempts: dict[str, Attempts] = {}
        self._told: str | None = None  # what went wrong in the last round
        self._lock = threading.Lock()
        self._awake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def start(self) -> None:
        """Begin to send what is due."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Send nothing more; what is under way is left to end by itself."""
        self._stopping.set()
        self._awake.set()
        self._thread.join(timeout)

    # --- the port

    def follow(self, rollout: Rollout, endpoint: EndpointState | None) -> None:
        """This is where the rollout stands now."""
        if rollout.ref.workspace not in self._scoring:
            return
        with self._lock:
            attempts = self._followed_attempts(rollout)
            tries = attempts is not None and endpoint is not None and attempts.due(self._seconds())
            if rollout.policy.probes is not None:
                self._follow_stream(rollout, rollout.policy.probes, endpoint)
        if tries and attempts is not None and endpoint is not None:
            self._submit(partial(self._make_trial, attempts, endpoint))
        self._awake.set()

    def _followed_attempts(self, rollout: Rollout) -> Attempts | None:
        found = attempts_of(rollout, self._attempts.pop(rollout.id, None))
        if found is not None:
            self._attempts[rollout.id] = found
        return found

    def _follow_stream(self, rollout: Rollout, probes: Probes, endpoint: EndpointState | None) -> None:
        stream = self._streams.get(rollout.id)
        if stream is None:
            if rollout.ended:
                return
            stream = Stream(rollout_id=rollout.id, ref=rollout.ref, probes=probes)
            self._streams[rollout.id] = stream
        wanted = rollout.phase in _PROBED and rollout.share > 0
        stream.follow(rollout, endpoint, wanted=wanted, now=self._seconds())
        stream.ended = rollout.ended

    def failed_pairs(self, rollout_id: str) -> int:
        """Pairs in a row, up to now, in which only the candidate's answer was bad."""
        with self._lock:
            stream = self._streams.get(rollout_id)
            return stream.failed if stream else 0

    def trial(self, rollout_id: str) -> Trial | None:
        """How the sample requests were answered before the start; None while that is not known."""
        with self._lock:
            attempts = self._attempts.get(rollout_id)
            return attempts.trial if attempts else None

    def trouble(self, rollout_id: str) -> str | None:
        """Why no probes can be sent at present, in a sentence; None if they can."""
        with self._lock:
            stream = self._streams.get(rollout_id)
            return stream.trouble if stream else None

    def _make_trial(self, attempts: Attempts, endpoint: EndpointState) -> None:
        scoring = self._scoring[attempts.ref.workspace]
        try:
            trial = trials.made(scoring, endpoint, attempts.policy, names=attempts.names, now=self._clock.now)
        except Exception as error:
            self._log.error("A sample request failed in a way that nobody foresaw.", exc_info=error)
            trial = Trial(at=self._clock.now(), problem="the sample request could not be sent: the log says more")
        with self._lock:
            attempts.took(trial, self._seconds())
        self._on_change([attempts.ref])

    # --- in the prober's thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            try:
                pause = self.round()
                self._told = None
            except Exception as error:  # it is tried again, four times a second: told when it is another one
                if str(error) != self._told:
                    self._told = str(error)
                    self._warn(error)
                pause = LOOK_EVERY
            self._awake.wait(pause)

    def _warn(self, error: Exception) -> None:
        if isinstance(error, RolloutError):
            self._log.warning("The store does not take probes.", reason=error.message)
        else:
            self._log.error("Probing failed in a way that nobody foresaw.", exc_info=error)

    def round(self) -> float | None:
        """Send what is due, store the minutes that are over; how many seconds to rest (None: until something happens)."""
        with self._lock:
            streams = list(self._streams.values())
            for stream in streams:
                stream.look(self._seconds())
                self._leave(stream)
        while self._begin_one():
            pass
        self._tell(streams)
        with self._lock:
            self._streams = {found.rollout_id: found for found in self._streams.values() if not found.over}
            due = [at for stream in self._streams.values() if (at := stream.next_due()) is not None]
            looks = [self._seconds() + LOOK_EVERY] if self._streams else []
        return max(0.01, min(due + looks) - self._seconds()) if due or looks else None

    def _leave(self, stream: Stream) -> None:
        """Nobody has said for long that it is to go on."""
        if stream.wanted and self._seconds() - stream.followed > FOLLOWED_FOR:
            stream.wanted = False
            self._log.warning("Probing stops: its rollout was not looked at for long.", endpoint=stream.ref.name)

    def _begin_one(self) -> bool:
        """Send the pair that is due first, if there is one and room for it."""
        with self._lock:
            now = self._seconds()
            due = [(at, stream) for stream in self._streams.values() if (at := stream.next_due()) is not None]
            at, stream = min(due, key=lambda found: found[0], default=(now + 1, None))
            under_way = sum(len(each.flights) for each in self._streams.values())
            if stream is None or at > now or under_way >= AT_ONCE or self._stopping.is_set():
                return False
            flight = stream.begin(now, self._minute)
            roles = {"candidate": stream.candidate, "baseline": stream.stable}
        for role, deployment in roles.items():
            self._submit(partial(self._send, stream, flight, role, deployment))
        return True

    # --- in a pool's thread

    def _send(self, stream: Stream, flight: Flight, role: str, deployment: str) -> None:
        endpoint, patience = stream.endpoint, stream.probes.timeout
        if endpoint is None:
            return
        try:
            answer = self._scoring[stream.ref.workspace].send(
                endpoint, flight.body, deployment=deployment, timeout=patience
            )
        except RolloutError as error:
            self._give_up(stream, flight, error.message)
        except Exception as error:
            self._log.error("A probe failed in a way that nobody foresaw.", exc_info=error)
            self._give_up(stream, flight, "a probe could not be sent: the daemon's log says more")
        else:
            self._take(stream, flight, role, answer)

    def _give_up(self, stream: Stream, flight: Flight, why: str) -> None:
        with self._lock:
            news = stream.gave_up(flight, why, self._seconds())
        if news:
            self._log.warning("Probes cannot be sent.", endpoint=stream.ref.name, reason=why)

    def _take(self, stream: Stream, flight: Flight, role: str, answer: Answer) -> None:
        crashed = False
        with self._lock:
            now = self._seconds()
            pair = flight.take(role, answer, now)
            turned_away = pair.turned_away if pair else None
            if pair is not None and turned_away is None and flight in stream.flights:
                crashed = stream.landed(flight, pair, self._this_minute(), now)
        if turned_away is not None:
            self._give_up(stream, flight, not_let_in(stream.ref.name, turned_away))
        if pair is not None and pair.failed:
            self._awake.set()  # the next one is due sooner
        if crashed and pair is not None:
            why = pair.candidate.why
            self._log.warning("Probes fail on the candidate only.", endpoint=stream.ref.name, reason=why)

    # --- minutes

    def _tell(self, streams: Sequence[Stream]) -> None:
        """Store what is over, and of a crash what was seen so far; the rollouts are then looked at now."""
        crashed = [stream for stream in streams if stream.untold]
        kept = [stream for stream in streams if self._keep(stream, running=stream in crashed)]
        if crashed or kept:
            self._on_change({stream.ref for stream in (*crashed, *kept)})
        for stream in crashed:  # only now: whatever went wrong before, it is tried again
            stream.untold = False

    def _keep(self, stream: Stream, *, running: bool = False) -> bool:
        """Put the minutes that are over into the store, as closed (and the one that runs, as open); whether that is news."""
        with self._lock:
            now = self._this_minute()
            batch = stream.ripe(now, running=running)
        if batch is None:
            return False
        news = self._store.put_cells(
            SOURCE,
            stream.ref,
            batch.cells,
            window=batch.window,
            closed_before=now,
            read_at=self._clock.now(),
        )
        with self._lock:
            stream.kept(now)

        return news

    def _this_minute(self) -> int:
        return int(self._clock.now().timestamp() // 60)

    def _seconds(self) -> float:
        """A stopwatch of real seconds."""
        return self._clock.monotonic() * self._second
