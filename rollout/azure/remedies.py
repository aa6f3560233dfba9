"""Azure's refusals of endpoints and deployments, for the person who waits at a terminal: the field, and what to do.

The rule: one sentence in Azure's words, then the field of the file that it is about and the remedy. Nothing here tries
again by itself, so nothing says that it will be tried again.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from azure.core.exceptions import AzureError, ResourceNotFoundError

from rollout.azure.errors import THROTTLED, translated, what_azure_said
from rollout.errors import ConflictError, RefusedError, RolloutError, UnavailableError

ROLE = "Give this identity the role AzureML Data Scientist (or Contributor) on the workspace."
_TRIES = re.compile(
    r" (?:It is tried again(?: later)?\.|Another operation runs; it is tried again when that has ended\.)$"
)


#: What Azure says beside the point.
_IDLE = re.compile(
    r"The request is invalid; | Please see troubleshooting guide(, available here: \S*aka\.ms/\S+?)?(?=[.;]|$)"
)


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What to do where Azure says something like `says`; `field` None: about no field of a file."""

    says: str
    field: str | None
    do: str


REMEDIES: Sequence[Remedy] = (
    Remedy(
        says=r"AuthorizationFailure|AuthorizationPermissionMismatch|permission to alter this storage account",
        field=None,
        do="It is the storage account that refuses: open its network to this machine, or give this identity the role Storage "
        "Blob Data Contributor on it.",
    ),
    Remedy(
        says=r"Not enough quota|OutOfQuota|QuotaExceeded.*cores|quota.*(VM|cores)",
        field="instance_type",
        do="Ask for quota of this VM family (Studio, Quota), take another instance_type, or a lower instance_count: Azure "
        "reserves a fifth more instances than asked for.",
    ),
    Remedy(
        says=r"instance ?type .*not (supported|allowed|valid)|InvalidInstanceType|SKU .*not (supported|available)",
        field="instance_type",
        do="Take one of https://learn.microsoft.com/azure/machine-learning/reference-managed-online-endpoints-vm-sku-list.",
    ),
    Remedy(
        says=r"OutOfCapacity|AllocationFailed|no capacity", field="instance_type", do="Take another size, or try later."
    ),
    Remedy(
        says=r"already an endpoint with this name|name .*(is taken|not available)", field="name", do="Choose another."
    ),
    Remedy(
        says=r"(endpoint|deployment) name .*invalid|name.* must (be|begin|start)", field="name", do="Correct the name."
    ),
    Remedy(
        says=r"ImageBuildFailure|image build", field="environment", do="Correct the environment's image or conda file."
    ),
    Remedy(
        says=r"Asset '.*(models).*does not exist|ModelNotFound|unable to download user model",
        field="model",
        do="Register it first, or give `path:` to have it uploaded.",
    ),
    Remedy(
        says=r"Asset '.*(environments).*does not exist|EnvironmentNotFound|unable to download user container",
        field="environment",
        do="Register it first, or give `image:`.",
    ),
    Remedy(
        says=r"Asset '.*(codes).*does not exist", field="code_configuration", do="Register it first, or give a folder."
    ),
    Remedy(
        says=r"not an MLflow model|codeConfiguration and environmentId are required",
        field="model",
        do="Give code_configuration and environment, or a folder with an MLmodel file and `type: mlflow_model`.",
    ),
    Remedy(
        says=r"ResourceNotReady|container has crashed|SecretsInjection|liveness probe|readiness probe",
        field=None,
        do="The console below says why; the scoring script's init(), its requirements and the probes are where to look.",
    ),
    Remedy(
        says=r"not attached to the workspace|ComputeNotFound",
        field="compute",
        do="Attach the cluster first, or name it.",
    ),
    Remedy(
        says=r"Asset \S+ does not exist in workspace",
        field=None,
        do="Register it first, or name a version that exists.",
    ),
    Remedy(says=r"compute of endpoint .* cannot be changed", field="compute", do="Give the new endpoint another name."),
    Remedy(says=r"sku\.capacity|instance ?count", field="instance_count", do="Correct it."),
    Remedy(says=r"requestTimeout|maxConcurrentRequests|maxQueueWait", field="request_settings", do="Correct it."),
    Remedy(says=r"livenessProbe", field="liveness_probe", do="Correct it."),
    Remedy(says=r"readinessProbe", field="readiness_probe", do="Correct it."),
    Remedy(
        says=r"takes \d+ percent of the traffic|has traffic|non-?zero traffic",
        field=None,
        do="Move its traffic away first.",
    ),
    Remedy(says=r"authMode", field="auth_mode", do="Write key, aml_token or aad_token."),
    Remedy(
        says=r"takes deployments of type",
        field="type",
        do="Write `type: kubernetes` for an endpoint on a cluster only.",
    ),
)


@contextmanager
def for_a_person(doing: str, *, absent: str = "") -> Iterator[None]:
    """Whatever an SDK raises inside leaves as one of `rollout.errors`, with field and remedy where they are known.

    `doing` completes "Cannot …"; `absent` is said where Azure answers that something does not exist.
    """
    try:
        yield
    except RolloutError:
        raise
    except (AzureError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise explained(error, doing=doing, absent=absent) from error


def explained(error: Exception, *, doing: str, absent: str = "") -> RolloutError:
    """Our error for an SDK's."""
    if absent and isinstance(error, ResourceNotFoundError) and "workspaces/" not in str(error):
        return RefusedError(absent)
    said = what_azure_said(error)
    known = told(f"{said.code} {said.message} {_storage_code(error)}")
    ours = translated(error, doing=doing, remedy=known.strip() or ROLE, write=True)
    if isinstance(ours, ConflictError):
        return ConflictError(_TRIES.sub(" Another operation runs on it: wait until it has ended.", ours.message))
    if isinstance(ours, UnavailableError):
        slower = (
            "Azure asks to be called less often: try again in a minute." if said.status in THROTTLED else "Try again."
        )
        return type(ours)(f"{_TRIES.sub('', ours.message)} {slower}")
    if not isinstance(ours, RefusedError):
        return ours
    message = _IDLE.sub("", ours.message)
    return RefusedError(message if known.strip() in message else f"{message}{known}")


def _storage_code(error: Exception) -> str:
    """Azure Storage's own code, which stands in a header where an answer has no body."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return str(headers.get("x-ms-error-code") or "")


def told(words: str) -> str:
    """The field and the remedy behind Azure's words, if they are known: ` instance_type: ask for quota …`."""
    found = next((each for each in REMEDIES if re.search(each.says, words, re.IGNORECASE)), None)
    if found is None:
        return ""
    return f" {found.field}: {found.do[0].lower()}{found.do[1:]}" if found.field else f" {found.do}"


def why_failed(operation: dict[str, Any], *, doing: str) -> RefusedError:
    """The error of an operation that ended badly."""
    error = operation.get("error") or {}
    details = [each for each in error.get("details") or () if isinstance(each, dict)]
    words = "; ".join(dict.fromkeys(str(each.get("message") or "").rstrip(".") for each in (error, *details)))
    code = str(error.get("code") or operation.get("status") or "Failed")
    said = f"{code}: {words.strip('; ') or 'Azure gave no reason'}"
    return RefusedError(f"Cannot {doing}: {_IDLE.sub('', said)}.{told(said)}")
