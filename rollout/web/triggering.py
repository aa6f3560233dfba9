"""What the API and `rollout triggers` show of triggers, as JSON values.

The rule: that of `views.py`: pure, and stable; times are ISO 8601 in UTC.

A trigger: `policy endpoint workspace waits_for [sentence] when_busy` · `since` (the first look: what was there before counts
as known; null before it) `looked_at trouble` (why the last look saw nothing, or null) `next_due` (of its schedule, or null)
· `starts [{kind what at state why rollout settled_at}]`, newest first; state: waiting, started, passed, refused or known.
"""

from collections.abc import Sequence
from typing import Any

from rollout.policy import Trigger
from rollout.policy.triggers import ModelTrigger
from rollout.ports import Start
from rollout.triggers import Watched
from rollout.web.views import iso

Json = dict[str, Any]


def trigger_view(watched: Watched, starts: Sequence[Start]) -> Json:
    """One policy's trigger, with what it saw and did last."""
    policy, trigger = watched.policy, watched.policy.trigger
    return {
        "policy": policy.name,
        "endpoint": policy.endpoint_name,
        "workspace": watched.ref.workspace if watched.ref else policy.workspace,
        "waits_for": waits_for(trigger) if trigger else [],
        "when_busy": trigger.when_busy if trigger else None,
        "since": iso(watched.since),
        "looked_at": iso(watched.looked_at),
        "trouble": watched.trouble,
        "next_due": iso(watched.next_due),
        "starts": [_start_view(start) for start in starts],
    }


def waits_for(trigger: Trigger) -> list[str]:
    """What a trigger waits for, in words."""
    found = []
    if trigger.deployment is not None:
        tags = ", ".join(f"{name}={value}" for name, value in trigger.deployment.tags.items())
        found.append(f"a deployment tagged {tags}, without traffic")
    if trigger.model is not None:
        found.append(_model(trigger.model))
    if trigger.schedule is not None:
        found.append(f"the schedule {trigger.schedule.expression} ({trigger.schedule.time_zone})")
    return found


def _model(sought: ModelTrigger) -> str:
    tags = ", ".join(f"{name}={value}" for name, value in (sought.tags or {}).items())
    said = [f"a version of model {sought.name}"]
    said += [f"in registry {sought.registry}"] if sought.registry else []
    said += [f"in stage {sought.stage}"] if sought.stage else []
    said += [f"tagged {tags}"] if tags else []
    return f"{' '.join(said)}, to be created as {' or '.join(sought.deployment.names)}"


def _start_view(start: Start) -> Json:
    return {
        "kind": start.kind,
        "what": start.what,
        "at": iso(start.at),
        "state": start.state,
        "why": start.why,
        "rollout": start.rollout_id,
        "settled_at": iso(start.settled_at),
    }
