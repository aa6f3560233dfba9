"""The courier: takes due alerts from the store's outbox and delivers them, at least once each.

The rule: each channel has a lane of its own, so none waits for another; within a lane a channel that fails is left alone
until the next round. The schedule is the outbox's: it survives a restart. After a day an alert is a dead letter.
"""

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from rollout.alerts.channels import Channel, Kind
from rollout.alerts.render import Message, render
from rollout.alerts.webhook import Webhook
from rollout.errors import RefusedError, RolloutError, SettingsError, ThrottledError, UnavailableError
from rollout.ports import Clock, Delivery, Store
from rollout.world import Alert

#: The wait after the first failed attempt; it doubles with each one more.
FIRST_WAIT = timedelta(seconds=5)
#: The longest wait, also where a channel asks for a longer one.
LONGEST_WAIT = timedelta(minutes=15)
#: How old an alert may be and still be tried again.
GIVE_UP_AFTER = timedelta(hours=24)


class Sender(Protocol):
    """What makes one attempt: `webhook.Webhook` or `services.Service`."""

    def send(self, alert: Alert, message: Message, *, now: datetime) -> None:
        """Raises UnavailableError or ThrottledError (try again), RefusedError (never again)."""


class Courier:
    """Delivers what is due, each time that `deliver` is called."""

    def __init__(self, *, store: Store, channels: Iterable[Channel], clock: Clock, log: FilteringBoundLogger) -> None:
        """Raises SettingsError, naming every channel that cannot be used."""
        self._store = store
        self._clock = clock
        self._log = log
        self._senders = _senders(channels)
        self._lanes: dict[str, threading.Thread] = {}
        self._quiet_until: dict[str, datetime] = {}  # a channel that asked to be left alone
        self._closing = threading.Event()

    def deliver(self) -> None:
        """Begin one round and return: every channel with something due and no lane under way gets one."""
        due = sorted(self._store.due_deliveries(now=self._clock.now()), key=lambda delivery: delivery.channel)
        for channel, deliveries in groupby(due, key=lambda delivery: delivery.channel):
            self._begin(channel, list(deliveries))

    def wait(self, seconds: float) -> bool:
        """Wait until every lane has ended, for at most so many real seconds each; whether they have."""
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.join(seconds)
        return not any(lane.is_alive() for lane in lanes)

    def close(self) -> None:
        """Begin nothing more. An attempt under way may still end; if it cannot, it is made again after the restart."""
        self._closing.set()

    def _begin(self, channel: str, deliveries: Sequence[Delivery]) -> None:
        lane = self._lanes.get(channel)
        quiet_until = self._quiet_until.get(channel)
        busy = lane is not None and lane.is_alive()
        if busy or self._closing.is_set() or (quiet_until is not None and self._clock.now() < quiet_until):
            return
        # A daemon thread: an answer that does not come must not keep the process from ending.
        self._lanes[channel] = threading.Thread(
            target=self._run, args=(channel, deliveries), name=f"alerts {channel}", daemon=True
        )
        self._lanes[channel].start()

    def _run(self, channel: str, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            try:
                if self._closing.is_set() or not self._attempt(channel, delivery):
                    return
            except RolloutError as error:  # of the store: the attempt is not on record, so it is made again
                self._log.error("alert not recorded", channel=channel, alert=delivery.alert.id, reason=error.message)
                return

    def _attempt(self, channel: str, delivery: Delivery) -> bool:
        """One attempt, and its record; False if the channel had better be left alone for this round."""
        about = {"channel": channel, "alert": delivery.alert.id, "attempt": delivery.attempts + 1}
        message = render(delivery.alert)
        if message.left_out and not delivery.attempts:
            self._log.error("details of an alert left out", **about, reason=message.left_out)
        try:
            self._sender(channel).send(delivery.alert, message, now=self._clock.now())
        except (UnavailableError, RefusedError) as error:
            next_at = self._next_attempt(delivery, error)
            self._store.delivery_failed(delivery, error=error.message, next_at=next_at)
            if next_at is None:
                self._log.error("alert given up", **about, reason=error.message)
            else:
                self._log.warning("alert not delivered", **about, reason=error.message, next_at=next_at.isoformat())
            return next_at is None
        self._store.delivered(delivery, now=self._clock.now())
        self._log.info("alert delivered", **about)
        return True

    def _sender(self, channel: str) -> Sender:
        if channel not in self._senders:
            raise UnavailableError(
                f"There is no channel {channel} in the settings: add it, or leave it out of the policy."
            )
        return self._senders[channel]

    def _next_attempt(self, delivery: Delivery, error: RolloutError) -> datetime | None:
        now = self._clock.now()
        wait = backoff(delivery.attempts)
        if isinstance(error, ThrottledError) and error.retry_after is not None:
            wait = min(LONGEST_WAIT, max(wait, timedelta(seconds=error.retry_after)))
            self._quiet_until[delivery.channel] = now + wait
        if isinstance(error, RefusedError) or now + wait > delivery.alert.event.at + GIVE_UP_AFTER:
            return None
        return now + wait


def backoff(attempts: int) -> timedelta:
    """The wait after a failed attempt that `attempts` others came before: 5 s, 10 s, 20 s … 15 min."""
    return min(LONGEST_WAIT, FIRST_WAIT * (1 << min(attempts, 16)))


def _senders(channels: Iterable[Channel]) -> dict[str, Sender]:
    senders: dict[str, Sender] = {}
    mistakes: list[str] = []
    for channel in channels:
        try:
            senders[channel.name] = _sender(channel)
        except SettingsError as error:
            mistakes.append(error.message)
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return senders


def _sender(channel: Channel) -> Sender:
    if channel.kind is Kind.WEBHOOK:
        return Webhook(channel)
    from rollout.alerts.services import Service  # loading Apprise takes a second: only where a channel needs it

    return Service(channel)
