"""`rollout predict`: one real-time prediction, and who answered it.

The rule: sent as any client sends it, with our own HTTP, by the endpoint's split or to a deployment by name. The answer goes
to stdout as it came; who served it, how long it took and what is wrong with it go to stderr.
"""

import json
import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rollout.cli.endpoints import Workspace
from rollout.cli.options import FAILED, Config, Endpoint, Name, handle
from rollout.cli.words import milliseconds
from rollout.errors import PolicyError

if TYPE_CHECKING:
    from rollout.ports import Answer

MAX_REQUEST = 8 * 1024 * 1024  # bytes
MODEL_SAID = 300  # bytes of a failed answer that are shown
SECONDS = 60.0
#: What a person does about an answer, by its status.
EXPLAINED = {
    400: "The request is not of the form that the endpoint takes.",
    401: "The key or token was refused: another process may have renewed the keys; for aad_token this identity needs the "
    "action Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action.",
    403: "This identity may not ask this endpoint, or its network is closed to this machine.",
    404: "See rollout endpoint show for its deployments and their traffic.",
    408: "The model took longer than its request_timeout_ms: raise it under request_settings, or make the model faster.",
    413: "The request is larger than the endpoint takes.",
    429: "Too many requests are pending: more instances, or a larger max_concurrent_requests_per_instance.",
    502: "The model's process ended or broke off: see rollout deployment logs.",
    503: "The endpoint has no instance ready for it: try again, or see rollout deployment show.",
    504: "The endpoint did not answer in time.",
}


class Shown(StrEnum):
    """How to print the answer."""

    RAW = "raw"
    JSON = "json"


def predict(
    endpoint: Endpoint = None,
    name: Name = None,
    deployment: Annotated[
        str | None, typer.Option("-d", "--deployment", help="Ask this deployment, past the split.", show_default=False)
    ] = None,
    request_file: Annotated[
        Path | None, typer.Option("--request-file", "-r", help="The request's JSON; - reads stdin.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=600, help="Seconds to wait.")] = SECONDS,
    output: Annotated[
        Shown, typer.Option("-o", "--output", help="The answer as it came, or all about it.")
    ] = Shown.RAW,
    workspace: Workspace = None,
    config: Config = None,
) -> None:
    """Send one prediction, and show the answer.

    Tells who served it and how long it took. Exits 0 for a good answer, 5 for any other.
    """
    wanted = handle(endpoint, name, verb="predict")
    body = _body(request_file)
    from rollout.azure.resources import endpoint_state
    from rollout.cli.workspaces import azure_of

    with azure_of(config, workspace) as azure:
        state = endpoint_state(azure.manager.endpoint(wanted))
        answer = azure.scoring.send(state, body, deployment=deployment, timeout=timedelta(seconds=timeout))
        why = explained(answer, wanted, deployment)
    if output is Shown.JSON:
        sys.stdout.write(json.dumps(view(answer, why), ensure_ascii=False, indent=2) + "\n")
    else:
        _raw(answer, why)
    if answer.status != 200:
        raise typer.Exit(FAILED)


def explained(answer: "Answer", endpoint: str, deployment: str | None) -> str:
    """What is wrong with an answer and what to do, in a sentence or two; empty for a good one."""
    if answer.status == 200:
        return ""
    who = f"Deployment {answer.deployment}" if answer.deployment else f"Endpoint {endpoint}"
    if answer.status is None:
        return f"{who} did not answer: {answer.why}."
    said = f"{who} answered {answer.why.rstrip('.')}{_own_words(answer)}."
    if answer.status == 424:
        served = answer.deployment or deployment or "DEPLOYMENT"
        what = "refused the request" if answer.cls == "model_4xx" else "failed"
        return f"{said} The model {what}: see rollout deployment logs -n {endpoint} -d {served}."
    return f"{said} {EXPLAINED.get(answer.status, '')}".rstrip()


def _own_words(answer: "Answer") -> str:
    """What a model that failed said, for whoever sent the request: it may repeat it, so nothing else tells it."""
    if answer.status is None or (answer.status != 424 and answer.status < 500):
        return ""
    text = " ".join(answer.body[:MODEL_SAID].decode("utf-8", "replace").split())
    return f' ("{text}")' if text else ""


def view(answer: "Answer", why: str) -> dict[str, Any]:
    """All about an answer, as plain values; its body as JSON where it is JSON."""
    text = answer.body.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = text
    return {
        "status": answer.status,
        "deployment": answer.deployment,
        "milliseconds": round(answer.milliseconds, 1),
        "answer": body,
        "problem": why or None,
    }


def _raw(answer: "Answer", why: str) -> None:
    if answer.status == 200:
        text = answer.body.decode("utf-8", "replace")
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
        served = f"{answer.deployment} answered" if answer.deployment else "Answered"
        sys.stderr.write(f"{served} in {milliseconds(answer.milliseconds)}.\n")
    else:
        sys.stderr.write(f"Error: {why}\n")


def _body(file: Path | None) -> bytes:
    """The request. Raises PolicyError where it is no JSON."""
    if file is None:
        raise PolicyError("Which request? Name its file: rollout predict ENDPOINT --request-file request.json.")
    try:
        found = sys.stdin.buffer.read(MAX_REQUEST + 1) if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise PolicyError(f"{file} cannot be read: {error.strerror}.") from None
    if len(found) > MAX_REQUEST:
        raise PolicyError(f"{file} is larger than {MAX_REQUEST // 2**20} MiB.")
    try:
        json.loads(found)
    except ValueError as error:
        raise PolicyError(f"{file} is not JSON: {error}.") from None
    return found
