"""`rollout deployment`: apply, show, list, delete, logs.

The rule: that of `endpoints.py`.
"""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from rollout.cli import inventory
from rollout.cli.endpoints import DryRun, File, Name, NoWait, Output, Workspace, Yes, carry_out, put, sure, tell_plan
from rollout.cli.inventory import Form
from rollout.cli.options import Config
from rollout.cli.terminal import look_of
from rollout.errors import PolicyError

app = typer.Typer(help="Deployments of an endpoint, from `az ml` files.", no_args_is_help=True, rich_markup_mode=None)

MAX_TAIL = 100_000
Deployment = Annotated[
    str | None, typer.Option("-d", "--deployment", help="The deployment's name.", show_default=False)
]


class Container(StrEnum):
    """Whose console."""

    INFERENCE_SERVER = "inference-server"
    STORAGE_INITIALIZER = "storage-initializer"


_CONTAINERS = {Container.INFERENCE_SERVER: None, Container.STORAGE_INITIALIZER: "StorageInitializer"}


@app.command()
def apply(
    *,
    file: File,
    name: Annotated[str | None, typer.Option("-n", "--endpoint", help="The endpoint, instead of the file's.")] = None,
    deployment: Annotated[
        str | None, typer.Option("-d", "--deployment", help="Its name, instead of the file's.")
    ] = None,
    all_traffic: Annotated[
        bool, typer.Option("--all-traffic", help="Give it all traffic at once. Refused while a rollout runs.")
    ] = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    workspace: Workspace = None,
    output: Output = Form.TABLE,
    config: Config = None,
) -> None:
    """Create a deployment, or make it what the file says.

    The first one of an endpoint gets all traffic, every later one none: `rollout start` moves it there in steps. The same
    file again changes nothing.
    """
    from rollout.cli.progress import telling
    from rollout.cli.workspaces import azure_of

    with telling() as told, azure_of(config, workspace) as azure:
        plan = azure.manager.plan_deployment(
            file, name=deployment, endpoint_name=name, all_traffic=all_traffic, told=told
        )
        carry_out(azure.manager, plan, told=told, dry_run=dry_run, no_wait=no_wait)
    tell_plan(plan, done=not dry_run, waited=not no_wait, output=output)


@app.command()
def show(
    name: Name = None,
    deployment: Deployment = None,
    workspace: Workspace = None,
    output: Output = Form.TABLE,
    config: Config = None,
) -> None:
    """Show a deployment."""
    from rollout.cli.workspaces import azure_of

    endpoint, wanted = both(name, deployment, "show")
    with azure_of(config, workspace) as azure:
        view = inventory.deployment_view(azure.manager.deployment(endpoint, wanted), endpoint)
    put(view, inventory.details(view, look_of(sys.stdout)), output)


@app.command("list")
def list_deployments(
    name: Name = None, workspace: Workspace = None, output: Output = Form.TABLE, config: Config = None
) -> None:
    """List the deployments of an endpoint, with their traffic."""
    from rollout.cli.workspaces import azure_of

    if not name:
        raise PolicyError("Which endpoint? Name it: rollout deployment list -n ENDPOINT.")
    with azure_of(config, workspace) as azure:
        views = [inventory.deployment_view(each, name) for each in azure.manager.deployments(name)]
        traffic = inventory.endpoint_view(azure.manager.endpoint(name))["traffic"]
    put(views, inventory.deployment_lines(views, traffic, look_of(sys.stdout)), output)


@app.command()
def delete(
    name: Name = None,
    deployment: Deployment = None,
    yes: Yes = False,
    no_wait: NoWait = False,
    workspace: Workspace = None,
    config: Config = None,
) -> None:
    """Delete a deployment that has no traffic."""
    from rollout.cli.progress import telling
    from rollout.cli.workspaces import azure_of

    endpoint, wanted = both(name, deployment, "delete")
    with telling() as told, azure_of(config, workspace) as azure:
        sure(f"Delete deployment {wanted} of {endpoint}?", yes)
        azure.manager.delete_deployment(endpoint, wanted, told=told, wait=not no_wait)
    put(None, [f"Deployment {wanted} of {endpoint} is {'being deleted' if no_wait else 'deleted'}."], Form.TABLE)


@app.command()
def logs(
    name: Name = None,
    deployment: Deployment = None,
    tail: Annotated[
        int, typer.Option("--tail", min=1, max=MAX_TAIL, help="How many lines, counted from the end.")
    ] = 100,
    container: Annotated[Container, typer.Option("--container", help="Whose console.")] = Container.INFERENCE_SERVER,
    workspace: Workspace = None,
    config: Config = None,
) -> None:
    """Print the end of a deployment's console."""
    from rollout.cli.workspaces import azure_of

    endpoint, wanted = both(name, deployment, "logs")
    with azure_of(config, workspace) as azure:
        text = azure.manager.logs(endpoint, wanted, tail=tail, container=_CONTAINERS[container])
    sys.stdout.write(text if not text or text.endswith("\n") else f"{text}\n")
    if not text:
        sys.stderr.write(f"The console of {wanted} of {endpoint} is empty.\n")


def both(endpoint: str | None, deployment: str | None, verb: str) -> tuple[str, str]:
    """The endpoint and the deployment that a command is about. Raises PolicyError."""
    if not endpoint or not deployment:
        raise PolicyError(f"Which deployment? Name it: rollout deployment {verb} -n ENDPOINT -d DEPLOYMENT.")
    return endpoint, deployment
