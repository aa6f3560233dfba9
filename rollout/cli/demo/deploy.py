"""Create or update a deployment from its `az ml` file, with the Azure SDK: `python -m rollout.cli.demo.deploy SANDBOX FILE`.

The rule: a process of its own, because the Azure ML SDK takes seconds to import and prints dots while it waits.
"""

import json
import sys
from pathlib import Path


def main(sandbox_file: str, deployment_file: str) -> None:
    """Returns when Azure says that the deployment is ready; raises what the SDK raises."""
    from azure.ai.ml import MLClient, load_online_deployment
    from azure.identity import ClientSecretCredential

    values = json.loads(Path(sandbox_file).read_text(encoding="utf-8"))
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
    client = MLClient(
        credential,
        values["subscription_id"],
        values["resource_group"],
        values["workspace_name"],
        cloud=f"Sandbox-{address.rsplit(':', 1)[1]}",
        cloud_metadata={**metadata, "storage_endpoint": "localhost"},
        connection_verify=certificate,
        enable_telemetry=False,
    )
    client.online_deployments.begin_create_or_update(load_online_deployment(deployment_file)).result()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
