"""The rollout: everything that the next tick must know, as one frozen value.

The rule: a rollout holds decisions and intents, never counters that a crash could lose: the bake is counted from cells,
the split is read from Azure. `wanted_traffic` is the whole split, never a difference.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from rollout.analysis.verdict import Judgement, Verdict
from rollout.lifecycle.phases import Phase
from rollout.policy import Policy
from rollout.world import EndpointRef, Pin, Split


@dataclass(frozen=True, kw_only=True)
class Write:
    """A split that we asked Azure for: written down before it is sent.

    `ended_at` is when Azure answered the request (not the operation); None while nobody knows: the request may be on
    its way, or the process that sent it may be gone. `outcome` says what Azure answered: an accepted write shows as an
    operation that ends after 20 to 30 s; a conflict means that another operation runs; unknown means that no answer came.
    """

    split: Split
    begun_at: datetime
    ended_at: datetime | None = None
    outcome: Literal["accepted", "conflict", "unknown", "refused"] | None = None


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A split that is not ours, and the first snapshot that showed it."""

    split: Split
    seen_at: datetime


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One move of an endpoint's traffic from stable to candidate, as decided so far."""

    id: str
    ref: EndpointRef
    policy: Policy
    stable: str | None  # None until `preparing` has found it
    candidate: str | None
    phase: Phase
    created_at: datetime
    created_by: str
    phase_since: datetime
    sentence: str  # the last thing that happened, as told
    step: int = 0  # index into policy.steps
    share: int = 0  # percent that the candidate is wanted to have now
    pins: tuple[Pin, Pin] | None = None  # stable's and candidate's, at the start
    confirmed: Split | None = None  # the last wanted split that Azure showed
    confirmed_at: datetime | None = None
    writes: tuple[Write, ...] = ()  # since the last confirmed split; the last one is the newest
    foreign: Foreign | None = None
    started_at: datetime | None = None  # first confirmed split with candidate traffic
    step_since: datetime | None = None  # when this step's split was confirmed
    sized_share: int | None = None  # the first step still runs at this share, sized from the traffic
    retreated_at: datetime | None = None
    held_since: datetime | None = None  # since when the verdict holds for `held_reason`
    held_reason: str | None = None
    paused_because: str | None = None  # drift | regression | changed | doubt | no_data | deadline | person
    resume_phase: Phase | None = None  # where `resume` leads, and where a retreat from a waiting rollout returns to
    next_step: int | None = None  # the step that waits for an approval
    active: timedelta = timedelta()  # time before `active_since` that counts towards the deadline
    active_since: datetime | None = None
    ending: Phase | None = None  # where a roll back leads: rolled_back, or aborted where a person asked for it
    cause: str | None = None  # why the roll back was decided, in words
    was_share: int = 0  # the candidate's share when it was decided
    decided_at: datetime | None = None  # when it was decided
    sent_at: datetime | None = None  # when Azure had taken its request
    late_told: bool = False  # the page about an unconfirmed roll back is out
    past_fail: int = 0  # how often a person went on past a fail: each time halves the error budget
    judgement: Judgement | None = None
    verdict: Verdict | None = None  # the last one, with its findings

    @property
    def ended(self) -> bool:
        """Nothing changes any more."""
        return self.phase.ended
