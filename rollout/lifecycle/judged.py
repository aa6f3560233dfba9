"""From a verdict to a move: go on, hold, retreat, roll back.

The rule: a pass counts only for the step that was judged, under the split that Azure has confirmed; a hold is always
bounded: by the policy, or, for an incident of both, by the deadline; a roll back never leads onto a stable that cannot
serve, and never over a person's hands.
"""

from dataclasses import replace
from datetime import timedelta

from rollout.analysis.verdict import Reason, Verdict
from rollout.lifecycle import moves, sentences
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.guards import back_to_stable, hands_on, unreadable
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.story import Story
from rollout.policy import Policy
from rollout.world import Severity

#: What bounds a hold: `when.no_data` where there is nothing sound to judge, `when.doubt` where the bake ended without
#: an answer, the deadline while both deployments are in trouble. Other holds are the bake itself.
BOUNDS = {
    Reason.NO_DATA: "no_data",
    Reason.NO_TRAFFIC: "no_data",
    Reason.SPLIT: "no_data",
    Reason.NOT_COMPARABLE: "no_data",
    Reason.REQUESTS: "doubt",
    Reason.DOUBT: "doubt",
    Reason.MAXIMUM: "doubt",
    Reason.SHARED_INCIDENT: "shared_incident",
}
#: An incident of both that comes and goes alerts people no more often than this.
INCIDENT_AGAIN = timedelta(hours=1)
_JUDGED = frozenset({Phase.PROGRESSING, Phase.RETREATED, Phase.WAITING, Phase.PAUSED, Phase.PROMOTING})
_SUSPECTED = frozenset({Phase.PROGRESSING, Phase.WAITING})


def judged(story: Story, facts: Facts, before: Rollout) -> None:
    """Let the verdict of this tick move the rollout; `before` is the rollout that was judged."""
    verdict, rollout = facts.verdict, story.rollout
    if verdict is None or rollout.phase not in _JUDGED or before.judged_from is None:
        return
    if rollout.judged_from != before.judged_from:
        return  # this tick began the evidence afresh
    story.set(judgement=facts.judgement, verdict=verdict)
    verdict = _seen_whole(verdict, rollout, facts)
    tell_alerts(story, verdict)
    if verdict.action == "fail":
        _fail(story, facts, verdict)
    elif story.rollout.fail_stands:
        return  # people were told of a fail: what the judge says since raises no share
    elif _place(story.rollout) != _place(before):
        return  # this tick has moved on: the verdict speaks of another split
    elif story.rollout.phase is Phase.RETREATED:
        _while_retreated(story, facts, verdict)
    elif verdict.action == "retreat" and story.rollout.phase in _SUSPECTED:
        moves.retreat(story, verdict.sentence, facts.per_minute)
    elif _baking(story.rollout):
        if verdict.action == "pass":
            _pass(story, verdict)
        else:
            _hold(story, facts, verdict)


def _seen_whole(verdict: Verdict, rollout: Rollout, facts: Facts) -> Verdict:
    """More traffic needs two deployments that are known to be the ones judged: else a pass is a hold."""
    unread = unreadable(rollout, facts)
    if unread is None or not (verdict.action == "pass" or verdict.reason is Reason.RECOVERED):
        return verdict
    told = f"{unread}: whether it still is what was judged is not known, so it gets no more traffic."
    if verdict.action == "pass":
        told = f"{told} The judge: {verdict.sentence}"
    return replace(verdict, action="hold", reason=Reason.NO_DATA, sentence=told)


def tell_alerts(story: Story, verdict: Verdict) -> None:
    """Tell people, once in a step, what a check saw that decides nothing."""
    for finding in verdict.findings:
        known = f"{story.rollout.step}:{finding.check}"
        if finding.alert and known not in story.rollout.noticed:
            story.set(noticed=(*story.rollout.noticed, known))
            story.tell("noticed", finding.sentence, Severity.ACTION)


def on_regression(policy: Policy, verdict: Verdict) -> str:
    """`rollback`, `pause` or `alert`: what the checks ask for that failed the candidate; the strictest of several."""
    failed = [policy.checks.named(finding.check) for finding in verdict.findings if finding.action == "fail"]
    answers = {check.on_regression or policy.when.regression for check in failed if check is not None}
    return next((answer for answer in ("rollback", "pause", "alert") if answer in answers), policy.when.regression)


def _place(rollout: Rollout) -> tuple[object, ...]:
    return rollout.step, rollout.share, rollout.step_since


def _baking(rollout: Rollout) -> bool:
    """A step is being judged, and not held for a person."""
    return rollout.phase is Phase.PROGRESSING or (rollout.phase is Phase.WAITING and not rollout.awaits_approval)


def _fail(story: Story, facts: Facts, verdict: Verdict) -> None:
    rollout = story.rollout
    answer = on_regression(rollout.policy, verdict)
    if answer == "alert" and rollout.phase not in {Phase.PAUSED, Phase.PROMOTING}:
        _tell_fail(story, verdict)
        return
    if answer != "rollback" and not hands_on(rollout):
        _pause_on_fail(story, verdict)
        return
    if answer == "rollback" and rollout.paused_because == "regression":
        story.set(fail_stands=False)  # a check that only pauses has asked a person; this one does not ask
    back_to_stable(story, facts, verdict.sentence, f"Rolling back to {rollout.stable} 100 %: {verdict.sentence}")
    if story.rollout.phase is Phase.PAUSED:
        story.set(fail_stands=True)


