"""The files that `rollout init` writes: settings and a policy, with comments that say what was seen and what else there is.

The rule: pure. Both are what `rollout lint` and the daemon take without a word; what is commented out can be put in as it
stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rollout.analysis.profile import Profile
from rollout.cli.terminal import fold
from rollout.cli.words import duration, milliseconds, number, percent
from rollout.lifecycle.planning import Plan, as_yaml, plan_of, proposal
from rollout.policy import Files, Policy, parse_policy
from rollout.settings import Workspace

SCHEMA = "policy.schema.json"
WIDTH = 110
#: What stands above a field.
COMMENTS: Mapping[str, str] = {
    "first_step": "auto: the first step begins with a share sized from the traffic, and grows to its own.",
    "steps": "The candidate's share of the live traffic; a bake is minutes of judged data, not of wall clock.",
    "holdback": "The share that stays on stable until the last bake ends, so that there is something to compare with.",
    "min_requests": "Requests that the candidate must have answered in each step.",
    "deadline": "Of active time: after it the rollout pauses.",
    "probes": "Requests of ours to both deployments by name, beside the live traffic.",
    "expert": "What is judged.",
}
PROBES = """\
# With few requests, sample requests of ours to both deployments see more and sooner:
# probes: {request_file: requests/sample.json}

"""
MORE = """\
# The candidate may be worse than stable in the same minutes by no more than this (the defaults):
# checks:
#   error_rate: {max_increase: 0.5pp}    # percentage points: 0.3 % may become 0.8 %
#   latency_p95: {max_increase: 25%}     # of stable's: 80 ms may become 100 ms

# The candidate is the deployment without traffic; where there are several, name it:
# candidate: green

# Channels of the settings that are told:
# alerts: [team-ml]
"""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What init knows of an endpoint. `profile` None: too little of its traffic could be seen, and `why` says so.

    `sample` names a sample request beside the policy.
    """

    endpoint: str
    evidence: tuple[str, ...] = ()
    profile: Profile | None = None
    why: str = ""
    sample: str | None = None
    workspace: str | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the settings say: the cloud (a name, or a sandbox's file), the workspace and its name there."""

    cloud: str
    sandbox: str | None
    key: str
    workspace: Workspace
    logged: str  # how the log workspace was found, or why not


# --- the policy


def policy_text(found: Found, *, files: Files) -> tuple[str, Policy]:
    """A policy that the endpoint's traffic can support, as a file; `files` are those beside it."""
    start = parse_policy(_start(found), file="init", files=files)
    base = parse_policy(f"endpoint_name: {found.endpoint}\n", file="init")
    chosen, seen = start, None
    if found.profile is not None and "logs" in start.expert.evidence:
        chosen = proposal(start, found.profile) or start
        seen = plan_of(chosen, found.profile)
    head = [
        f"Rollouts of {found.endpoint}, as its traffic allows.",
        "rollout lint checks this file, rollout plan plays it.",
    ]
    head += _seen(found, seen)
    blocks = _commented(as_yaml(chosen, base=base))
    # as_yaml writes what was parsed: of these, what was asked for says more
    if found.sample is not None:
        blocks = _instead(blocks, "probes", f"{{request_file: {found.sample}}}")
    if found.evidence:
        blocks = _instead(blocks, "expert", f"{{evidence: [{', '.join(found.evidence)}]}}")
    more = MORE if found.sample else PROBES + MORE
    text = "\n".join(_comment(head)) + f"\n$schema: ./{SCHEMA}\n{blocks}\n{more}"
    return text, parse_policy(text, file="init", files=files)


def _start(found: Found) -> str:
    lines = [f"endpoint_name: {found.endpoint}"]
    lines += [f"workspace: {found.workspace}"] if found.workspace else []
    lines += [f"probes: {{request_file: {found.sample}}}"] if found.sample else []
    lines += [f"expert: {{evidence: [{', '.join(found.evidence)}]}}"] if found.evidence else []
    return "\n".join(lines) + "\n"


def _seen(found: Found, plan: Plan | None) -> list[str]:
    profile = found.profile
    if profile is None or plan is None:
        told = [found.why] if found.why else []
        return [*told, "The steps are the usual ones: look at them with rollout plan once there is traffic."]
    days = f"in {number(profile.minutes)} minutes of the last {profile.days:.2g} days"
    sees = plan.sight
    asked = f"{number(profile.mean)} requests a minute on average"
    told = [f"Seen {days}: {asked}, errors {percent(profile.error_rate)}, p95 {milliseconds(profile.p95)}."]
    if sees.errors is not None:
        told.append(
            f"With these steps an increase of the errors by {100 * sees.errors:.2g} pp or more is seen with 80 %."
        )
    told.append(f"To 100 % in about {duration(60 * plan.done)}, approvals at once.")
    return [*told, *(f"Mind: {concern.sentence}" for concern in plan.concerns)]


def _commented(text: str) -> str:
    """The fields, each with its comment above it."""
    lines: list[str] = []
    for line in text.splitlines():
        name = line.partition(":")[0]
        comment = COMMENTS.get(name) if line[:1].isalpha() else None
        lines += ["", f"# {comment}"] if comment else []
        lines.append(line)
    return "\n".join(lines) + "\n"


def _instead(blocks: str, field: str, value: str) -> str:
    """The fields with another value of this one, on one line."""
    kept: list[str] = []
    inside = False
    for line in blocks.splitlines():
        begins = line.startswith(f"{field}:")
        inside = begins or (inside and line[:1] in {" ", "-"})
        if begins:
            kept.append(f"{field}: {value}")
        elif not inside:
            kept.append(line)
    return "\n".join(kept) + "\n"


def _comment(sentences: Sequence[str]) -> list[str]:
    return [f"# {line}" for sentence in sentences for line in fold(_plain(sentence), WIDTH)]


def _plain(text: str) -> str:
    return text.replace("\u2009", " ").replace("\u202f", " ").replace("\u00a0", " ")


# --- the settings


def settings_text(place: Place) -> str:
    """The settings of a daemon that serves this workspace."""
    cloud = f"{{sandbox: {place.sandbox}}}" if place.sandbox else place.cloud
    who = "" if place.sandbox else CREDENTIAL
    where = place.workspace
    logs = f"log_workspace: {where.log_workspace}" if where.log_workspace else "# log_workspace: its customer id"
    head = "Settings of the daemon: rollout daemon. Each can come from the environment: ROLLOUT_STORE, ROLLOUT_API__LISTEN."
    return f"""\
# {head}
cloud: {cloud}
{who}
workspaces:
  {place.key}:
    subscription_id: {where.subscription_id}
    resource_group: {where.resource_group}
    workspace_name: {where.workspace_name}
    region: {where.region}
    {logs}
    # ^ {_plain(place.logged)}
    metrics: batch       # needs Monitoring Reader on the subscription; none: judge by the logs alone

store: sqlite:///rollout.db
policies: ./policies
api: {{listen: 127.0.0.1:8123}}

# Whom alerts reach; the address is a secret, so it comes from the environment:
# channels:
#   team-ml: {{url_env: TEAM_ML_URL}}
"""


CREDENTIAL = """
# Who the daemon is. `default` takes what it finds, in the order of azure-identity; on Azure say which:
# credential: {type: managed_identity, client_id: …}
credential: default
"""
