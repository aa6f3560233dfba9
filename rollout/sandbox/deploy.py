"""Create or update a deployment from its `az ml` file with the Azure ML SDK, as a user's pipeline would.

The rule: nothing here knows that it is a sandbox beyond its addresses; the file is loaded by the SDK's own loader.
"""

from pathlib import Path
from typing import Any

from rollout.errors import RefusedError


def deploy(values: dict[str, Any], file: Path) -> str:
    """Returns the deployment's name when Azure says that it is ready. Raises RefusedError with Azure's words."""
    from azure.ai.ml import load_online_deployment
    from azure.core.exceptions import AzureError

    try:
        deployment = load_online_deployment(file)
        _client(values).online_deployments.begin_create_or_update(deployment).result()
    except (AzureError, OSError) as error:
        raise RefusedError(f"{file} could not be deployed: {getattr(error, 'message', None) or error}") from None
    return str(deployment.name)


def _client(values: dict[str, Any]) -> Any:
    from azure.ai.ml import MLClient
    from azure.identity import ClientSecretCredential

    address, certificate = values["address"], values["ca_file"]
    credential = ClientSecretCredential(
        values["tenant_id"],
        values["client_id"],
        Path(values["client_secret_file"]).read_text(encoding="utf-8").strip(),
        authority=address,
        disable_instance_discovery=True,
        connection_verify=certificate,
    )
    metadata = dict.fromkeys(
        ("azure_portal", "resource_manager", "active_directory", "aml_resource_id", "registry_discovery_endpoint"),
        address,
    )
    return MLClient(
        credential,
        values["subscription_id"],
        values["resource_group"],
        values["workspace_name"],
        cloud=f"Sandbox-{address.rsplit(':', 1)[1]}",
        cloud_metadata={**metadata, "storage_endpoint": "localhost"},
        connection_verify=certificate,
        enable_telemetry=False,
    )
