"""How Azure spells the cloud's values in JSON: resources, operations, lists, errors.

The rule: every field that the unmodified SDKs cannot do without is there (`properties.properties`, `scaleSettings`,
`flavors`, ISO dates in `systemData`); what the cloud does not know is left out, not made up.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rollout.sandbox.assets import DATASTORE_CONTAINER
from rollout.sandbox.blobs import ACCOUNT, Blobs
from rollout.sandbox.keys import EndpointToken
from rollout.sandbox.resources import (
    Asset,
    Deployment,
    Endpoint,
    Identity,
    Operation,
    Status,
    SystemData,
    Traffic,
)
from rollout.sandbox.rules import Refusal

PROVIDER = "Microsoft.MachineLearningServices"
FLAT = (401, 403, 429)  # answered by ARM itself, not by the service behind it


def moment(value: datetime) -> str:
    """ISO 8601 in UTC with microseconds, as ARM writes it."""
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def workspace_body(identity: Identity, *, created: datetime) -> dict[str, Any]:
    """The workspace itself."""
    return {
        "id": identity.workspace,
        "name": identity.workspace_name,
        "type": f"{PROVIDER}/workspaces",
        "location": identity.region,
        "tags": {},
        "identity": {"type": "SystemAssigned", "principalId": identity.workspace_id, "tenantId": identity.tenant_id},
        "sku": {"name": "Basic", "tier": "Basic"},
        "properties": {
            "friendlyName": identity.workspace_name,
            "workspaceId": identity.workspace_id,
            "provisioningState": "Succeeded",
            "creationTime": moment(created),
            "discoveryUrl": f"{identity.address}/discovery",
            "mlFlowTrackingUri": f"azureml://{identity.region}.api.azureml.ms/mlflow/v1.0{identity.workspace}",
            "publicNetworkAccess": "Enabled",
            "storageAccount": storage_account(identity),
        },
    }


def storage_account(identity: Identity) -> str:
    """ARM id of the workspace's storage account."""
    return f"{identity.resource_group_id}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"


def datastore_body(identity: Identity, name: str, blobs: Blobs) -> dict[str, Any]:
    """The workspace's blob store."""
    return {
        "id": f"{identity.workspace}/datastores/{name}",
        "name": name,
        "type": f"{PROVIDER}/workspaces/datastores",
        "properties": {
            "datastoreType": "AzureBlob",
            "accountName": blobs.account,
            "containerName": DATASTORE_CONTAINER,
            "endpoint": "core.windows.net",
            "protocol": "https",
            "isDefault": True,
            "serviceDataAccessAuthIdentity": "None",
            "credentials": {"credentialsType": "Sas"},
            "properties": {},
            "tags": {},
        },
    }


def endpoint_body(identity: Identity, endpoint: Endpoint, *, shown: Traffic) -> dict[str, Any]:
    """An online endpoint; `shown` is the split as a read shows it now."""
    spec = endpoint.spec
    properties = dict(spec.properties)
    if endpoint.operation is not None:
        properties["AzureAsyncOperationUri"] = identity.address + operation_path(
            identity, endpoint.operation, deployment=False
        )
    values: dict[str, Any] = {
        "authMode": spec.auth_mode,
        "description": spec.description,
        "properties": properties,
        "provisioningState": endpoint.state,
        "publicNetworkAccess": spec.public_network_access,
        "scoringUri": identity.scoring_uri(endpoint.name) if endpoint.created else None,
        "swaggerUri": None,
        "traffic": dict(shown),
        "mirrorTraffic": dict(spec.mirror),
        "compute": spec.compute,
    }
    return {
        "id": identity.endpoint_id(endpoint.name),
        "name": endpoint.name,
        "type": f"{PROVIDER}/workspaces/onlineEndpoints",
        "location": spec.location,
        "tags": dict(spec.tags),
        "kind": "Managed" if spec.compute is None else "K8S",
        "identity": _identity(identity, spec.identity),
        "systemData": _system(endpoint.system),
        "properties": values,
    }


def deployment_body(identity: Identity, deployment: Deployment) -> dict[str, Any]:
    """An online deployment."""
    spec = deployment.spec
    values: dict[str, Any] = {
        "endpointComputeType": spec.kind,
        "model": spec.model,
        "environmentId": spec.environment,
        "codeConfiguration": {"codeId": spec.code, "scoringScript": spec.scoring_script} if spec.code else None,
        "environmentVariables": dict(spec.environment_variables),
        "description": spec.description,
        "properties": dict(spec.properties),
        "instanceType": spec.instance_type,
        "appInsightsEnabled": spec.app_insights,
        "scaleSettings": dict(spec.scale),
        "requestSettings": {
            "requestTimeout": _duration(spec.request_timeout_ms),
            "maxConcurrentRequestsPerInstance": spec.max_concurrent,
            "maxQueueWait": _duration(spec.max_queue_wait_ms),
        },
        "provisioningState": deployment.state,
        **spec.passed_on,
    }
    return {
        "id": identity.deployment_id(deployment.endpoint, deployment.name),
        "name": deployment.name,
        "type": f"{PROVIDER}/workspaces/onlineEndpoints/deployments",
        "location": spec.location,
        "tags": dict(spec.tags),
        "sku": {"name": "Default", "capacity": spec.instances},
        "systemData": _system(deployment.system),
        "properties": values,
    }


