"""The rollout: everything that the next tick must know, as one frozen value.

The rule: a rollout holds decisions and intents, never counters that a crash could lose: the bake is counted from cells,
the split is read from Azure. `wanted_traffic` is the whole split, never a difference.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from rollout.analysis.verdict import Judgement, Verdict
from rollout.analysis.watch import Usual
from rollout.lifecycle.phases import Phase
from rollout.policy import Policy
from rollout.world import Autoscale, EndpointRef, Errand, Pin, Split

Outcome = Literal["accepted", "conflict", "unknown", "refused"]


@dataclass(frozen=True, kw_only=True)
class Write:
    """A split that we asked Azure for: written down before it is sent.

    `ended_at` is when Azure answered the request (not the operation); None while nobody knows: the request may be on
    its way, or the process that sent it may be gone. `outcome` says what Azure answered: an accepted write shows as an
    operation that ends after 20 to 30 s; a conflict means that another operation runs; unknown means that no answer came.
    `not_before` is until when Azure asked to be left alone.
    """

    split: Split
    begun_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    not_before: datetime | None = None


#: What became of an errand: the first three as of a split; `accepted` runs as an operation until it is `done` or `failed`.
ErrandOutcome = Literal["accepted", "conflict", "unknown", "refused", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Intent:
    """An errand that we asked Azure for, written down before it is sent; one for each kind and deployment, the newest.

    `ended_at` is when Azure answered the request, and later when its operation was seen to be over; `operation` is where
    Azure tells how that stands; `why` is Azure's sentence where it said no, or where the operation failed.
    """

    errand: Errand
    begun_at: datetime
    ended_at: datetime | None = None
    outcome: ErrandOutcome | None = None
    why: str | None = None
    operation: str | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Original:
    """How a deployment was before the rollout changed its size, saved with the first intent to do so.

    `instances` None: they are not changed. `ours` is the autoscale setting as the rollout wrote it, None where it was
    left alone; `autoscale` is what there was before, None: none; `promoted` is what stays where the candidate was promoted.
    """

    deployment: str
    instances: int | None = None
    autoscale: Autoscale | None = None
    ours: Autoscale | None = None
    promoted: Autoscale | None = None


@dataclass(frozen=True, kw_only=True)
class Given:
    """An approval that waits for a window to open, and the evidence against the candidate that its author saw."""

    by: str
    at: datetime
    evidence: float


@dataclass(frozen=True, kw_only=True)
class Mirroring:
    """Where the mirror steps stand: `step` is an index into policy.mirror.

    `asked_at` is when this share was asked for, `since` when Azure has shown it, `over_at` when the last bake was over, and
    `off_at` when the mirror was seen to be off again. `strange_at` is the first look that showed another share.
    """

    step: int
    asked_at: datetime
    since: datetime | None = None
    over_at: datetime | None = None
    off_at: datetime | None = None
    strange_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A split that is not ours, and the first snapshot that showed it; `told` once it was told to be a person's."""

    split: Split
    seen_at: datetime
    told: bool = False


#: What an observing rollout would do. From `pause` on, acting would have ended there, or waited for a person.
Act = Literal["bake", "hold", "go_on", "promote", "cut", "go_back", "give_up", "pause", "roll_back", "halt"]


@dataclass(frozen=True, kw_only=True)
class Would:
    """What an observing rollout would do if it acted, as it was told; `why` are the numbers that speak against the candidate.

    `harmed` is how many requests were harmed until then, as far as data of that time has come.
    """

    act: Act
    at: datetime
    sentence: str
    why: str = ""
    harmed: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PartOf:
    """The release that a rollout belongs to, and its wave (from 1) of how many."""

    release_id: str
    release: str
    wave: int
    waves: int


