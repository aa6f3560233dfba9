"""Planning: whether a policy can see what it promises on an endpoint, and a policy that can where it cannot.

The rule: instant (closed form, no simulation) and pure. A concern that blocks says that the rollout cannot end well, or
would pass what it promises to catch; the others say what to know. A proposal changes steps, bakes, approvals,
`holdback`, `min_requests`, `deadline` and `first_step`, never what is compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from math import ceil, floor, log10

from rollout.analysis.checks import IGNORED_MS, deciding_source
from rollout.analysis.criteria import criteria_of, weighed
from rollout.analysis.forecast import Sight, sight
from rollout.analysis.guards import LIVE
from rollout.analysis.profile import Profile
from rollout.documents.units import format_duration
from rollout.lifecycle.timeline import MINUTE, Stretch, done_at, exposures, timeline
from rollout.policy import Approval, Policy, Step, effective_yaml
from rollout.policy.windows import too_long

BLIND, DIM = 0.05, 4.0  # errors: +5 pp unseen is blind; more than 4 times the increase allowed is worth a word
LEAST_A_MINUTE = 0.2  # a candidate that is asked less often looks as if it had no traffic
COMPARABLE_A_MINUTE, MOST_HOLDBACK = 0.5, 20
LONG = 4 * 60.0  # minutes after which a person should look before 100 %
SLACK = 1.5  # of the deadline beyond the time that all needs
#: What is tried, in this order, for each way to rise.
BAKES = (10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720)
SHAPES = ((5, 25, 50, 100), (10, 50, 100), (25, 100), (50, 100))
LAST_BAKE = 30
MOST_DEADLINE = timedelta(days=30)
A_DAY = 26 * 60.0
LONGEST = 3 * 24 * 60.0  # minutes that a proposal may take
_KEPT = ("endpoint_name", "steps", "min_requests")
_IMPLIED = "first_step: as_written\n"  # by steps that are written out


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """A stretch, and what is seen by its end with 80 %."""

    stretch: Stretch
    sight: Sight


@dataclass(frozen=True, kw_only=True)
class Concern:
    """What speaks against the policy on this endpoint."""

    blocking: bool
    sentence: str
    to_know: bool = False  # nothing that another policy would mend


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A policy on an endpoint, at a glance."""

    profile: Profile
    steps: tuple[PlannedStep, ...]
    done: float  # minutes to 100 % with every bake in full; approvals at once
    concerns: tuple[Concern, ...]
    min_requests: int  # that this traffic could keep

    @property
    def sight(self) -> Sight:
        """What the whole rollout sees."""
        return self.steps[-1].sight

    @property
    def blocked(self) -> bool:
        """The policy should not be used here."""
        return any(concern.blocking for concern in self.concerns)


def plan_of(policy: Policy, profile: Profile) -> Plan:
    """What the policy does on this endpoint."""
    stretches = timeline(policy, profile)
    criteria = list(criteria_of(policy).values())
    seen = [sight(criteria, profile, exposures(stretches, at), policy.expert.alpha) for at in range(len(stretches))]
    steps = tuple(PlannedStep(stretch=one, sight=sees) for one, sees in zip(stretches, seen, strict=True))
    done = done_at(policy, stretches)
    found = [*_about_requests(policy, stretches), *_about_time(policy, done), *_about_sight(policy, profile, seen[-1])]
    found += [*_about_the_rest(policy), *_about_windows(policy, done)]
    return Plan(
        profile=profile,
        steps=steps,
        done=done,
        concerns=tuple(sorted(found, key=lambda concern: not concern.blocking)),
        min_requests=keepable(stretches),
    )


def keepable(stretches: Sequence[Stretch]) -> int:
    """A `min_requests` that each step reaches with room to spare: two thirds of the least, rounded down."""
    least = 2.0 / 3.0 * min(stretch.requests for stretch in stretches if not stretch.sized)
    if least < 10:
        return max(1, floor(least))
    digit = 10 ** (floor(log10(least)) - 1)
    return int(floor(least / digit) * digit)


def unforeseen(policy: Policy) -> str | None:
    """Why there is nothing to forecast: the policy is not judged by the endpoint's own traffic; None where it is."""
    if deciding_source(policy) in LIVE and weighed(policy):
        return None
    judged = "queries of its own"
    if deciding_source(policy) == "probes" and policy.probes is not None:
        judged = f"probes ({policy.probes.per_minute} requests a minute to each deployment)"
    if deciding_source(policy) in LIVE:
        judged = "a maximum or queries of its own"
    return (
        f"{policy.name} is judged by {judged} alone: what they will see does not follow from the endpoint's traffic, and "
        "is not forecast. Start with small steps, or judge by [logs, metrics] too."
    )


# --- what speaks against it


