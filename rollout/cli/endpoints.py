"""`rollout endpoint`: apply, show, list, traffic, delete.

The rule: thin; Azure is asked directly, with the identity of whoever runs the command. Imports that take seconds stand
inside the commands.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rollout.cli import inventory
from rollout.cli.inventory import Form
from rollout.cli.options import Config, handle
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError

if TYPE_CHECKING:
    from rollout.azure.managing import Manager
    from rollout.azure.plans import Plan

app = typer.Typer(help="Online endpoints, from `az ml` files.", no_args_is_help=True, rich_markup_mode=None)

File = Annotated[Path, typer.Option("-f", "--file", help="A file in `az ml` format.", show_default=False)]
Name = Annotated[str | None, typer.Option("-n", "--endpoint", help="The endpoint's name.", show_default=False)]
Word = Annotated[str | None, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.", show_default=False)]
Workspace = Annotated[
    str | None, typer.Option("-w", "--workspace", help="Which of the settings' workspaces, where they name several.")
]
Output = Annotated[Form, typer.Option("-o", "--output", help="A table for people, JSON, or YAML.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be written.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return when Azure has accepted.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def apply(
    *,
    file: File,
    name: Annotated[str | None, typer.Option("-n", "--endpoint", help="Its name, instead of the file's.")] = None,
    set_traffic: Annotated[
        bool,
        typer.Option("--set-traffic", help="Also give the endpoint the file's traffic, which else is left as it is."),
    ] = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    workspace: Workspace = None,
    output: Output = Form.TABLE,
    config: Config = None,
) -> None:
    """Create an endpoint, or make it what the file says.

    What the file does not mention stays as Azure has it; tags and traffic are never dropped. The same file again changes
    nothing.
    """
    from rollout.cli.progress import telling
    from rollout.cli.workspaces import azure_of

    with telling() as told, azure_of(config, workspace) as azure:
        plan = azure.manager.plan_endpoint(file, name=name, set_traffic=set_traffic, told=told)
        carry_out(azure.manager, plan, told=told, dry_run=dry_run, no_wait=no_wait)
    tell_plan(plan, done=not dry_run, waited=not no_wait, output=output)


@app.command()
def show(
    endpoint: Word = None,
    name: Name = None,
    workspace: Workspace = None,
    output: Output = Form.TABLE,
    config: Config = None,
) -> None:
    """Show an endpoint with its deployments."""
    from rollout.cli.workspaces import azure_of

    wanted = handle(endpoint, name, verb="endpoint show")
    with azure_of(config, workspace) as azure:
        view = inventory.endpoint_view(azure.manager.endpoint(wanted))
        below = [inventory.deployment_view(each, wanted) for each in azure.manager.deployments(wanted)]
    look = look_of(sys.stdout)
    lines = [*inventory.details(view, look), "", *inventory.deployment_lines(below, view["traffic"], look)]
    put({**view, "deployments": below}, lines, output)


@app.command("list")
def list_endpoints(workspace: Workspace = None, output: Output = Form.TABLE, config: Config = None) -> None:
    """List the endpoints of the workspace."""
    from rollout.cli.workspaces import azure_of

    with azure_of(config, workspace) as azure:
        views = [inventory.endpoint_view(each) for each in azure.manager.endpoints()]
    put(views, inventory.endpoint_lines(views, look_of(sys.stdout)), output)


@app.command()
def traffic(
    shares: Annotated[
        list[str] | None, typer.Argument(metavar="[DEPLOYMENT=PERCENT ...]", help="As in blue=90 green=10.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror-traffic", help="Copies of live requests, as in green=10; green=0 ends them."),
    ] = None,
    name: Name = None,
    no_wait: NoWait = False,
    workspace: Workspace = None,
    output: Output = Form.TABLE,
    config: Config = None,
) -> None:
    """Set an endpoint's traffic by hand. Refused while a rollout runs on it."""
    from rollout.cli.progress import telling
    from rollout.cli.workspaces import azure_of
    from rollout.world import Split

    wanted = handle(None, name, verb="endpoint traffic -n")
    if bool(shares) == bool(mirror):
        raise PolicyError("Say one thing to set: shares such as blue=90 green=10, or --mirror-traffic green=10.")
    word = "will be" if no_wait else "is"
    with telling() as told, azure_of(config, workspace) as azure:
        if mirror:
            copies = Split.of(parse_mirror(mirror))
            azure.manager.set_mirror(wanted, copies, told=told, wait=not no_wait)
            view, what = {"mirror_traffic": copies.as_traffic()}, copies if copies.shares else "off"
            sentence = f"The mirror traffic of {wanted} {word} {what}."
        else:
            split = Split.of(parse_shares(shares or []))
            azure.manager.set_traffic(wanted, split, told=told, wait=not no_wait)
            view, sentence = {"traffic": split.as_traffic()}, f"The traffic of {wanted} {word} {split}."
    put({"endpoint": wanted, **view}, [sentence], output)