def asset_body(identity: Identity, asset: Asset) -> dict[str, Any]:
    """One version of a registered asset."""
    values: dict[str, Any] = {
        "description": asset.description,
        "tags": dict(asset.tags),
        "properties": {},
        "isArchived": False,
        "isAnonymous": False,
    }
    if asset.kind == "models":
        kind = "mlflow_model" if asset.is_mlflow else "custom_model"
        values |= {"modelType": kind, "modelUri": _uri(asset)}
    elif asset.kind == "codes":
        values |= {"codeUri": _uri(asset)}
    elif asset.kind == "data":
        values |= {"dataType": "uri_folder"}
    else:
        values |= {"osType": "Linux", "environmentType": "UserCreated", "image": "sandbox"}
    values |= {key: value for key, value in asset.details.items() if value is not None}
    values["provisioningState"] = "Succeeded"
    if asset.kind == "models":
        values["flavors"] = {name: {"data": _texts(flavor)} for name, flavor in asset.flavors.items()}
    body = {
        "id": identity.registry_id(asset.registry, asset.kind, asset.name, asset.version)
        if asset.registry
        else identity.asset_id(asset.kind, asset.name, asset.version),
        "name": asset.version,
        "type": f"{PROVIDER}/workspaces/{asset.kind}/versions",
        "properties": values,
    }
    if asset.created_at is not None:
        body["systemData"] = {"createdAt": moment(asset.created_at), "lastModifiedAt": moment(asset.created_at)}
    return body


def container_body(identity: Identity, versions: list[Asset]) -> dict[str, Any]:
    """The container of all versions of one asset (`versions`: oldest first, at least one)."""
    latest = versions[-1]
    following = str(int(latest.version) + 1) if latest.version.isdecimal() else None
    return {
        "id": f"{identity.workspace}/{latest.kind}/{latest.name}",
        "name": latest.name,
        "type": f"{PROVIDER}/workspaces/{latest.kind}",
        "properties": {
            "description": latest.description,
            "tags": dict(latest.tags),
            "properties": {},
            "isArchived": False,
            "latestVersion": latest.version,
            "nextVersion": following,
        },
        "systemData": {"createdAt": moment(versions[0].created_at), "lastModifiedAt": moment(latest.created_at)}
        if versions[0].created_at and latest.created_at
        else None,
    }


def operation_path(identity: Identity, operation: str, *, deployment: bool, results: bool = False) -> str:
    """Where an operation's status is asked for, without its signature."""
    kind = "mfeOperationResults" if results else "mfeOperationsStatus"
    name = operation_name(identity, operation, deployment=deployment)
    scope = f"/subscriptions/{identity.subscription_id}/providers/{PROVIDER}/locations/{identity.region}"
    return f"{scope}/{kind}/{name}"


def operation_name(identity: Identity, operation: str, *, deployment: bool) -> str:
    """The operation's name in its status address."""
    return f"{'odidp' if deployment else 'oeidp'}:{identity.workspace_id}:{operation}"


def operation_body(identity: Identity, operation: Operation, *, now: datetime) -> dict[str, Any]:
    """The status of an operation."""
    deployment = operation.deployment is not None
    whole = max((operation.due - operation.started).total_seconds(), 1e-6)
    done = min(99, int(100 * (now - operation.started).total_seconds() / whole))
    body: dict[str, Any] = {
        "id": operation_path(identity, operation.id, deployment=deployment),
        "name": operation_name(identity, operation.id, deployment=deployment),
        "status": operation.status,
        "startTime": moment(operation.started),
        "endTime": moment(operation.ended) if operation.ended else "0001-01-01T00:00:00+00:00",
        "percentComplete": 100 if operation.status is not Status.RUNNING else done,
    }
    if operation.status is Status.FAILED and operation.trouble is not None:
        body["error"] = {"code": operation.trouble.code, "message": operation.trouble.message, "details": []}
    return body


def token_body(token: EndpointToken) -> dict[str, Any]:
    """The answer to a request for an endpoint's token; times in seconds since 1970."""
    return {
        "accessToken": token.value,
        "tokenType": "Bearer",
        "expiryTimeUtc": int(token.expires.timestamp()),
        "refreshAfterTimeUtc": int(token.refresh_after.timestamp()),
    }


def error_body(refusal: Refusal, *, identity: Identity, request_id: str, now: datetime) -> dict[str, Any]:
    """The body of a refusal: flat where ARM answers, with details and additional information where the service does."""
    error: dict[str, Any] = {"code": refusal.code, "message": refusal.message}
    if refusal.status in FLAT or refusal.status >= 500 or not refusal.details:
        return {"error": error}
    error["details"] = [
        {"code": code, "message": message, "details": [], "additionalInfo": []} for code, message in refusal.details
    ]
    facts: Mapping[str, Any] = {
        "ComponentName": "managementfrontend",
        "Correlation": {"operation": request_id.replace("-", ""), "request": request_id[:16].replace("-", "")},
        "Environment": identity.region,
        "Location": identity.region,
        "Time": moment(now),
    }
    error["additionalInfo"] = [{"type": key, "info": {"value": value}} for key, value in facts.items()]
    return {"error": error}


def _identity(identity: Identity, wish: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if wish is None:
        return None
    return {"principalId": identity.workspace_id, "tenantId": identity.tenant_id, **wish}


def _system(system: SystemData) -> dict[str, Any]:
    return {
        "createdBy": system.created_by.id,
        "createdByType": system.created_by.kind,
        "createdAt": moment(system.created_at),
        "lastModifiedBy": system.modified_by.id,
        "lastModifiedByType": system.modified_by.kind,
        "lastModifiedAt": moment(system.modified_at),
    }


def _duration(milliseconds: int) -> str:
    return f"PT{milliseconds / 1000:g}S"


def _uri(asset: Asset) -> str:
    return f"azureml://datastores/workspaceblobstore/paths/{asset.kind}/{asset.name}/{asset.version}"


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items()}
