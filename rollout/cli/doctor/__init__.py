"""`rollout doctor`: whether Azure gives a rollout what it needs, looked at from where the daemon runs.

The rule: the daemon's settings and the daemon's credential, so that its answer is the daemon's; it reads and never writes.
`findings.py` is what a finding is, the `of_…` files turn facts (`rollout.azure.examining`) into findings, `view.py` prints.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rollout.cli.options import Config, Endpoint, Format, Name, Output, show
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError

if TYPE_CHECKING:
    from rollout.azure.examining.facts import WorkspaceFacts
    from rollout.cli.doctor.asked import Asked
    from rollout.cli.doctor.findings import Finding
    from rollout.daemon.site import Site

DEFAULT_CONFIG = "rollout.yaml"
SECONDS = 120
GOOD, WARNED, BAD = 0, 1, 2


def doctor(
    endpoint: Endpoint = None,
    *,
    name: Name = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All endpoints (also the default, without a name).")
    ] = False,
    policy: Annotated[
        list[Path] | None,
        typer.Option("-f", "--file", help="A policy: what it needs beyond the rest is looked at, too."),
    ] = None,
    predict: Annotated[
        bool, typer.Option("--predict", help="With -f: send one prediction with the policy's first sample.")
    ] = False,
    workspace: Annotated[
        str | None, typer.Option("-w", "--workspace", help="A workspace of the settings; else all of them.")
    ] = None,
    timeout: Annotated[
        int, typer.Option("--timeout", min=5, max=1800, help="Seconds that looking may take.")
    ] = SECONDS,
    output: Format = Output.TABLE,
    config: Config = None,
) -> None:
    """Check what rollouts need of Azure, and what is missing.

    Run it where the daemon runs: it uses the daemon's settings and credential, and writes nothing. Exits 0 where all is well,
    1 with warnings, 2 with problems.
    """
    asked = _asked(policy or [], config)
    names = _names(endpoint, name, everything, asked)
    if predict and not any(each.sample for each in asked):
        raise PolicyError(
            "--predict sends a policy's first sample: name a policy with `probes` or `smoke_test` with -f."
        )
    site = _site(config)
    facts = [
        _looked(site, key, names=names, asked=asked if predict else [], seconds=timeout)
        for key in _workspaces(site, workspace, asked)
    ]
    from rollout.cli.doctor.view import lines, view

    judged = [(each, _findings(each, asked)) for each in facts]
    told = view(judged)
    show(told, [] if output is Output.JSON else lines(told, look_of(sys.stdout)), output)
    raise typer.Exit({"ok": GOOD, "warning": WARNED, "problem": BAD}[told["worst"]])


def _names(endpoint: str | None, name: str | None, everything: bool, asked: "list[Asked]") -> list[str] | None:
    """The endpoints to look at; None: all."""
    given = [each for each in dict.fromkeys([endpoint, name]) if each]
    if everything and given:
        raise PolicyError(f"--all looks at every endpoint, and {given[0]} is one: take one of them out.")
    if len(given) > 1:
        raise PolicyError(f"Two endpoints are named, {given[0]} and {given[1]}: name one, or none for all.")
    given = given or list(dict.fromkeys(each.endpoint for each in asked))
    return given if given and not everything else None


def _asked(files: list[Path], config: Path | None) -> "list[Asked]":
    if not files:
        return []
    from rollout.beside import Beside
    from rollout.cli.doctor.asked import asked_of
    from rollout.cli.linting import defaults_of, text_of
    from rollout.policy import parse_policy

    defaults = defaults_of(config)
    return asked_of(
        parse_policy(text_of(file), file=str(file), defaults=defaults, files=Beside(file.parent)) for file in files
    )


def _site(config: Path | None) -> "Site":
    from rollout.daemon.logs import Secrets
    from rollout.daemon.site import read_site

    file = config or Path(os.environ.get("ROLLOUT_CONFIG") or DEFAULT_CONFIG)
    return read_site(file, environ=os.environ, secrets=Secrets())


def _workspaces(site: "Site", wanted: str | None, asked: "list[Asked]") -> list[str]:
    known = site.settings.workspaces
    chosen = [wanted] if wanted else [each.workspace for each in asked if each.workspace]
    for name in chosen:
        if name not in known:
            raise PolicyError(f"The settings name no workspace {name}: they have {', '.join(known)}.")
    return list(dict.fromkeys(each for each in chosen if each)) or list(known)


def _looked(site: "Site", key: str, *, names: list[str] | None, asked: "list[Asked]", seconds: int) -> "WorkspaceFacts":
    import logging

    from rollout.azure.cloud import cloud_of
    from rollout.azure.examining.examiner import Wanted, examiner

    logging.getLogger("azure").setLevel(logging.CRITICAL)  # what goes wrong is told in our words
    sandbox = {"address": site.sandbox.address, "ca_file": site.sandbox.ca_file} if site.sandbox else None
    samples = {each.endpoint.casefold(): each.sample.encode() for each in asked if each.sample}
    with examiner(
        cloud=cloud_of(site.settings.cloud, sandbox),
        credential=site.settings.credential,
        secret=site.client_secret,
        name=key,
        workspace=site.settings.workspaces[key],
        clock=site.clock,
    ) as found:
        return found.look(Wanted(names=names, samples=samples, seconds=float(seconds)))


def _findings(facts: "WorkspaceFacts", asked: "list[Asked]") -> "list[Finding]":
    from rollout.azure.examining.facts import Unread
    from rollout.cli.doctor.of_endpoint import endpoint_findings
    from rollout.cli.doctor.of_workspace import workspace_findings

    mine = [each for each in asked if each.workspace in (None, facts.name)]
    probed = {each.endpoint.casefold() for each in mine if each.sample}
    found = workspace_findings(facts, [need for each in mine for need in each.needs])
    endpoints: Mapping[str, Any] = {} if isinstance(facts.endpoints, Unread) else facts.endpoints
    for name, each in endpoints.items():
        found += endpoint_findings(name, each, facts, probed=name in probed)
    return found