@app.command()
def delete(
    endpoint: Word = None,
    name: Name = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    workspace: Workspace = None,
    config: Config = None,
) -> None:
    """Delete an endpoint with all its deployments. Refused while a rollout runs on it."""
    from rollout.cli.progress import telling
    from rollout.cli.workspaces import azure_of

    wanted = handle(endpoint, name, verb="endpoint delete")
    with telling() as told, azure_of(config, workspace) as azure:
        found = [str(each.get("name")) for each in azure.manager.deployments(wanted)]
        sure(f"Delete endpoint {wanted} with {', '.join(found) or 'no deployments'}?", yes)
        azure.manager.delete_endpoint(wanted, told=told, wait=not no_wait)
    put(None, [f"Endpoint {wanted} is {'being deleted' if no_wait else 'deleted'}."], Form.TABLE)


def carry_out(manager: "Manager", plan: "Plan", *, told: Any, dry_run: bool, no_wait: bool) -> None:
    """Do what the plan says, unless it is only to be shown."""
    if not dry_run and plan.writes:
        manager.carry_out(plan, told=told, wait=not no_wait)


def tell_plan(plan: "Plan", *, done: bool, waited: bool, output: Form) -> None:
    """Print what was done, or would be."""
    look = look_of(sys.stdout)
    lines = inventory.plan_lines(plan, look)
    if done:
        lines = [_sentence(plan, waited), *plan.notes]
        if plan.traffic is not None:
            lines.append(
                f"Traffic: {plan.traffic}." if waited else "Its traffic is not set: run the command again, waiting."
            )
    put(inventory.plan_view(plan, done=done), [look.characters(line) for line in lines], output)


def _sentence(plan: "Plan", waited: bool) -> str:
    what = plan.what[0].upper() + plan.what[1:]
    if plan.action == "unchanged":
        return f"{what} is unchanged."
    fields = ", ".join(dict.fromkeys(change.field for change in plan.changes))
    verb = {"create": "created", "update": "updated"}[plan.action]
    changed = f": {fields}" if plan.action == "update" and fields else ""
    return f"{what} is {verb}{changed}." if waited else f"{what} is being {verb}{changed}."


def put(found: object, lines: Sequence[str], output: Form) -> None:
    """Print."""
    sys.stdout.write(inventory.written(found, lines, output))
    sys.stdout.flush()


def sure(question: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere only --yes goes on. Raises PolicyError."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise PolicyError(f"{question} Nobody can be asked here: say so with --yes.")
    typer.confirm(question, abort=True)


def parse_mirror(word: str) -> dict[str, int]:
    """`green=10`: Azure mirrors to one deployment. Raises PolicyError."""
    found = _shares([word])
    if len(found) != 1:
        raise PolicyError(f"{word} names {len(found)} deployments: Azure mirrors to one, as in green=10.")
    return found


def parse_shares(words: Sequence[str]) -> dict[str, int]:
    """`blue=90 green=10`, also as one word, as `az ml` takes it. Raises PolicyError."""
    found = _shares(words)
    if (total := sum(found.values())) not in (0, 100):
        raise PolicyError(f"The shares add up to {total} %: Azure takes 100, or 0 for no traffic at all.")
    return found


def _shares(words: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in (part for each in words for part in each.split()):
        match = re.fullmatch(r"([A-Za-z][A-Za-z0-9-]*)=(\d{1,3})%?", word)
        if match is None:
            raise PolicyError(f"{word} is no share of the traffic: write DEPLOYMENT=PERCENT, as in blue=90 green=10.")
        found[match[1]] = int(match[2])
    return found