def _about_windows(policy: Policy, done: float) -> Iterator[Concern]:
    """The times of a plan are those of a rollout that never waits."""
    windows = policy.windows
    longest = windows.longest() if windows else None
    bakes = [(at, step.bake) for at, step in enumerate(policy.steps)]
    for (_, at), why in too_long(windows, bakes, first_sized=policy.first_step == "auto"):
        yield Concern(blocking=True, sentence=f"Step {int(at) + 1} {why}.")
    if windows is None or (longest is None and not windows.freeze):
        return
    if longest is not None and longest / MINUTE < done:
        how = f"the longest is {format_duration(longest)}, so the rollout goes on in later ones and keeps its share in between"
    else:
        how = "a step that cannot end before they do waits for the next, and so does a start outside"
    allowed = f" ({', '.join(windows.allow)})" if windows.allow else ""
    yield Concern(
        blocking=False,
        to_know=True,
        sentence=f"Shares rise in the policy's windows only{allowed}: {how}. The times below do not count such waits.",
    )


def _about_requests(policy: Policy, stretches: Sequence[Stretch]) -> Iterator[Concern]:
    extend = policy.when.doubt.extend / MINUTE
    own = [stretch for stretch in stretches if not stretch.sized]
    short = [stretch for stretch in own if stretch.requests < policy.min_requests]
    hopeless = [one for one in short if one.requests + one.rate * one.share / 100 * extend < policy.min_requests]
    if hopeless:
        yield Concern(
            blocking=True,
            sentence=f"{_steps(hopeless)} about {_requests(hopeless)} of the candidate's requests by the end of "
            f"the bake, and min_requests wants {policy.min_requests}: after {_time(extend)} more "
            f"(when.doubt.extend) the rollout would {_then(policy.when.doubt.then)}.",
        )
    elif short:
        more = max((policy.min_requests - one.requests) / (one.rate * one.share / 100) for one in short)
        yield Concern(
            blocking=False,
            sentence=f"{_steps(short)} about {_requests(short)} of the candidate's requests by the end of the "
            f"bake, and min_requests wants {policy.min_requests}: it would be held about {_time(more)} longer.",
        )
    quiet = [one for one in own if one.rate * one.share / 100 < LEAST_A_MINUTE]
    if quiet:
        worst = min(quiet, key=lambda one: one.rate * one.share)
        often = worst.rate * worst.share / 100
        yield Concern(
            blocking=True,
            sentence=f"At {worst.share} % the candidate gets {often:.2g} requests a minute: minutes without one do not "
            "count, and a quarter of an hour without one looks like a routing fault, which holds.",
        )


def _steps(stretches: Sequence[Stretch]) -> str:
    names = _joined([str(stretch.step + 1) for stretch in stretches])
    return f"Step {names} shows" if len(stretches) == 1 else f"Steps {names} show"


def _requests(stretches: Sequence[Stretch]) -> str:
    return _joined([f"{stretch.requests:.0f}" for stretch in stretches])


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _then(then: str) -> str:
    return "roll back" if then == "rollback" else then


def _about_time(policy: Policy, done: float) -> Iterator[Concern]:
    deadline = policy.deadline / MINUTE
    if done > deadline:
        yield Concern(
            blocking=True,
            sentence=f"All steps take about {_time(done)} with the lag of the data, Azure's writes and minutes "
            f"without requests, and the deadline is {_time(deadline)}: the rollout would pause before its end.",
        )


def _about_sight(policy: Policy, profile: Profile, seen: Sight) -> Iterator[Concern]:
    promised = {check.name for check in weighed(policy)}
    errors = policy.checks.error_rate if "error_rate" in promised else None
    latency = policy.checks.latency_p95 if "latency_p95" in promised else None
    if errors is not None:
        allowed = errors.max_increase + (policy.expert.ratio - 1.0) * profile.error_rate
        blind = seen.errors is None or seen.errors > max(BLIND, DIM * allowed)
        if blind or (seen.errors is not None and seen.errors > DIM * allowed):
            found = "at all" if seen.errors is None else f"below +{100 * seen.errors:.2g} pp"
            yield Concern(
                blocking=blind,
                sentence=f"error_rate promises to catch more than +{100 * errors.max_increase:g} pp, but no increase "
                f"{found} is seen with 80 % at this traffic within these steps.",
            )
    if latency is None:
        return
    increase = max(latency.max_increase, IGNORED_MS / max(1.0, profile.p95))
    if seen.latency is None or seen.latency > DIM * increase:
        found = "at all" if seen.latency is None else f"below +{100 * seen.latency:.0f} %"
        yield Concern(
            blocking=False,
            sentence=f"latency_p95 promises to catch more than +{100 * latency.max_increase:g} %, but no increase {found} "
            "is seen with 80 % at this traffic within these steps.",
        )


def _about_the_rest(policy: Policy) -> Iterator[Concern]:
    """What is judged and not forecast."""
    own = [check.name for check in policy.checks.custom if not check.dry_run]
    if own:
        what = "queries of your own" if len(own) > 1 else "a query of your own"
        sentence = f"{_joined(own)}: {what}, with a part of alpha; what it sees is not forecast, the rest is."
        yield Concern(blocking=False, sentence=sentence)


