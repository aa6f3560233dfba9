"""The trial before the first write: both deployments answer the policy's sample requests, or nothing begins.

The rule: a policy with probes is judged by them, and one with a smoke test asks for it: a request that the deployments do
not understand, or a candidate that does not answer as stable does, is a person's business before any live traffic is.
"""

from dataclasses import replace
from datetime import timedelta

from rollout.lifecycle.facts import Facts
from rollout.lifecycle.prepare import NotYet, Ready, Refused, awaited_since
from rollout.lifecycle.story import Story

#: How long the answers are awaited: the daemon tries for about a minute, and says so when it gives up.
AWAITED = timedelta(hours=1)


def check_trial(story: Story, facts: Facts, ready: Ready) -> Ready | NotYet | Refused:
    """Ready once both have answered; the two are written down with their pins: from then on the daemon asks them."""
    policy = story.rollout.policy
    if policy.probes is None and policy.smoke_test is None:
        return ready
    story.set(stable=ready.stable, candidate=ready.candidate, pins=ready.pins)
    trial, mirroring = facts.trial, story.rollout.mirroring
    if trial is not None and mirroring is not None and mirroring.off_at is not None and trial.at < mirroring.off_at:
        trial = None  # it is asked again after the copies
    until = awaited_since(story.rollout) + AWAITED
    if trial is None:
        return NotYet(sentence="the policy's sample requests are being sent to both deployments", until=until)
    if trial.problem is None:
        return replace(ready, told=trial.told)
    if not trial.final:
        return NotYet(sentence=trial.problem, until=until)
    return Refused(
        sentence=f"{trial.problem}. Both deployments must answer the policy's sample requests before any traffic moves: "
        f"correct `{trial.of}` in the policy, or mend what answers"
    )
