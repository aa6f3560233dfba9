"""Create or update a deployment from its `az ml` file with the Azure ML SDK, as a user's pipeline would.

The rule: nothing here knows that it is a sandbox beyond its addresses; the file is loaded by the SDK's own loader.
"""

import json
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from rollout.errors import RefusedError


def deploy(values: dict[str, Any], file: Path) -> str:
    """Returns the deployment's name when Azure says that it is ready. Raises RefusedError with Azure's words."""
    from azure.ai.ml import load_online_deployment
    from azure.core.exceptions import AzureError
    from marshmallow.exceptions import ValidationError

    try:
        deployment = load_online_deployment(file)
        with redirect_stdout(sys.stderr):  # the SDK's dots while one waits
            _client(values).online_deployments.begin_create_or_update(deployment).result()
            sys.stderr.write("\n")
    except ValidationError as error:
        raise RefusedError(f"{file} is no deployment: {_mistakes(str(error))}") from None
    except (AzureError, OSError) as error:
        raise RefusedError(f"{file} could not be deployed: {_azure_words(error)}") from None
    return str(deployment.name)


def _mistakes(text: str) -> str:
    """The fields and what is wrong with each, out of the SDK's page of advice."""
    found = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        fields = json.loads(found[0]) if found else {}
    except ValueError:
        fields = {}
    told = "; ".join(f"{name}: {' '.join(map(str, why)).rstrip('.')}" for name, why in fields.items())
    return f"{told}." if told else text.split("\n", 1)[0]


def _azure_words(error: Exception) -> str:
    """One line of what Azure, or its SDK, said."""
    said = getattr(error, "error", None)
    if said is None:
        return " ".join(str(getattr(error, "message", None) or error).split())
    details = [re.sub(r'.*"detail": ?"([^"]*)".*', r"\1", str(detail.message)) for detail in said.details or ()]
    return " ".join([f"{said.code}: {said.message}", *details])


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
