"""Leases under any order of events, against a simple account of who may do what."""

import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from rollout.errors import ConflictError
from rollout.ports import Lease, Store
from rollout.store import open_store
from rollout.world import EndpointRef
from tests.support.stories import NOON, a_command, a_rollout, an_event

LEASE = timedelta(seconds=30)
REFS = {f"r{number}": EndpointRef(workspace="prod", name=f"endpoint-{number}") for number in range(3)}
_rollouts = st.sampled_from(sorted(REFS))
_owners = st.sampled_from(["ann", "bob"])
_waits = st.sampled_from([0, 1, 29, 30, 61]).map(lambda seconds: timedelta(seconds=seconds))


@dataclass
class Account:
    """What must be true of one rollout."""

    due: datetime = NOON
    woken: bool = False
    owner: str | None = None
    until: datetime = NOON
    fence: int = 0
    saves: int = 0

    def holds(self, lease: Lease) -> bool:
        return (self.owner, self.fence) == (lease.owner, lease.fence)

    def wake(self, now: datetime) -> None:
        self.due, self.woken = min(self.due, now), True


class Leases(RuleBasedStateMachine):
    """Owners claim, save, release and vanish; time passes; things change."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.commands = 0
        self.accounts = {name: Account() for name in REFS}
        self.folder = tempfile.TemporaryDirectory()
        self.store: Store = open_store(f"sqlite:///{self.folder.name}/rollout.db", exclusive=True)

    @initialize()
    def start(self) -> None:
        for name, ref in REFS.items():
            self.store.create(a_rollout(name, ref), [], [])

    @rule(target=leases, owner=_owners, limit=st.integers(1, 3))
    def claim(self, owner: str, limit: int):
        free = [
            (account.due, name)
            for name, account in self.accounts.items()
            if account.due <= self.now and (account.owner is None or account.until <= self.now)
        ]
        claimed = self.store.claim_due(now=self.now, owner=owner, lease=LEASE, limit=limit)

        assert len(claimed) == min(limit, len(free))
        assert [self.accounts[lease.rollout_id].due for lease in claimed] == sorted(due for due, _ in free)[:limit]
        for lease in claimed:
            account = self.accounts[lease.rollout_id]
            assert lease.fence > account.fence
            account.owner, account.fence, account.until, account.woken = owner, lease.fence, lease.until, False
        return multiple(*claimed)

    @rule(lease=leases)
    def save(self, lease: Lease) -> None:
        account = self.accounts[lease.rollout_id]
        rollout = a_rollout(lease.rollout_id, REFS[lease.rollout_id], step=account.saves + 1)
        try:
            self.store.save(lease, rollout, events=[an_event()])
        except ConflictError:
            assert not account.holds(lease)
        else:
            assert account.holds(lease)
            account.saves += 1

    @rule(lease=leases, wait=_waits)
    def renew(self, lease: Lease, wait: timedelta) -> None:
        account = self.accounts[lease.rollout_id]
        try:
            self.store.renew(lease, until=self.now + wait)
        except ConflictError:
            assert not account.holds(lease)
        else:
            assert account.holds(lease)
            account.until = self.now + wait

    @rule(lease=leases, wait=_waits)
    def release(self, lease: Lease, wait: timedelta) -> None:
        self.store.release(lease, due_at=self.now + wait)
        account = self.accounts[lease.rollout_id]
        if account.holds(lease):
            account.owner = None
            account.due = min(account.due, self.now + wait) if account.woken else self.now + wait

    @rule(owner=_owners)
    def hand_over(self, owner: str) -> None:
        self.store.release_all(owner)
        for account in self.accounts.values():
            account.owner = None if account.owner == owner else account.owner

    @rule(names=st.sets(_rollouts))
    def wake(self, names: set[str]) -> None:
        self.store.wake([REFS[name] for name in names], now=self.now)
        for name in names:
            self.accounts[name].wake(self.now)

    @rule(name=_rollouts)
    def submit(self, name: str) -> None:
        self.commands += 1
        self.store.submit(a_command(f"c{self.commands}", rollout_id=name, at=self.now))
        self.accounts[name].wake(self.now)

    @rule(wait=_waits)
    def wait(self, wait: timedelta) -> None:
        self.now += wait

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = open_store(f"sqlite:///{self.folder.name}/rollout.db", exclusive=True)
        for account in self.accounts.values():
            account.owner = None

    @invariant()
    def every_save_that_was_accepted_is_there_and_no_other(self) -> None:
        for name, account in self.accounts.items():
            if self.store.latest(REFS[name]) is not None:
                assert self.store.load(name).step == account.saves
                assert len(self.store.history(name)) == account.saves

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


Leases.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestLeases = Leases.TestCase
