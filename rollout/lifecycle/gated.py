"""What waits at the gate: a start, an approval that was given early, a split that Azure has not taken on yet.

The rule: `moves.may_rise` decides, and this tells people what waits and lets it go on; what a person was promised by an
approval holds only for the evidence that they saw. Nothing here touches a cut, a roll back or an undo.
"""

from rollout.analysis.verdict import Verdict
from rollout.lifecycle import moves
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Given, Rollout
from rollout.lifecycle.splits import HOLDS_TRAFFIC
from rollout.lifecycle.story import Story
from rollout.windows import Shut
from rollout.world import Freeze, Severity, Split

#: Evidence from which a pass is in doubt (ANALYSIS); an approval that saw more than half as much has seen this.
DOUBT, GROWN = 5.0, 2.0
#: A pause keeps its own sentence, which says what to do; it hears of a freeze when it is over.
_HEARS = HOLDS_TRAFFIC - {Phase.ROLLING_BACK, Phase.GUARDING}


def tell_freezes(story: Story) -> None:
    """Once to people: a freeze that began, and that the last one is over. An approval then has its time anew."""
    rollout = story.rollout
    if rollout.phase not in _HEARS:
        return
    known = {freeze.id: freeze for freeze in story.freezes}
    story.set(frozen=tuple(known))
    for name, freeze in known.items():
        if name not in rollout.frozen:
            story.tell("frozen", _frozen(rollout, freeze, story), Severity.NOTICE)
    if rollout.frozen and not known:
        over = f"The freeze of {rollout.ref.name} is over."
        if rollout.awaits_approval and rollout.given is None and rollout.next_step is not None:
            moves.ask_for_approval(story, rollout.next_step, over)
        else:
            story.tell("unfrozen", f"{over} The rollout goes on.", Severity.NOTICE)


def _frozen(rollout: Rollout, freeze: Freeze, story: Story) -> str:
    told = Shut(why=f"by {freeze.by} ({freeze.reason})", until=freeze.until).sentence(story.now)
    what = "Frozen" if freeze.endpoint else "Everything was frozen"
    waits = rollout.awaits_approval and rollout.given is None
    asked = f" Step {(rollout.next_step or 0) + 1} still waits for an approval: `rollout approve {rollout.ref.name}`."
    return (
        f"{what} {told}. The share of {rollout.candidate} does not rise above {rollout.share} %; judging goes on, "
        f"and a candidate that fails is still rolled back.{asked if waits else ''}"
    )


def start_waits(story: Story, facts: Facts) -> bool:
    """Whether a start must wait for the gate; the policy may rather have it refused."""
    rollout = story.rollout
    closed = None if rollout.observes else _before_first(story, facts)
    if closed is None:
        if rollout.shut is not None:
            story.set(shut=None, opened_at=story.now)
        return False
    sentence = closed.sentence(story.now)
    windows = rollout.policy.windows
    if windows is not None and windows.start_outside == "refuse":
        told = f"Not started: {sentence}, and the policy refuses starts then (`start_outside: refuse`)."
        story.move(Phase.ABORTED, told, severity=Severity.ACTION)
    elif rollout.shut != closed.key:
        story.set(shut=closed.key, held_reason=sentence)
        story.tell(Phase.PREPARING.value, f"Not started yet: {sentence}. It begins by itself then.", Severity.NOTICE)
    return True


def _before_first(story: Story, facts: Facts) -> Shut | None:
    return moves.may_enter(story, story.rollout.first, facts.per_minute)


def keep_approval(story: Story, facts: Facts, closed: Shut, who: str) -> None:
    """Approved while the share may not rise: the step begins when it may, unless the evidence worsens until then."""
    rollout = story.rollout
    evidence = facts.verdict.evidence if facts.verdict else 0.0
    story.move(
        Phase.WAITING,
        f"Approved by {who}. Step {(rollout.next_step or 0) + 1} waits: {closed.sentence(story.now)}. It begins by "
        "itself then. Should the evidence worsen until then, the approval is void and asked for anew.",
        severity=Severity.NOTICE,
        **(
            moves.NO_PAUSE
            | moves.NO_HOLD
            | {"given": Given(by=who, at=story.now, evidence=evidence), "shut": closed.key}
        ),
    )


def begin_approved(story: Story, facts: Facts) -> None:
    """Begin the step that was approved early, or ask anew where its author would see something else by now."""
    rollout, given = story.rollout, story.rollout.given
    if given is None or not rollout.awaits_approval or rollout.next_step is None:
        return
    why = worsened(facts.verdict, given.evidence)
    if why:
        story.set(given=None)
        moves.ask_for_approval(story, rollout.next_step, f"The approval by {given.by} is void: {why}")
    elif facts.verdict is None or facts.verdict.action == "pass":
        closed = moves.may_enter(story, rollout.next_step, facts.per_minute)
        if closed is None:
            told = f"Approved by {given.by}, and the share may rise now."
            moves.enter_step(story, rollout.next_step, told, per_minute=facts.per_minute, approved=True)


def worsened(verdict: Verdict | None, seen: float) -> str | None:
    """Why what an approver saw is not what is seen now, or None: more than before, and enough to be in doubt."""
    if verdict is None:
        return None
    if verdict.action not in {"pass", "hold"}:
        return verdict.sentence
    if verdict.evidence >= DOUBT and verdict.evidence > GROWN * seen:
        return f"the evidence against the candidate has grown from {seen:.3g} to {verdict.evidence:.3g}. {verdict.sentence}"
    return None


def allowed_write(story: Story, facts: Facts, write: Split | None) -> Split | None:
    """The write, unless it would raise the candidate's share while it may not: a step that began just before."""
    rollout, endpoint = story.rollout, facts.snapshot.endpoint if facts.snapshot else None
    candidate = rollout.candidate or ""
    if write is None or endpoint is None or write.share(candidate) <= endpoint.traffic.share(candidate):
        return write
    closed = moves.may_rise(story)
    if closed is None:
        return write
    story.set(wanted_since=story.now)  # it is not Azure that keeps us waiting
    told = f"Not written yet, {write}: {closed.sentence(story.now)}."
    story.tell_once(f"shut {closed.key}", "shut", told, Severity.NOTICE)
    return None
