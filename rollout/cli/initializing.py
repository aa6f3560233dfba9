"""`rollout init`: settings and a first policy for an endpoint that is there.

The rule: Azure is read as whoever runs the command, and only read; nothing that exists is written over without --force; what
is written has been read back without mistakes.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rollout.cli.options import say
from rollout.clock import WallClock
from rollout.errors import PolicyError, RolloutError

if TYPE_CHECKING:
    from rollout.analysis.profile import Profile
    from rollout.azure.examining.examiner import Examiner
    from rollout.azure.examining.first_look import FirstLook
    from rollout.cli.first_files import Found
    from rollout.settings import Settings, Workspace

SETTINGS, KEY = "rollout.yaml", "prod"
UNKNOWN = "unknown"  # the region, until Azure tells it
CLOUDS = ("AzureCloud", "AzureUSGovernment", "AzureChinaCloud")


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """Where the endpoint is said to be. `new`: the settings are still to be written."""

    settings: "Settings"
    sandbox: Mapping[str, Any] | None
    sandbox_file: str | None
    key: str
    workspace: "Workspace"
    file: Path
    new: bool

    @property
    def clock(self) -> WallClock:
        """The sandbox's, or the wall clock."""
        told = self.sandbox
        return WallClock(epoch=float(told["epoch"]), speed=float(told["speed"])) if told else WallClock()