def _pause_on_fail(story: Story, verdict: Verdict) -> None:
    story.set(fail_stands=True)
    ways = sentences.ways(story.rollout, resume="goes on with fresh evidence and half the error budget")
    moves.pause(
        story,
        "regression",
        f"Paused on a regression, as the policy says. {verdict.sentence} {ways}",
        told=("left_alone",),
    )
    story.explain()


def _tell_fail(story: Story, verdict: Verdict) -> None:
    """Page once, and hold the share where it is until a person goes on or the evidence of another check rolls back."""
    if story.rollout.fail_stands:
        return
    story.set(fail_stands=True)
    story.move(
        Phase.WAITING,
        f"Act now: {verdict.sentence} As the policy says, nothing is moved: the share stays at {story.rollout.share} %, and "
        f"judging goes on. {sentences.ways(story.rollout, resume='goes on with fresh evidence and half the error budget')}",
        severity=Severity.PAGE,
        **(moves.NO_HOLD | {"held_since": story.now, "held_reason": Reason.REGRESSION.value, "given": None}),
    )
    story.explain()


def _while_retreated(story: Story, facts: Facts, verdict: Verdict) -> None:
    if verdict.action == "retreat":
        story.set(**moves.NO_HOLD)
    elif verdict.reason in BOUNDS:
        _hold(story, facts, verdict)
    else:
        moves.end_retreat(story, verdict.sentence)


def _pass(story: Story, verdict: Verdict) -> None:
    rollout = story.rollout
    if rollout.step_since is None:
        return
    if rollout.sized_share is not None:
        moves.fill_step(story, verdict.sentence)
    elif rollout.step + 1 < len(rollout.policy.steps):
        moves.enter_step(story, rollout.step + 1, verdict.sentence)
    else:
        moves.finish(story, verdict.sentence)


def _hold(story: Story, facts: Facts, verdict: Verdict) -> None:
    rollout = story.rollout
    bound = BOUNDS.get(verdict.reason)
    if bound is None:
        _bake_on(story, verdict)
        return
    if rollout.held_reason != verdict.reason:
        same = rollout.held_reason is not None and BOUNDS.get(Reason(rollout.held_reason)) == bound
        held_since = rollout.held_since if same and rollout.held_since else story.now
        story.set(held_since=held_since, held_reason=verdict.reason.value, shut=None)
        _tell_hold(story, verdict, bound)
    _end_hold(story, facts, verdict, bound)


def _bake_on(story: Story, verdict: Verdict) -> None:
    """Nothing holds the step (any more): it bakes. One that waits for a window waits on."""
    if story.rollout.shut is not None:
        return
    if story.rollout.phase is Phase.WAITING:
        story.move(Phase.PROGRESSING, f"Going on. {verdict.sentence}", **moves.NO_HOLD)
    elif story.rollout.held_reason is not None:
        story.set(**moves.NO_HOLD)


def _tell_hold(story: Story, verdict: Verdict, bound: str) -> None:
    """The first line of a hold; a retreat stays a retreat, everything else waits."""
    rollout = story.rollout
    told, severity = verdict.sentence, None
    if bound == "shared_incident":
        told, severity = _incident(story, told)
    else:
        limit, then = limit_of(rollout, bound)
        ends = sentences.clock((rollout.held_since or story.now) + limit)
        told = f"{told} If nothing changes, the rollout {'rolls back' if then == 'rollback' else 'pauses'} at {ends}."
    if rollout.phase is Phase.RETREATED:
        story.tell("held", told, severity)
    else:
        story.move(Phase.WAITING, told, severity=severity)


def _incident(story: Story, told: str) -> tuple[str, Severity | None]:
    """The line of an incident of both, and whether it alerts: one that comes back within the hour does not."""
    before = story.rollout.incident_told_at
    told = f"Again: {told}" if before else told
    if before is not None and story.now - before < INCIDENT_AGAIN:
        return told, None
    story.set(incident_told_at=story.now)
    return told, Severity.ACTION


def limit_of(rollout: Rollout, bound: str) -> tuple[timedelta, str]:
    """How long this bound lets a hold last, and what follows then."""
    when = rollout.policy.when
    return (when.no_data.hold, when.no_data.then) if bound == "no_data" else (when.doubt.extend, when.doubt.then)


def _end_hold(story: Story, facts: Facts, verdict: Verdict, bound: str) -> None:
    rollout = story.rollout
    limit, then = limit_of(rollout, bound)
    if bound == "shared_incident" or rollout.held_since is None or story.now - rollout.held_since < limit:
        return
    held = f"{sentences.minutes(limit)} without an answer. {verdict.sentence}"
    if then == "rollback":
        back_to_stable(story, facts, f"Held for {held}", f"Rolling back to {rollout.stable} 100 % after {held}")
    else:
        forward = f"`rollout promote {rollout.ref.name}` goes on without it; " if bound == "doubt" else ""
        ways = sentences.ways(rollout, resume="waits as long again")
        moves.pause(story, bound, f"Paused after {held} {forward}{ways}")
