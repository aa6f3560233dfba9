"""Before the first live request: can this rollout start, and which two deployments is it about?

The rule: a rollout starts only from a state that it understands wholly: one stable that holds all traffic, one candidate
that holds none, fresh data of stable. Everything else is a refusal that says what to do.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rollout.analysis.checks import deciding_source, sources_of
from rollout.analysis.terms import Source
from rollout.lifecycle.facts import Facts
from rollout.lifecycle.observing.pair import Known, Named, Unclear, find_pair
from rollout.lifecycle.own_checks import not_read
from rollout.lifecycle.rollout import Rollout
from rollout.world import CreateDeployment, DeploymentState, EndpointKind, EndpointState, Pin, Snapshot, Unreadable

#: Stable's last log row must not be older than this when the rollout starts: rows arrive after 3 to 10, at worst 20 minutes.
FRESH = timedelta(minutes=20)
#: Sources that only managed endpoints have.
_OF_MANAGED = frozenset({"logs", "metrics"})
#: How long a candidate that is still being created is awaited.
CANDIDATE_AWAITED = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Ready:
    """It can start, with these two."""

    stable: str
    candidate: str
    pins: tuple[Pin, Pin]
    why: str = ""  # how the two were told apart, where traffic had to tell
    told: str = ""  # how the smoke test went


@dataclass(frozen=True, kw_only=True)
class NotYet:
    """Something is still missing that may come by itself until `until`; then it is refused with the same sentence."""

    sentence: str
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A person must act first; `more` follows the sentence, such as the end of a console."""

    sentence: str
    more: str = ""


def check_start(rollout: Rollout, facts: Facts, now: datetime) -> Ready | NotYet | Refused:
    """Whether the rollout can start now."""
    snapshot = facts.snapshot
    if snapshot is None or (snapshot.endpoint is not None and snapshot.deployments is None):
        until = rollout.created_at + CANDIDATE_AWAITED
        return NotYet(sentence=(facts.trouble or "Azure has not answered yet").rstrip("."), until=until)
    if snapshot.endpoint is None:
        return Refused(
            sentence=f"endpoint {rollout.ref.name} does not exist in workspace {rollout.ref.workspace}; "
            "check endpoint_name and workspace in the policy"
        )
    return _check_endpoint(rollout, snapshot.endpoint) or _check_deployments(rollout, facts, snapshot, now)


def could_start(rollout: Rollout, endpoint: EndpointState) -> Refused | None:
    """What of the endpoint alone speaks against a start; None where nothing does."""
    found = _check_endpoint(rollout, endpoint) or _find_stable(rollout, endpoint)
    return found if isinstance(found, Refused) else None


def _check_endpoint(rollout: Rollout, endpoint: EndpointState) -> Refused | None:
    unseen = [source for source in sources_of(rollout.policy) if source in _OF_MANAGED]
    if endpoint.kind is EndpointKind.KUBERNETES and unseen:
        return Refused(
            sentence=f"{endpoint.name} is a Kubernetes endpoint: it has no traffic log and no platform metrics, and the policy "
            f"judges by {' and '.join(unseen)}; write `expert: {{evidence: [probes]}}` and "
            "`probes: {request_file: requests/sample.json}`, or checks of your own, into the policy"
        )
    if rollout.policy.mirror and endpoint.kind is EndpointKind.KUBERNETES and not rollout.observes:
        return Refused(
            sentence=f"{endpoint.name} is a Kubernetes endpoint, and Azure mirrors traffic on managed ones only: take the "
            "`mirror_traffic` steps out of the policy"
        )
    if endpoint.mirror_traffic.shares and not rollout.observes and not _mirrors_itself(rollout, endpoint):
        return Refused(
            sentence=f"{endpoint.name} mirrors traffic ({endpoint.mirror_traffic}), and Azure refuses live traffic for a "
            "mirrored deployment; take the mirror traffic off first"
        )
    return None


def _mirrors_itself(rollout: Rollout, endpoint: EndpointState) -> bool:
    return rollout.mirrors and not endpoint.mirror_traffic.others(rollout.candidate or "")


def _check_deployments(rollout: Rollout, facts: Facts, snapshot: Snapshot, now: datetime) -> Ready | NotYet | Refused:
    assert snapshot.endpoint is not None  # noqa: S101  (the caller has looked)
    assert snapshot.deployments is not None  # noqa: S101
    named = _name_pair(rollout, snapshot.endpoint, snapshot.deployments)
    if isinstance(named, Refused):
        return named
    pair = _check_pair(rollout, snapshot, named.stable, named.candidate)
    checked = pair if isinstance(pair, NotYet | Refused) else _check_time(rollout, facts, snapshot, now, pair)
    return replace(checked, why=named.why) if isinstance(checked, Ready) else checked


def awaited_since(rollout: Rollout) -> datetime:
    """Since when the rest is awaited: since the candidate was created or got copies, where the rollout has done that."""
    mirrored = [rollout.mirroring.off_at] if rollout.mirroring and rollout.mirroring.off_at else []
    return max([*_made(rollout), *mirrored], default=rollout.created_at)


def _made(rollout: Rollout) -> list[datetime]:
    creations = [each for each in rollout.errands if isinstance(each.errand, CreateDeployment)]
    return [each.ended_at for each in creations if each.outcome == "done" and each.ended_at]


def _name_pair(rollout: Rollout, endpoint: EndpointState, deployments: Known) -> Named | Refused:
    if rollout.observes:
        found = find_pair(rollout, endpoint.traffic, deployments)
        return Refused(sentence=found.sentence) if isinstance(found, Unclear) else found
    stable = _find_stable(rollout, endpoint)
    if isinstance(stable, Refused):
        return stable
    candidate = _find_candidate(rollout, deployments, stable)
    return candidate if isinstance(candidate, Refused) else Named(stable=stable, candidate=candidate)


