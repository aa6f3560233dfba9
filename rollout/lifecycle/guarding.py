"""Guarding: after the promotion stable is kept for a while, and takes the traffic back if the candidate fails.

The rule: nothing is written while guarding but a roll back, and nothing that a person does is undone: another split, a
deployment that is changed or taken away, ends it. While a fail stands that only people were told of, it does not end by
itself, so that stable is not given up under an unanswered question.
"""

from datetime import timedelta

from rollout.analysis.verdict import Reason, Verdict
from rollout.analysis.watch import usual_of
from rollout.lifecycle import sentences
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.guards import back_to_stable
from rollout.lifecycle.judged import on_regression, tell_alerts
from rollout.lifecycle.phases import Phase
from rollout.lifecycle.rollout import Rollout
from rollout.lifecycle.story import Story
from rollout.world import DeploymentState, Severity, Split


def begin_guarding(story: Story, promoted: str, kept: timedelta) -> None:
    """The candidate holds all traffic: `promoted` tells it, without its end."""
    rollout, until = story.rollout, story.now + kept
    story.move(
        Phase.GUARDING,
        f"{promoted}; {rollout.stable} is kept until {sentences.moment(until)}, and takes the traffic back if "
        f"{rollout.candidate} fails.",
        severity=Severity.NOTICE,
        guarded_until=until,
        usual=usual_of(rollout.verdict),
        step_since=story.now,
        verdict=None,
        held_since=None,
        held_reason=None,
    )
    story.explain()


def guard(story: Story, facts: Facts, before: Rollout) -> None:
    """One tick of guarding: what people did, what the candidate shows, and whether the time is over."""
    if story.rollout.phase is not Phase.GUARDING or before.phase is not Phase.GUARDING:
        return
    _deployments(story, facts)
    if story.rollout.phase is Phase.GUARDING and facts.verdict is not None:
        story.set(verdict=facts.verdict)
        _judged(story, facts, facts.verdict)
    if story.rollout.phase is Phase.GUARDING:
        _over(story)


def end_by_hand(story: Story, what: str, split: Split | None = None) -> None:
    """A person has taken it into their hands: they go on without us."""
    rollout = story.rollout
    shown = {"confirmed": split, "share": split.share(rollout.candidate or "")} if split is not None else {}
    finish_guarding(
        story,
        f"Guarding has ended: {what}. {rollout.ref.name} is left as it is; {rollout.stable} does not take the traffic back "
        "any more by itself.",
        severity=Severity.ACTION,
        retire=False,
        **shown,
    )


def end_by_person(story: Story, who: str) -> None:
    """A person says that it was guarded long enough."""
    rollout = story.rollout
    finish_guarding(
        story,
        f"Guarding was ended by {who}: {rollout.ref.name} stays on {rollout.candidate} 100 %; "
        f"{sentences.fate(rollout)}.",
        severity=Severity.NOTICE,
        retire=True,
    )


def finish_guarding(
    story: Story,
    sentence: str,
    *,
    severity: Severity,
    retire: bool,
    **changes: object,
) -> None:
    """Every end of guarding but a roll back; `retire`: what the policy says of stable may follow."""
    then = story.rollout.policy.after.retires if retire else None
    story.move(Phase.SUCCEEDED, sentence, severity=severity, fail_stands=False, retire=then, **changes)
    story.explain()


def _over(story: Story) -> None:
    rollout = story.rollout
    if rollout.guarded_until is None or story.now < rollout.guarded_until:
        return
    name = rollout.ref.name
    if rollout.fail_stands:
        story.tell_once(
            "not over",
            "not_over",
            f"Guarding {name} goes on, though its time is over: the candidate failed, and nobody has said what holds. "
            f"`rollout promote {name} --reason …` keeps {rollout.candidate}; `rollout abort {name} --reason …` puts all "
            f"traffic back on {rollout.stable}.",
            Severity.ACTION,
        )
        return
    kept = sentences.minutes(rollout.guarded_until - rollout.phase_since)
    finish_guarding(
        story,
        f"Guarded for {kept}: {name} stays on {rollout.candidate} 100 %; {sentences.fate(rollout)}.{_unseen(rollout)}",
        severity=Severity.NOTICE,
        retire=True,
    )


