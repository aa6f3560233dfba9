"""Which two deployments are observed: those that are named, else those that the traffic tells.

The rule: where traffic is split already, stable is the deployment with the larger share, of two equal ones the one that
was changed the longest ago, and it is said which was taken. What traffic cannot tell is a refusal that says how to name it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rollout.lifecycle.rollout import Rollout
from rollout.world import DeploymentState, Snapshot, Split, Unreadable

Known = Mapping[str, DeploymentState | Unreadable]
_LAST = "9999"  # when what shows no time was changed
_BY_NAME = "say which two, with --stable NAME and --candidate NAME (in a policy: `stable:` and `candidate:`)"


@dataclass(frozen=True, kw_only=True)
class Named:
    """The two, by name; `why` says how they were told apart, where nobody had named them."""

    stable: str
    candidate: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Unclear:
    """They cannot be told; the sentence says what to do."""

    sentence: str


def find_pair(rollout: Rollout, split: Split, known: Known) -> Named | Unclear:
    """The two deployments that the rollout is about."""
    stable, candidate = _folded(rollout.stable), _folded(rollout.candidate)
    if stable is not None and stable == candidate:
        return Unclear(sentence=f"{rollout.stable} cannot be stable and candidate at once: name two deployments")
    if stable is not None and candidate is not None:
        return Named(stable=stable, candidate=candidate)
    holders = [name for name in _holders(split, known) if name not in {stable, candidate}]
    if stable is not None:
        found = _only_one(rollout, holders, known, beside=stable)
        return found if isinstance(found, Unclear) else Named(stable=stable, candidate=found)
    if candidate is not None:
        found = holders[0] if holders else _only_one(rollout, (), known, beside=candidate)
        return found if isinstance(found, Unclear) else Named(stable=found, candidate=candidate)
    return _by_traffic(rollout, split, holders, known)


def likely_stable(rollout: Rollout, snapshot: Snapshot | None) -> str | None:
    """The deployment whose data shows whether anything can be judged, before the two are settled."""
    if rollout.stable is not None:
        return rollout.stable
    if snapshot is None or snapshot.endpoint is None:
        return None
    split = snapshot.endpoint.traffic
    if rollout.observes:
        found = find_pair(rollout, split, snapshot.deployments or {})
        return found.stable if isinstance(found, Named) else None
    return split.shares[0][0] if len(split.shares) == 1 else None


def _by_traffic(rollout: Rollout, split: Split, holders: Sequence[str], known: Known) -> Named | Unclear:
    if not holders:
        return Unclear(sentence=f"{rollout.ref.name} has no traffic that could tell stable from candidate; {_BY_NAME}")
    if len(holders) > 2:
        return Unclear(sentence=f"{len(holders)} deployments have traffic ({split}); {_BY_NAME}")
    stable = holders[0]
    if len(holders) == 1:
        idle = _only_one(rollout, (), known, beside=stable)
        return idle if isinstance(idle, Unclear) else Named(stable=stable, candidate=idle)
    return Named(stable=stable, candidate=holders[1], why=_why(split, stable, holders[1]))


def _why(split: Split, stable: str, candidate: str) -> str:
    larger = split.share(stable) > split.share(candidate)
    because = "has the larger share" if larger else "was changed longer ago, of two equal shares"
    return (
        f"The traffic is {split}: {stable} was taken as stable, because it {because}. If it is the other way round, end "
        "this, and name them with --stable and --candidate."
    )


def _only_one(rollout: Rollout, holders: Sequence[str], known: Known, *, beside: str) -> str | Unclear:
    """The deployment beside this one: the only one with traffic, else the only one that there is."""
    others = holders or sorted(name for name, found in known.items() if name != beside and found.name is not None)
    if len(others) == 1:
        return others[0]
    if not others:
        return Unclear(
            sentence=f"{rollout.ref.name} has no deployment beside {beside}: create the other one, without traffic"
        )
    have = "have traffic" if holders else "have no traffic"
    return Unclear(sentence=f"{' and '.join(others)} {have}; {_BY_NAME}")


def _holders(split: Split, known: Known) -> list[str]:
    """The deployments with traffic: the larger share first, then what was changed the longest ago."""
    return [name for name, _ in sorted(split.shares, key=lambda item: (-item[1], _changed(known, item[0]), item[0]))]


def _changed(known: Known, name: str) -> str:
    found = known.get(name)
    return (found.pin.modified_at or _LAST) if isinstance(found, DeploymentState) else _LAST


def _folded(name: str | None) -> str | None:
    return name.casefold() if name is not None else None
