"""People who act on Azure through its SDK: azure-ai-ml, unmodified, under their own name."""

import threading
from collections.abc import Mapping
from io import StringIO
from typing import Any

from azure.core.exceptions import ResourceExistsError

from rollout.azure.arm import WorkspaceResources
from rollout.sandbox.seed import SAMPLES
from tests.support.sandbox import ml_client

ALEX = "alex@example.org"
#: azure-ai-ml sets up its cloud in globals: one client at a time is made.
_making = threading.Lock()
CONFLICTS = 100  # tries against operations of others, a poll's length apart


def _on_kubernetes() -> StringIO:
    """The sample deployment as one of a cluster."""
    managed = {"$schema", "instance_type"}
    lines = (SAMPLES / "green-v2.yml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line.partition(":")[0] not in managed)
    found = StringIO(f"type: kubernetes\n{text}\n")
    found.name = str(SAMPLES / "green-on-kubernetes.yml")
    return found


class Person:
    """Somebody with an MLClient of their own; for one thread."""

    def __init__(self, values: Mapping[str, Any], name: str = ALEX) -> None:
        self.name = name
        self._address = str(values["address"])
        with _making:
            self._client = ml_client(values, name)

    def create(self, endpoint: str, *deployments: str, on_kubernetes: bool = False) -> None:
        """An endpoint with these deployments of the sample model; all traffic on the first one."""
        from azure.ai.ml import load_online_deployment, load_online_endpoint

        cluster = [{"compute": "azureml:kubernetes"}] if on_kubernetes else []
        described = load_online_endpoint(SAMPLES / "endpoint.yml", params_override=[{"name": endpoint}, *cluster])
        self._client.online_endpoints.begin_create_or_update(described).result()
        begun = []
        for name in deployments:
            names = [{"name": name}, {"endpoint_name": endpoint}]
            source = _on_kubernetes() if on_kubernetes else SAMPLES / "green-v2.yml"
            deployment = load_online_deployment(source, params_override=names)
            begun.append(self._client.online_deployments.begin_create_or_update(deployment))
        for poller in begun:
            poller.result()
        if deployments:
            self.set_traffic(endpoint, {deployments[0]: 100})

    def deploy(self, endpoint: str, deployment: str, *, sample: str = "green-v2.yml", **fields: Any) -> None:
        """Create or change one deployment of the sample model, with these fields of its file."""
        from azure.ai.ml import load_online_deployment

        given = {"name": deployment, "endpoint_name": endpoint, **fields}
        described = load_online_deployment(SAMPLES / sample, params_override=[{name: given[name]} for name in given])
        self._client.online_deployments.begin_create_or_update(described).result()

    def deploy_mlflow(self, endpoint: str, deployment: str, model: str) -> None:
        """Create a deployment of an MLflow model, without a script."""
        from azure.ai.ml.entities import ManagedOnlineDeployment

        described = ManagedOnlineDeployment(
            name=deployment,
            endpoint_name=endpoint,
            model=model,
            instance_type="Standard_DS3_v2",
            instance_count=2,
        )
        self._client.online_deployments.begin_create_or_update(described).result()

    def approve(self, registry: str, model: str, version: str, **tags: str) -> None:
        """Give a version of a model in a registry these tags, as `az ml model update --registry-name` does."""
        from azure.core.rest import HttpRequest

        scope = f"/subscriptions/{self._client.subscription_id}/resourceGroups/{self._client.resource_group_name}"
        place = f"/providers/Microsoft.MachineLearningServices/registries/{registry}/models/{model}/versions/{version}"
        address = f"{self._address}/mferp/managementfrontend{scope}{place}?api-version=2021-10-01-dataplanepreview"
        door = self._client.online_endpoints._online_operation._client
        found = door.send_request(HttpRequest("GET", address))
        found.raise_for_status()
        body = found.json()
        body["properties"]["tags"] = tags
        door.send_request(HttpRequest("PUT", address, json=body)).raise_for_status()

    def replace(self, endpoint: str, deployment: str) -> None:
        """Put another model behind a deployment, in place."""
        from azure.ai.ml import load_online_deployment

        names = [{"name": deployment}, {"endpoint_name": endpoint}]
        described = load_online_deployment(SAMPLES / "blue-v1.yml", params_override=names)
        self._client.online_deployments.begin_create_or_update(described).result()

    def resize(self, endpoint: str, deployment: str, instances: int) -> None:
        """Give a deployment so many instances."""
        described = self._client.online_deployments.get(deployment, endpoint)
        described.instance_count = instances
        self._client.online_deployments.begin_create_or_update(described).result()

    def instances(self, endpoint: str) -> dict[str, int]:
        """How many each deployment has."""
        found = self._client.online_deployments.list(endpoint)
        return {each.name: int(each.instance_count) for each in found}

    def autoscale(self, endpoint: str, deployment: str, minimum: int, maximum: int) -> None:
        """Have Azure Monitor scale a deployment, through Azure Resource Manager, as the portal does."""
        target = self._client.online_deployments.get(deployment, endpoint).id
        capacity = {"minimum": str(minimum), "default": str(minimum), "maximum": str(maximum)}
        properties = {
            "enabled": True,
            "targetResourceUri": target,
            "profiles": [{"name": "usual", "capacity": capacity, "rules": []}],
        }
        group = f"/subscriptions/{self._client.subscription_id}/resourceGroups/{self._client.resource_group_name}"
        setting = f"{group}/providers/Microsoft.Insights/autoscalesettings/{endpoint}-{deployment}"
        self._resources().put_autoscale(setting, {"location": "westeurope", "properties": properties})

    def autoscaled(self, endpoint: str) -> dict[str, tuple[int, int]]:
        """Minimum and maximum of the autoscale settings of an endpoint's deployments."""
        found = {}
        for each in self._resources().autoscale_settings():
            target = str(each["properties"]["targetResourceUri"]).split("/")
            if target[-3] == endpoint:
                capacity = each["properties"]["profiles"][0]["capacity"]
                found[target[-1]] = (int(capacity["minimum"]), int(capacity["maximum"]))
        return found

    def _resources(self) -> WorkspaceResources:
        client = self._client
        return WorkspaceResources(client, resource_group=client.resource_group_name, workspace=client.workspace_name)

    def traffic(self, endpoint: str) -> dict[str, int]:
        """The split as the SDK shows it, without zeros."""
        found = self._client.online_endpoints.get(endpoint).traffic
        return {name: share for name, share in found.items() if share}

    def set_traffic(self, endpoint: str, traffic: Mapping[str, int]) -> None:
        """Give an endpoint this split, after whatever runs on it just now."""
        for attempt in range(CONFLICTS):
            described = self._client.online_endpoints.get(endpoint)
            described.traffic = dict(traffic)
            try:
                self._client.online_endpoints.begin_create_or_update(described).result()
            except ResourceExistsError:  # 409: an operation runs
                if attempt + 1 == CONFLICTS:
                    raise
            else:
                return
