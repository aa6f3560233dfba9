"""`rollout plan`: what a policy will see, take and expose on its endpoint, before it is started.

The rule: with `--rps` it needs no daemon and no Azure; else the daemon tells the endpoint's last days. Either way the
rollouts are played here, so that the daemon's ticks never wait for them. The same numbers give the same plan.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from rollout.cli.client import Client, find_daemon
from rollout.cli.options import Config, Format, Output, say, show
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError

if TYPE_CHECKING:
    from rollout.analysis.profile import Profile
    from rollout.policy import Policy

GOOD, UNFIT = 0, 2
SEED = 1
#: Seconds for the daemon's answer: it may ask Azure for a day's worth of hours.
PATIENCE = 180.0

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A policy on an endpoint; `base` is what a policy with nothing but the endpoint's name would be."""

    policy: "Policy"
    base: "Policy"
    profile: "Profile"


def plan(
    policy: Annotated[str, typer.Argument(help="A policy file, or the name of a policy that the daemon has loaded.")],
    *,
    rps: Annotated[
        float | None, typer.Option("--rps", min=0.0001, max=1_000_000, help="Requests a second; no daemon is asked.")
    ] = None,
    error_rate: Annotated[str | None, typer.Option("--error-rate", help="With --rps: such as 0.5%.")] = None,
    latency_p95: Annotated[str | None, typer.Option("--latency-p95", help="With --rps: such as 200ms.")] = None,
    from_last: Annotated[str, typer.Option("--from-last", help="How far the daemon looks back.")] = "7d",
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it, too: a file to write as SVG.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only what needs no played rollouts.")] = False,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Tell what a policy will see and take, before it starts.

    Exits 2 where the policy cannot see what it promises.
    """
    if rps is None and (error_rate or latency_p95):
        raise PolicyError("--error-rate and --latency-p95 describe an endpoint together with --rps: add --rps.")
    if plot is not None and not plot.parent.is_dir():
        raise PolicyError(f"--plot {plot}: there is no folder {plot.parent}.")
    asked = _ask(policy, from_last, config) if rps is None else _given(policy, rps, error_rate, latency_p95, config)
    view = _planned(asked, play=not quick)
    if plot is not None:
        _draw(view, plot)
    from rollout.cli.plan_view import lines

    show(view, [] if output is Output.JSON else lines(view, look_of(sys.stdout)), output)
    if plot is not None and output is Output.TABLE:
        say(f"\nDrawn in {plot}.")
    raise typer.Exit(GOOD if view["ok"] else UNFIT)


def _planned(asked: _Asked, *, play: bool) -> dict[str, Any]:
    import numpy as np

    from rollout.lifecycle.forecast import forecast
    from rollout.lifecycle.planning import as_yaml, plan_of, proposal, unforeseen
    from rollout.web.plans import plan_view

    why = unforeseen(asked.policy)
    if why is not None:
        raise PolicyError(why)
    plan = plan_of(asked.policy, asked.profile)
    better = proposal(asked.policy, asked.profile)
    text, then = None, None
    if better is not None:
        after = plan_of(better, asked.profile)
        text, then = as_yaml(better, base=asked.base), plan_view(better, after)
    played = forecast(asked.policy, asked.profile, np.random.default_rng(SEED)) if play else None
    return plan_view(asked.policy, plan, forecast=played, proposal=text) | {"proposal_sees": _short(then)}


def _short(view: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {key: view[key] for key in ("sees", "done_minutes", "concerns")} if view else None


def _given(word: str, rps: float, error_rate: str | None, latency_p95: str | None, config: Path | None) -> _Asked:
    from rollout.analysis.profile import given
    from rollout.beside import Beside
    from rollout.cli.linting import defaults_of, text_of
    from rollout.documents.units import parse_milliseconds, parse_percent
    from rollout.policy import first_of, parse_policy

    path = Path(word)
    if not path.is_file():
        raise PolicyError(f"There is no file {word}: with --rps no daemon is asked for its policies.")
    defaults = defaults_of(config)
    policy = first_of(parse_policy(text_of(path), file=word, defaults=defaults, files=Beside(path.parent)))
    profile = given(
        per_second=rps,
        error_rate=_read("--error-rate", parse_percent, error_rate),
        p95=_read("--latency-p95", parse_milliseconds, latency_p95),
    )
    return _Asked(policy=policy, base=parse_policy(_nothing(policy), file=word, defaults=defaults), profile=profile)


def _nothing(policy: "Policy") -> str:
    return f"endpoint_name: {policy.endpoint_name}\n"


def _read(option: str, parse: Callable[[str], Value], text: str | None) -> Value | None:
    try:
        return parse(text) if text is not None else None
    except ValueError as error:
        raise PolicyError(f"{option}: {error}.") from None


def _ask(word: str, from_last: str, config: Path | None) -> _Asked:
    from rollout.cli.acting import policy_body
    from rollout.documents.units import parse_duration
    from rollout.policy import parse_policy
    from rollout.web.plans import profile_from

    days = _read("--from-last", parse_duration, from_last)
    client = Client(find_daemon(config, os.environ), timeout=PATIENCE)
    hours = max(1, round(days.total_seconds() / 3600)) if days else 1
    found = client.post("/v1/plan", {"policy": policy_body(word), "hours": hours})
    policy = parse_policy(found["policy_yaml"], file="the daemon's policy")
    base = parse_policy(found["base_yaml"], file="the daemon's defaults")
    return _Asked(policy=policy, base=base, profile=profile_from(found["profile"]))


def _draw(view: Mapping[str, Any], file: Path) -> None:
    from rollout.cli.plan_picture import picture

    try:
        file.write_text(picture(view), encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"--plot {file}: it cannot be written: {error.strerror}.") from None