def _time(minutes: float) -> str:
    """`45 min`, `7 h 30 min`."""
    hours, left = divmod(round(minutes), 60)
    return f"{left} min" if not hours else f"{hours} h {left} min" if left else f"{hours} h"


# --- a policy that can


def proposal(policy: Policy, profile: Profile) -> Policy | None:
    """A policy for this endpoint that sees more; None where this one has no concerns, or none is better."""
    before = plan_of(policy, profile)
    if not _to_mend(before):
        return None
    tried = [(*_patient(policy, profile, list(policy.steps)), -1)]
    for place, shares in enumerate(_shapes(policy)):
        tried += [(*_try(policy, profile, shares, bake), place) for bake in BAKES]
    best, plan, _ = min(tried, key=lambda one: (*_badness(one[1]), one[1].done > LONG, one[2], one[1].done))
    return best if not plan.blocked and _badness(plan) < _badness(before) else None


def _badness(plan: Plan) -> tuple[bool, int, int, bool, float]:
    """Endless, then the concerns that block, then all, then days; where some are left, how blurred the sight is."""
    concerns = _to_mend(plan)
    blocking = sum(concern.blocking for concern in concerns)
    blurred = round(log10(plan.sight.errors or 10.0), 1) if concerns else 0.0
    return plan.done > LONGEST, blocking, len(concerns), plan.done > A_DAY, blurred


def _to_mend(plan: Plan) -> list[Concern]:
    return [concern for concern in plan.concerns if not concern.to_know]


def _shapes(policy: Policy) -> list[tuple[int, ...]]:
    own = tuple(step.traffic for step in policy.steps)
    return list(dict.fromkeys([own, *SHAPES]))


def _try(policy: Policy, profile: Profile, shares: Sequence[int], bake: int) -> tuple[Policy, Plan]:
    bakes = [bake] * (len(shares) - 1) + [max(LAST_BAKE, min(bake, 60))]
    known = {step.traffic: step.approve for step in policy.steps if step.traffic > shares[0]}
    asked = next((step.approve for step in policy.steps if step.approve), None)
    if not any(known.get(share) for share in shares):
        known[100] = asked  # a person's word stays, before the last step
    made = [Step(traffic=at, bake=long * MINUTE, approve=known.get(at)) for at, long in zip(shares, bakes, strict=True)]
    return _patient(policy, profile, made)


def _patient(policy: Policy, profile: Profile, steps: list[Step]) -> tuple[Policy, Plan]:
    """The policy with these steps, and with all else that they need at this traffic."""
    shares = [step.traffic for step in steps]
    changed = _with(
        policy,
        holdback=_holdback(policy, profile),
        steps=tuple(steps),
        first_step=_first_step(policy, shares),
        deadline=MOST_DEADLINE,
    )
    stretches = timeline(changed, profile)
    done = done_at(changed, stretches)
    if done > LONG and len(steps) > 1 and not any(step.approve for step in steps):
        steps[-1] = Step(traffic=100, bake=steps[-1].bake, approve=Approval())
    deadline = max(policy.deadline, timedelta(hours=ceil(SLACK * done / 60)))
    changed = _with(
        changed,
        steps=tuple(steps),
        deadline=min(deadline, MOST_DEADLINE),
        min_requests=min(policy.min_requests, keepable(stretches)),
    )
    return changed, plan_of(changed, profile)


def _holdback(policy: Policy, profile: Profile) -> int:
    """The policy's own, or the most there is where stable would be asked too seldom to compare with."""
    thin = policy.holdback and profile.mean * policy.holdback / 100 < COMPARABLE_A_MINUTE
    return MOST_HOLDBACK if thin else policy.holdback


def _first_step(policy: Policy, shares: Sequence[int]) -> str:
    return policy.first_step if shares[0] == policy.steps[0].traffic else "as_written"


def _with(policy: Policy, **changes: object) -> Policy:
    """The policy with other values, checked as if it had been written so."""
    values = {name: getattr(policy, name) for name in type(policy).model_fields}
    return Policy(**(values | changes))


def as_yaml(policy: Policy, *, base: Policy, comment: str = "") -> str:
    """The policy as a file, without what is so by default anyway; `base` is the policy of a file with nothing else in it."""
    known = dict(_blocks(effective_yaml(base)))
    known["first_step"] = _IMPLIED
    blocks = [text for name, text in _blocks(effective_yaml(policy)) if name in _KEPT or known.get(name) != text]
    return "".join(f"# {line}\n" for line in comment.splitlines()) + "".join(blocks)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Top-level fields with their lines."""
    name = ""

    def field(line: str) -> str:
        nonlocal name
        name = line.partition(":")[0] if line[0].isalpha() else name
        return name

    for key, lines in groupby(text.splitlines(keepends=True), key=field):
        yield key, "".join(lines)