def _find_stable(rollout: Rollout, endpoint: EndpointState) -> str | Refused:
    split = endpoint.traffic
    if len(split.shares) != 1:
        return Refused(
            sentence=f"the traffic of {endpoint.name} is {split}; a rollout starts from one deployment that holds all of it: "
            f'set it with `az ml online-endpoint update -n {endpoint.name} --traffic "NAME=100"` first'
        )
    holder = split.shares[0][0]
    named = rollout.stable or rollout.policy.stable
    if named is not None and named.casefold() != holder:
        return Refused(
            sentence=f"the policy names {named} as stable, but {holder} holds all traffic of {endpoint.name}; "
            "correct `stable` in the policy, or leave it out"
        )
    return holder


def _find_candidate(rollout: Rollout, deployments: Known, stable: str) -> str | Refused:
    named = rollout.candidate
    if named is not None:
        return Refused(sentence=f"{named} is the stable deployment already") if named.casefold() == stable else named
    idle = sorted(name for name, found in deployments.items() if name != stable and found.name is not None)
    if len(idle) == 1:
        return idle[0]
    if not idle:
        return Refused(
            sentence=f"there is no candidate: {rollout.ref.name} has no deployment beside {stable}; create one without "
            "traffic first"
        )
    return Refused(
        sentence=f"{' and '.join(idle)} have no traffic: say which one is the candidate, with `candidate:` in the policy or "
        "`--candidate NAME`"
    )


def _check_pair(
    rollout: Rollout, snapshot: Snapshot, stable: str, candidate: str
) -> tuple[DeploymentState, DeploymentState] | NotYet | Refused:
    baseline, found = _usable(rollout, snapshot, stable), _usable(rollout, snapshot, candidate)
    if isinstance(baseline, NotYet | Refused):
        return baseline
    return found if isinstance(found, NotYet | Refused) else (baseline, found)


def _usable(rollout: Rollout, snapshot: Snapshot, name: str) -> DeploymentState | NotYet | Refused:
    found = snapshot.deployment(name)
    if (
        found is None
        and _made(rollout)
        and rollout.candidate is not None
        and name.casefold() == rollout.candidate.casefold()
    ):
        sentence = f"Azure does not show {name} yet, which was created"
        return NotYet(sentence=sentence, until=awaited_since(rollout) + CANDIDATE_AWAITED)
    if found is None:
        there = ", ".join(sorted(snapshot.deployments or {}))
        return Refused(sentence=f"deployment {name} does not exist; its endpoint has {there}")
    if isinstance(found, Unreadable):
        sentence = f"Azure's description of deployment {name} cannot be used: {found.why}; look at it in the Studio"
        return NotYet(sentence=sentence, until=rollout.created_at + CANDIDATE_AWAITED)
    if not found.exists_to_serve:
        return Refused(sentence=f"deployment {name} is {found.state}; mend or replace it first")
    return found


def _check_time(
    rollout: Rollout, facts: Facts, snapshot: Snapshot, now: datetime, pair: tuple[DeploymentState, DeploymentState]
) -> Ready | NotYet | Refused:
    endpoint = snapshot.endpoint
    awaited = awaited_since(rollout) + CANDIDATE_AWAITED
    for found in pair:
        if found.state != "Succeeded":
            return NotYet(sentence=f"deployment {found.name} is still {found.state}", until=awaited)
    if endpoint is not None and not endpoint.settled:
        return NotYet(sentence=f"{endpoint.name} is {endpoint.state}: somebody else's operation runs", until=awaited)
    until = awaited_since(rollout) + rollout.policy.when.no_data.hold
    source = deciding_source(rollout.policy)
    if source != "probes" and (facts.fresh_at is None or now - facts.fresh_at > FRESH):
        return NotYet(sentence=_no_fresh_data(rollout, pair[0].name, facts, source), until=until)
    own = not_read(rollout, facts)
    if own is not None:
        return NotYet(sentence=own, until=until)
    return Ready(stable=pair[0].name, candidate=pair[1].name, pins=(pair[0].pin, pair[1].pin))


def _no_fresh_data(rollout: Rollout, stable: str, facts: Facts, source: Source) -> str:
    if facts.trouble:
        return facts.trouble.rstrip(".")
    name = rollout.ref.name
    if facts.read_at is None or facts.read_at < rollout.created_at:
        what = {"metrics": f"the metrics of {name} have", "custom": "the policy's own checks have"}
        told = what.get(source, f"the traffic log of {name} has")
        return f"{told} not been read yet; where it stays so, /readyz and the daemon's log say why"
    seen = f"none since {facts.fresh_at:%H:%M} UTC" if facts.fresh_at else "none at all in the last hour"
    where, check = _SOUGHT.get(source, _SOUGHT["logs"])
    return f"no fresh rows of {stable} in {where} ({seen}): without them nobody can judge. Check that {check}"


_SETTING = (
    "the endpoint gets traffic and that its diagnostic setting sends AmlOnlineEndpointTrafficLog to the log workspace "
    "of the settings (a new setting takes up to an hour)"
)
#: Where stable's rows are looked for, and what to look at where there are none.
_SOUGHT = {
    "logs": ("AmlOnlineEndpointTrafficLog", _SETTING),
    "metrics": ("the metric RequestsPerMinute", "the endpoint gets traffic"),
    "custom": ("what the policy's own checks count", "the endpoint gets traffic and that the queries count all of it"),
}
