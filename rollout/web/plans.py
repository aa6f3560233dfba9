"""What the API and `rollout plan` show of a plan, as JSON values.

The rule: that of `views.py`: pure, and stable. Times are minutes from the start, shares of traffic whole percents, parts
of rollouts and rates numbers from 0 to 1 (0.005 is 0.5 percentage points), growth of latency relative (0.25 is 25 %).

A plan: `endpoint policy ok` (nothing blocks) · `profile` (see `profile_view`) · `steps [{step traffic share sized approve
bake_minutes begins_minute decided_minute requests sees}]` · `sees {errors latency}`: the smallest regressions seen with
80 %, null where none is · `watches {errors latency}`: which of them the policy's checks look at · `done_minutes {fixed
early}` · `min_requests` (what this traffic could keep) · `concerns [{blocking sentence}]` · `forecast {rollouts healthy
{rolled_back retreated paused promoted} faults [{name detected paused harm harm_95 minutes}]}` or null ·
`probes_per_minute` (sent to each deployment beside the traffic) or null · `proposal` (a policy's YAML) or null.
"""

from typing import Any

from rollout.analysis.forecast import Sight
from rollout.analysis.noise import Spreads
from rollout.analysis.profile import Profile
from rollout.lifecycle.forecast import Forecast
from rollout.lifecycle.planning import Plan, PlannedStep
from rollout.policy import Policy

Json = dict[str, Any]


def plan_view(policy: Policy, plan: Plan, *, forecast: Forecast | None = None, proposal: str | None = None) -> Json:
    """A plan, with what was played if it was."""
    early = forecast.healthy.early if forecast else None
    return {
        "endpoint": policy.endpoint_name,
        "policy": policy.name,
        "ok": not plan.blocked,
        "profile": profile_view(plan.profile),
        "steps": [_step(policy, step) for step in plan.steps],
        "sees": _sight(plan.sight),
        "watches": {
            "errors": policy.checks.error_rate is not None,
            "latency": policy.checks.latency_p95 is not None,
        },
        "done_minutes": {"fixed": plan.done, "early": early},
        "min_requests": plan.min_requests,
        "probes_per_minute": policy.probes.per_minute if policy.probes else None,
        "concerns": [{"blocking": one.blocking, "sentence": one.sentence} for one in plan.concerns],
        "forecast": _forecast(forecast) if forecast else None,
        "proposal": proposal,
    }


def _step(policy: Policy, step: PlannedStep) -> Json:
    stretch = step.stretch
    written = policy.steps[stretch.step]
    return {
        "step": stretch.step + 1,
        "traffic": written.traffic,
        "share": stretch.share,
        "sized": stretch.sized,
        "approve": written.approve is not None and not stretch.sized,
        "bake_minutes": stretch.bake,
        "begins_minute": stretch.begins,
        "decided_minute": stretch.ends,
        "requests": stretch.requests,
        "sees": _sight(step.sight),
    }


def _sight(sight: Sight) -> Json:
    return {"errors": sight.errors, "latency": sight.latency}


def _forecast(forecast: Forecast) -> Json:
    healthy = forecast.healthy
    return {
        "rollouts": forecast.rollouts,
        "healthy": {name: getattr(healthy, name) for name in ("rolled_back", "retreated", "paused", "promoted")},
        "faults": [
            {
                "name": damage.fault.name,
                "allowed": damage.allowed,
                "detected": damage.detected,
                "paused": damage.paused,
                "harm": damage.harm,
                "harm_95": damage.harm_95,
                "minutes": damage.minutes,
            }
            for damage in forecast.faults
        ],
    }


def profile_view(profile: Profile) -> Json:
    """The endpoint's traffic; read back by `profile_from`.

    `noise {rollouts spreads}`: what the judge expects, and after how many past rollouts; null where none were asked for.
    """
    return {
        "requests_per_minute_by_hour_utc": list(profile.per_minute),
        "error_rate": profile.error_rate,
        "client_error_rate": profile.client_error_rate,
        "latency_p95_ms": profile.p95,
        "durations": {str(index): count for index, count in sorted(profile.durations.items())},
        "tau": profile.tau,
        "latency_tau": profile.latency_tau,
        "lag_minutes": profile.lag,
        "sources": list(profile.sources),
        "begins_minute_of_day_utc": profile.begins,
        "days": profile.days,
        "minutes": profile.minutes,
        "noise": None if profile.taught is None else {"rollouts": profile.taught, "spreads": _plain(profile.expected)},
    }


def _plain(spreads: Spreads) -> Json:
    return {source: dict(checks) for source, checks in spreads.items()}


def profile_from(view: Json) -> Profile:
    """The profile that was shown; older daemons show no noise."""
    noise = view.get("noise")
    return Profile(
        per_minute=tuple(view["requests_per_minute_by_hour_utc"]),
        error_rate=view["error_rate"],
        client_error_rate=view["client_error_rate"],
        durations={int(index): count for index, count in view["durations"].items()},
        tau=view["tau"],
        latency_tau=view["latency_tau"],
        lag=view["lag_minutes"],
        sources=tuple(view["sources"]),
        begins=view["begins_minute_of_day_utc"],
        days=view["days"],
        minutes=view["minutes"],
        expected=noise["spreads"] if noise else {},
        taught=noise["rollouts"] if noise else None,
    )
