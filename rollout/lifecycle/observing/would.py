"""What would follow from a verdict, if the rollout acted: told once, when it changes.

The rule: as `judged.py` moves a rollout on a verdict, so an observing one tells that it would. A share that would have been
cut is not cut, and the minutes since then are judged as those of a retreat would be. After what would have ended
the rollout nothing more is told.
"""

from dataclasses import replace

from rollout.analysis.checks import deciding_source
from rollout.analysis.sentences import comparison
from rollout.analysis.verdict import Reason, Verdict
from rollout.lifecycle import moves, sentences
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.guards import stable_cannot_serve
from rollout.lifecycle.judged import BOUNDS, limit_of, on_regression, tell_alerts
from rollout.lifecycle.rollout import Act, Rollout, Would
from rollout.lifecycle.splits import step_share
from rollout.lifecycle.stage import minute_of
from rollout.lifecycle.story import Story
from rollout.world import Severity

#: After these an acting rollout would be over, or wait for a person.
FINAL: frozenset[Act] = frozenset({"pause", "roll_back", "halt"})
_ONWARD: frozenset[Act] = frozenset({"go_on", "promote"})


def weigh(story: Story, facts: Facts, before: Rollout) -> None:
    """Take in the verdict of this tick; `before` is the rollout that was judged."""
    verdict, rollout = facts.verdict, story.rollout
    if verdict is None or before.step_since is None or rollout.judged_from != before.judged_from:
        return
    story.set(judgement=facts.judgement, verdict=verdict)
    tell_alerts(story, verdict)
    _count_harm(story, verdict)
    if verdict.action == "fail":
        _fail(story, facts, verdict)
    elif is_final(rollout):
        return
    elif rollout.step_since != before.step_since or rollout.left_at is not None:
        return  # the verdict speaks of another split than the one that is there now
    elif rollout.retreated_at is not None:
        _while_cut(story, verdict)
    elif verdict.action == "retreat":
        _cut(story, facts, verdict)
    elif verdict.action == "pass":
        _go_on(story, verdict)
    else:
        _hold(story, verdict)


def is_final(rollout: Rollout) -> bool:
    """Acting, the rollout would be over, or wait for a person."""
    return rollout.would is not None and rollout.would.act in FINAL


def judged_through(rollout: Rollout) -> int:
    """Minutes below this one were judged by the source that decides; -1 where none was."""
    if rollout.judgement is None:
        return -1
    deciding = rollout.judgement.sources.get(deciding_source(rollout.policy))
    return deciding.through if deciding else -1


def _count_harm(story: Story, verdict: Verdict) -> None:
    """Data comes late: what was harmed until the candidate would have gone is known only some minutes after."""
    missed = story.rollout.missed
    if missed is not None and judged_through(story.rollout) <= minute_of(missed.at) + 1:
        story.set(missed=replace(missed, harmed=verdict.harmed))


def _say(story: Story, act: Act, sentence: str, severity: Severity | None = None) -> None:
    story.tell(f"would_{act}", sentence, severity)
    story.set(would=Would(act=act, at=story.now, sentence=sentence))


def _fail(story: Story, facts: Facts, verdict: Verdict) -> None:
    rollout, answer = story.rollout, on_regression(story.rollout.policy, verdict)
    paused = rollout.would is not None and rollout.would.act == "pause"
    if is_final(rollout) and not (paused and answer == "rollback"):
        return  # a check that only pauses has asked a person; another one does not ask
    broken = stable_cannot_serve(rollout, facts)
    if broken:
        _end(story, "halt", verdict, f"Would leave the traffic alone and page somebody: {broken} {verdict.sentence}")
    elif answer == "pause":
        _end(story, "pause", verdict, f"Would pause on a regression, as the policy says. {verdict.sentence}")
    elif answer == "alert":
        _end(story, "pause", verdict, f"Would page people and hold the share, as the policy says. {verdict.sentence}")
    else:
        _end(story, "roll_back", verdict, f"Would roll back to {rollout.stable} 100 %: {verdict.sentence}")


def _end(story: Story, act: Act, verdict: Verdict, sentence: str) -> None:
    """Acting, the rollout would be over now."""
    _say(story, act, sentence, Severity.ACTION)
    finding = sentences.worst(verdict)
    why = comparison(finding) if finding else ""
    if story.rollout.would is not None:
        would = replace(story.rollout.would, why=why, harmed=verdict.harmed)
        first = story.rollout.missed
        story.set(would=would, missed=would if first is None or first.act == "pause" else first, **moves.NO_HOLD)
    story.explain()