def init(
    *,
    endpoint: Annotated[
        str,
        typer.Option("--from-endpoint", metavar="NAME", help="An online endpoint that is there.", show_default=False),
    ],
    subscription: Annotated[str | None, typer.Option("--subscription", help="Its subscription's id.")] = None,
    group: Annotated[str | None, typer.Option("-g", "--resource-group", help="Its resource group.")] = None,
    workspace: Annotated[
        str | None, typer.Option("-w", "--workspace", help="Its Azure ML workspace, or that one's name in settings.")
    ] = None,
    cloud: Annotated[
        str, typer.Option("--cloud", help="AzureCloud, AzureUSGovernment, AzureChinaCloud.")
    ] = "AzureCloud",
    sandbox: Annotated[
        Path | None, typer.Option("--sandbox", help="A sandbox's sandbox.json, instead of Azure.")
    ] = None,
    request_file: Annotated[
        Path | None, typer.Option("--request-file", "-r", help="A sample request: the policy sends probes with it.")
    ] = None,
    from_last: Annotated[str, typer.Option("--from-last", help="How far to look back at its traffic.")] = "7d",
    folder: Annotated[Path, typer.Option("--folder", help="Where to write.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Write settings and a policy for an endpoint that is there.

    Reads the endpoint, where it logs and its traffic of the last days as you (az login), and writes rollout.yaml unless it is
    there, policies/NAME.yaml and the schema that editors complete it with.
    """
    hours = _hours(from_last)
    ground = _ground(folder, cloud, sandbox, (subscription, group, workspace), force=force)
    sample = _sample(request_file)
    policy_file = folder / "policies" / f"{endpoint}.yaml"
    _refuse_over(policy_file, force=force)
    if sample is not None:
        _refuse_another(policy_file.parent / _sample_name(endpoint), sample, force=force)
    with _examiner(ground) as examiner:
        look = examiner.first_look(endpoint)
        found = _found(ground, look, *_past(examiner, look, ground.clock, hours), sample=sample is not None)
    written = [*_write_settings(ground, look), *_write_policy(policy_file, found, sample)]
    say(f"Written: {', '.join(str(file) for file in written)}.")
    for line in _comments_of(policy_file):
        say(f"  {line}")
    say(f"Next: rollout doctor -n {endpoint}, then rollout plan {policy_file}, then rollout daemon.")


# --- where it is


def _ground(
    folder: Path, cloud: str, sandbox: Path | None, place: tuple[str | None, str | None, str | None], *, force: bool
) -> _Ground:
    from rollout.cli.workspaces import settings_of

    file = folder / SETTINGS
    subscription, group, workspace = place
    told = bool(subscription or group or sandbox)
    if file.is_file() and not told:
        settings, values = settings_of(file)
        key = _key(settings, workspace, file)
        where = settings.workspaces[key]
        return _Ground(
            settings=settings, sandbox=values, sandbox_file=None, key=key, workspace=where, file=file, new=False
        )
    _refuse_over(file, force=force)
    if sandbox is not None:
        return _of_sandbox(file, sandbox)
    if not (subscription and group and workspace):
        raise PolicyError(
            f"Where is the endpoint? There is no {file} that says so: add --subscription ID -g RESOURCE-GROUP -w WORKSPACE."
        )
    if cloud not in CLOUDS:
        raise PolicyError(f"--cloud {cloud} is none of {', '.join(CLOUDS)}.")
    return _of_azure(file, cloud, subscription, group, workspace)


def _of_azure(file: Path, cloud: str, subscription: str, group: str, workspace: str) -> _Ground:
    from rollout.settings import parse_settings

    fields = {"subscription_id": subscription, "resource_group": group, "workspace_name": workspace, "region": UNKNOWN}
    text = json.dumps({"cloud": cloud, "workspaces": {KEY: fields}})
    settings = parse_settings(text, file="--subscription, -g, -w", environ={})
    where = settings.workspaces[KEY]
    return _Ground(settings=settings, sandbox=None, sandbox_file=None, key=KEY, workspace=where, file=file, new=True)


def _of_sandbox(file: Path, sandbox: Path) -> _Ground:
    from rollout.cli.workspaces import sandbox_told
    from rollout.settings import parse_settings, with_sandbox

    told = sandbox_told(sandbox)
    text = json.dumps({"cloud": {"sandbox": str(sandbox.resolve())}})
    settings = with_sandbox(parse_settings(text, file="--sandbox", environ={}), told)
    key, where = next(iter(settings.workspaces.items()))
    return _Ground(
        settings=settings,
        sandbox=told,
        sandbox_file=str(sandbox.resolve()),
        key=key,
        workspace=where,
        file=file,
        new=True,
    )


def _key(settings: "Settings", wanted: str | None, file: Path) -> str:
    known = settings.workspaces
    if wanted is None and len(known) == 1:
        return next(iter(known))
    names = {name: name for name in known} | {each.workspace_name: name for name, each in known.items()}
    if wanted is None or wanted not in names:
        raise PolicyError(f"Which workspace? {file} names {', '.join(known)}: choose one with -w.")
    return names[wanted]


def _examiner(ground: _Ground) -> "AbstractContextManager[Examiner]":
    from rollout.azure.cloud import cloud_of
    from rollout.azure.examining.examiner import examiner
    from rollout.cli.workspaces import secret_of
    from rollout.settings import Credential

    logging.getLogger("azure").setLevel(logging.CRITICAL)  # what goes wrong is told in our words
    local = ground.sandbox is not None
    return examiner(
        cloud=cloud_of(ground.settings.cloud, ground.sandbox),
        credential=ground.settings.credential if local else Credential(type="default"),
        secret=secret_of(ground.settings, ground.file) if local else None,
        name=ground.key,
        workspace=ground.workspace,
        clock=ground.clock,
    )


# --- what it is like


def _hours(from_last: str) -> int:
    from rollout.documents.units import parse_duration

    try:
        return max(1, round(parse_duration(from_last).total_seconds() / 3600))
    except ValueError as error:
        raise PolicyError(f"--from-last: {error}.") from None


def _past(examiner: "Examiner", look: "FirstLook", clock: WallClock, hours: int) -> "tuple[Profile | None, str]":
    """The endpoint's traffic as its log shows it, or why there is nothing to go by."""
    from rollout.analysis.profile import HOURS, profile_of
    from rollout.daemon.past import together, windows
    from rollout.world import EndpointKind

    if look.endpoint.kind is EndpointKind.KUBERNETES:
        return None, "A Kubernetes endpoint has no traffic log."
    if look.log_workspace is None:
        return None, look.unlogged
    sys.stderr.write(f"Reading the traffic of {look.endpoint.name} …\n")
    logs, resource = examiner.logs(look.log_workspace.customer_id), look.endpoint.resource_id.casefold()
    cells: dict[int, Any] = {}
    looked: list[int] = []
    try:
        for window in windows(clock.now(), hours):
            read = logs.read([resource], start=window.start, end=window.stop)
            cells |= together(read.cells.get(resource, {}))
            looked += window
    except RolloutError as error:
        return None, error.message
    seen = [minute for minute in looked if minute >= min(cells, default=0)]
    profile = profile_of(cells, seen, days=hours / HOURS)
    return profile, "" if profile else "Its traffic log shows too few requests to size the steps by."


def _found(ground: _Ground, look: "FirstLook", profile: "Profile | None", why: str, *, sample: bool) -> "Found":
    from rollout.cli.first_files import Found
    from rollout.world import EndpointKind

    name = look.endpoint.name
    evidence: tuple[str, ...] = ()
    if look.endpoint.kind is EndpointKind.KUBERNETES:
        if not sample:
            raise PolicyError(
                f"{name} is a Kubernetes endpoint, which only probes can judge: name a sample with -r FILE."
            )
        evidence = ("probes",)
    elif look.log_workspace is None and (ground.new or ground.workspace.log_workspace is None):
        evidence = ("metrics",)
        why = f"{why} So it is judged by metrics alone: rollout doctor -n {name} tells what is missing."
    return Found(
        endpoint=name,
        evidence=evidence,
        profile=profile,
        why=why,
        sample=_sample_name(name) if sample else None,
        workspace=ground.key if len(ground.settings.workspaces) > 1 else None,
    )


def _sample(file: Path | None) -> str | None:
    from rollout.cli.linting import text_of

    if file is None:
        return None
    text = text_of(file)
    try:
        json.loads(text)
    except ValueError as error:
        raise PolicyError(f"{file} is not JSON: {error}.") from None
    return text


# --- what is written


def _refuse_over(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise PolicyError(f"{file} is there already: write over it with --force, or elsewhere with --folder.")


def _sample_name(endpoint: str) -> str:
    return f"requests/{endpoint}.json"


def _refuse_another(file: Path, text: str, *, force: bool) -> None:
    """The same sample may lie there already."""
    if not file.is_file() or file.read_text(encoding="utf-8", errors="replace") != text:
        _refuse_over(file, force=force)


def _write_settings(ground: _Ground, look: "FirstLook") -> list[Path]:
    from rollout.cli.first_files import Place, settings_text
    from rollout.settings import parse_settings

    if not ground.new:
        return []
    found = look.log_workspace
    where = ground.workspace.model_copy(
        update={"region": look.region, "log_workspace": found.customer_id if found else None}
    )
    logged = f"diagnostic setting {look.setting} sends the traffic log there" if found else look.unlogged
    name = ground.settings.cloud.name
    text = settings_text(Place(cloud=name, sandbox=ground.sandbox_file, key=ground.key, workspace=where, logged=logged))
    parse_settings(text, file=str(ground.file), environ={})
    _write(ground.file, text)
    return [ground.file]


def _write_policy(file: Path, found: "Found", sample: str | None) -> list[Path]:
    from rollout.beside import Beside
    from rollout.cli.first_files import SCHEMA, policy_text
    from rollout.policy import json_schema

    written = []
    if sample is not None and found.sample is not None:
        beside = file.parent / found.sample
        _write(beside, sample)
        written.append(beside)
    text, _ = policy_text(found, files=Beside(file.parent))
    schema = file.parent / SCHEMA
    _write(schema, json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
    _write(file, text)
    return [file, schema, *written]


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{file} cannot be written: {error.strerror}.") from None


def _comments_of(file: Path) -> list[str]:
    """What the policy says at its top of the traffic, after what it is and how to check it."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# ") for line in takewhile(lambda line: line.startswith("#"), lines)][2:]