@dataclass(frozen=True, kw_only=True)
class Undo:
    """This rollout takes back the promotion of another one.

    `instances`: what the old stable served all traffic with; None where that is not known.
    """

    of: str
    instances: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Retry:
    """This rollout is that of another one again, from this step on (an index)."""

    of: str
    step: int = 0
    reason: str | None = None


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
    part_of: PartOf | None = None  # a release over several endpoints

    # what it is made from, where that is another rollout
    undo: Undo | None = None
    retry: Retry | None = None

    # the traffic
    resource_id: str | None = None  # Azure's name of the endpoint, once seen
    step: int = 0  # index into policy.steps
    share: int = 0  # percent that the candidate is wanted to have now
    wanted_since: datetime | None = None  # since when this split is wanted
    confirmed: Split | None = None  # the last wanted split that Azure showed
    confirmed_at: datetime | None = None
    writes: tuple[Write, ...] = ()  # since the last confirmed split; the last one is the newest
    strays: tuple[Write, ...] = ()  # from before it, not seen yet: for a while they may still take effect
    foreign: Foreign | None = None
    shown_at: datetime | None = None  # first look that showed a roll back done which Azure has not accepted from us
    replaceable: Split | None = None  # a person's split that `resume --restore` allowed to write over
    pins: tuple[Pin, Pin] | None = None  # stable's and candidate's, as judged
    stable_instances: int | None = None  # stable's when the rollout began: what serving everything takes

    # the deployments
    errands: tuple[Intent, ...] = ()  # writes beside the split; the newest last
    sizes: tuple[int, int] | None = None  # instances that stable keeps, and that the candidate gets
    originals: tuple[Original, ...] = ()  # what must be put back when the rollout has ended

    mirroring: Mirroring | None = None  # copies of live requests, before the first step

    # the step
    started_at: datetime | None = None  # first confirmed split with candidate traffic
    judged_from: datetime | None = None  # what came before is no evidence: the start, or a fresh one
    step_since: datetime | None = None  # when this step's split was confirmed
    sized_share: int | None = None  # the first step still runs at this share, sized from the traffic
    retreated_at: datetime | None = None
    retreated_from: int | None = None  # the share to go back to when the retreat is over
    next_step: int | None = None  # the step that waits for an approval
    given: Given | None = None  # that approval, where it came while the share may not rise
    shut: str | None = None  # the share would rise, but for a window or a freeze: `windows.Shut.key`
    opened_at: datetime | None = None  # when a start that had waited for a window could go on
    frozen: tuple[str, ...] = ()  # the freezes of which people were told
    approved: tuple[int, ...] = ()  # the steps that were begun with their approval
    held_since: datetime | None = None  # since when the verdict holds for `held_reason`
    held_reason: str | None = None
    incident_told_at: datetime | None = None  # when people were last alerted that both deployments got worse together

    # waiting for people
    paused_because: str | None = None  # drift | regression | changed | doubt | no_data | deadline | approval | …
    resume_phase: Phase | None = None  # where `resume` leads
    fail_stands: bool = False  # the candidate failed and was not rolled back: going on needs a reason
    past_fail: int = 0  # how often a person went on past a fail: each time halves the error budget
    told: tuple[str, ...] = ()  # what this phase tells only once and has told
    noticed: tuple[str, ...] = ()  # of this step, the checks that decide nothing and that people were told of
    blind: tuple[str, ...] = ()  # the policy's own checks of which people were told that they cannot be read
    active: timedelta = timedelta()  # time before `active_since` that counts towards the deadline
    active_since: datetime | None = None

    # after the promotion, where the policy keeps stable to take the traffic back
    guarded_until: datetime | None = None
    usual: tuple[Usual, ...] = ()  # how often requests were bad before it

    retire: Literal["scale_to_1", "delete"] | None = None  # what is still to become of the old stable

    # the end
    ending: Phase | None = None  # where a roll back leads: rolled_back, or aborted where a person asked for it
    cause: str | None = None  # why the roll back was decided, in words
    was_share: int = 0  # the candidate's share when it was decided
    decided_at: datetime | None = None  # when it was decided
    sent_at: datetime | None = None  # when Azure had taken its request

    # what it would do, where it only observes: `share` is then the candidate's part of the pair's traffic, `confirmed` the
    # split that Azure shows, and `retreated_at` when the share would have been cut
    would: Would | None = None
    missed: Would | None = None  # the first act that the traffic did not follow and that would have ended the rollout
    left_at: datetime | None = None  # since when the candidate has no traffic any more

    # the evidence
    judgement: Judgement | None = None
    verdict: Verdict | None = None  # the last one, with its findings

    @property
    def ended(self) -> bool:
        """Nothing changes any more."""
        return self.phase.ended

    @property
    def owes(self) -> bool:
        """It has ended, and something is left to do: it is ticked until that is done, and its endpoint is not free."""
        return self.ended and (bool(self.originals) or self.retire is not None or self.mirrors)

    @property
    def mirrors(self) -> bool:
        """A mirror of ours is on, or may be."""
        return self.mirroring is not None and self.mirroring.off_at is None

    @property
    def promoted(self) -> bool:
        """It has ended with the candidate on the traffic: promoted, or an undo that could not be done."""
        return self.phase is Phase.SUCCEEDED or (self.undo is not None and self.phase is Phase.ABORTED)

    @property
    def observes(self) -> bool:
        """It judges what people do, and never writes."""
        return self.policy.mode == "observe"

    @property
    def alerted(self) -> bool:
        """People were told that the candidate failed, and its share is held until they say what holds."""
        return self.phase is Phase.WAITING and self.fail_stands and not self.awaits_approval

    @property
    def first(self) -> int:
        """The step that it begins with (an index)."""
        return self.retry.step if self.retry else 0

    @property
    def awaits_approval(self) -> bool:
        """A person must approve the next step."""
        return self.phase is Phase.WAITING and self.next_step is not None
