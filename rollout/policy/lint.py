"""What `rollout lint` says about policy files, as lines of text.

The rule: pure: texts in, lines out; one line for each mistake, as `file:line:col: path: message`, one for a file without.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from rollout.documents.units import format_duration
from rollout.errors import PolicyError
from rollout.policy.model import Policy
from rollout.policy.render import effective_yaml
from rollout.policy.written import parse_policy


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found: lines to print, and how many mistakes there are in all."""

    lines: tuple[str, ...]
    mistakes: int


def lint(
    texts: Iterable[tuple[str, str]], *, defaults: Mapping[str, object] | None = None, effective: bool = False
) -> Report:
    """Check these files, given as pairs of name and text, over the defaults of the settings.

    With `effective`, a file without mistakes is told as the policy that it means, as YAML.
    """
    lines: list[str] = []
    mistakes = 0
    for file, text in texts:
        try:
            policy = parse_policy(text, file=file, defaults=defaults)
        except PolicyError as error:
            lines += [str(mistake) for mistake in error.mistakes]
            mistakes += len(error.mistakes)
        else:
            lines += _effective(policy, file) if effective else [f"{file}: {summary(policy)}"]
    return Report(lines=tuple(lines), mistakes=mistakes)


def _effective(policy: Policy, file: str) -> list[str]:
    return ["---", f"# {file}: {summary(policy)}", *effective_yaml(policy).splitlines()]


def summary(policy: Policy) -> str:
    """One sentence: `fine: restaurant-recommender in 4 steps (5%, 25%, 50%, 100%), bakes of 1h15m in all`."""
    shares = ", ".join(f"{step.traffic}%" for step in policy.steps)
    steps = "1 step" if len(policy.steps) == 1 else f"{len(policy.steps)} steps"
    baked = format_duration(sum((step.bake for step in policy.steps), timedelta()))
    return f"fine: {policy.endpoint_name} in {steps} ({shares}), bakes of {baked} in all"