def _cut(story: Story, facts: Facts, verdict: Verdict) -> None:
    rollout = story.rollout
    share = min(rollout.share, moves.share_for(facts.per_minute, moves.RETREAT_PER_MINUTE))
    cut = f"cut the share to {share} %" if share < rollout.share else f"hold the share at {share} %, which is little,"
    _say(story, "cut", f"Would {cut} while in doubt. {verdict.sentence}", Severity.NOTICE)
    story.set(retreated_at=story.now, retreated_from=rollout.share, **_anew(story), **moves.NO_HOLD)


def _while_cut(story: Story, verdict: Verdict) -> None:
    if verdict.action == "retreat":
        story.set(**moves.NO_HOLD)
        return
    if verdict.reason in BOUNDS:
        _keep_held(story, verdict, BOUNDS[verdict.reason])
        _end_hold(story, verdict, BOUNDS[verdict.reason])
        return
    share = story.rollout.retreated_from
    _say(story, "go_back", f"Would go back to {share} %. {verdict.sentence}", Severity.NOTICE)
    story.set(**_anew(story), **moves.NO_RETREAT, **moves.NO_HOLD)


def _anew(story: Story) -> dict[str, object]:
    """The minutes from now on count as those after another write, but where stable has none to compare them with."""
    return {} if story.rollout.share == 100 else {"step_since": story.now}


def _go_on(story: Story, verdict: Verdict) -> None:
    rollout = story.rollout
    if (rollout.would is not None and rollout.would.act in _ONWARD) or rollout.share == 100:
        return
    steps = rollout.policy.steps
    ahead = [index for index in range(len(steps)) if step_share(rollout.policy, index) > rollout.share]
    if not ahead:
        _say(story, "promote", f"Would promote {rollout.candidate} to 100 %. {verdict.sentence}", Severity.NOTICE)
    else:
        asks = "ask for an approval, then " if steps[ahead[0]].approve else ""
        share = step_share(rollout.policy, ahead[0])
        _say(story, "go_on", f"Would {asks}go on to {share} %. {verdict.sentence}", Severity.NOTICE)
    story.set(**moves.NO_HOLD)


def _hold(story: Story, verdict: Verdict) -> None:
    rollout = story.rollout
    if rollout.would is not None and rollout.would.act in _ONWARD:
        return  # acting, it would have gone on
    bound = BOUNDS.get(verdict.reason)
    if bound is None:
        if rollout.held_reason is not None:
            story.set(**moves.NO_HOLD)
            _say(story, "bake", f"Would go on baking. {verdict.sentence}")
        return
    if rollout.held_reason != verdict.reason:
        known = _keep_held(story, verdict, bound)
        if not known or rollout.would is None or rollout.would.act != "give_up":
            severity = Severity.NOTICE if bound == "shared_incident" else None
            _say(story, "hold", f"Would hold. {verdict.sentence}", severity)
    _end_hold(story, verdict, bound)


def _keep_held(story: Story, verdict: Verdict, bound: str) -> bool:
    """Remember what holds; True where it is held since before for a reason with the same bound."""
    rollout = story.rollout
    same = rollout.held_reason is not None and BOUNDS.get(Reason(rollout.held_reason)) == bound
    held_since = rollout.held_since if same and rollout.held_since else story.now
    story.set(held_since=held_since, held_reason=verdict.reason.value)
    return same


def _end_hold(story: Story, verdict: Verdict, bound: str) -> None:
    """What the policy does with a hold that lasts; the traffic stays, so judging goes on."""
    rollout = story.rollout
    already = rollout.would is not None and rollout.would.act == "give_up"
    if bound == "shared_incident" or rollout.held_since is None or already:
        return
    limit, then = limit_of(rollout, bound)
    if story.now - rollout.held_since >= limit:
        does = f"roll back to {rollout.stable} 100 %" if then == "rollback" else "pause"
        held = f"after {sentences.minutes(limit)} without an answer"
        _say(story, "give_up", f"Would {does} {held}. {verdict.sentence}", Severity.NOTICE)