def _unseen(rollout: Rollout) -> str:
    verdict = rollout.verdict
    return f" {verdict.sentence}" if verdict is not None and verdict.reason is Reason.NO_DATA else ""


def _deployments(story: Story, facts: Facts) -> None:
    rollout, snapshot = story.rollout, facts.snapshot
    if snapshot is None or snapshot.deployments is None or rollout.stable is None or rollout.candidate is None:
        return
    stable, candidate = snapshot.deployment(rollout.stable), snapshot.deployment(rollout.candidate)
    if stable is None:
        end_by_hand(story, f"its old stable deployment {rollout.stable} does not exist any more")
        return
    if candidate is None or (isinstance(candidate, DeploymentState) and not candidate.exists_to_serve):
        what = "does not exist any more" if candidate is None else f"is {candidate.state}"
        cause = f"{rollout.candidate} {what}"
        back_to_stable(story, facts, cause, f"Rolling back to {rollout.stable} 100 %: {cause}.")
        return
    if isinstance(stable, DeploymentState) and isinstance(candidate, DeploymentState) and rollout.pins:
        for name, seen, known in zip(
            (stable.name, candidate.name), (stable.pin, candidate.pin), rollout.pins, strict=True
        ):
            changed = seen.difference(known)
            if changed:
                end_by_hand(
                    story, f"deployment {name} was changed in place ({changed}), and what it is now was not judged"
                )
                return
        story.set(pins=(stable.pin, candidate.pin))


def _judged(story: Story, facts: Facts, verdict: Verdict) -> None:
    rollout = story.rollout
    tell_alerts(story, verdict)
    if verdict.action == "fail":
        _failed(story, facts, verdict)
    elif verdict.reason in {Reason.NO_DATA, Reason.SHARED_INCIDENT}:
        _held(story, verdict)
    elif rollout.held_reason is not None:
        story.set(held_reason=None, held_since=None, told=tuple(key for key in rollout.told if key != "unseen"))
        if "unseen" in rollout.told:
            story.tell("seen_again", f"The candidate is seen again. {verdict.sentence}", Severity.NOTICE)


def _failed(story: Story, facts: Facts, verdict: Verdict) -> None:
    rollout = story.rollout
    name = rollout.ref.name
    if on_regression(rollout.policy, verdict) == "rollback":
        back_to_stable(story, facts, verdict.sentence, f"Rolling back to {rollout.stable} 100 %: {verdict.sentence}")
        return
    story.set(fail_stands=True)
    story.tell_once(
        "failed",
        "failed",
        f"Act now: {verdict.sentence} As the policy says, nothing is moved: `rollout abort {name} --reason …` puts all "
        f"traffic back on {rollout.stable}; `rollout promote {name} --reason …` keeps {rollout.candidate}.",
        Severity.PAGE,
        sentences.explained(story.rollout, story.now),
    )


def _held(story: Story, verdict: Verdict) -> None:
    """Nothing to judge by, told once it lasts; or an incident of both, told at once."""
    rollout = story.rollout
    if rollout.held_reason != verdict.reason:
        story.set(held_reason=verdict.reason.value, held_since=story.now)
    since = story.rollout.held_since or story.now
    if verdict.reason is Reason.SHARED_INCIDENT:
        story.tell_once("both", "shared_incident", verdict.sentence, Severity.ACTION)
    elif story.now - since >= rollout.policy.when.no_data.hold:
        told = f"{verdict.sentence} While this lasts, {rollout.stable} does not take the traffic back by itself."
        story.tell_once("unseen", "unseen", told, Severity.ACTION)
