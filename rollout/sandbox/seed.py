"""What a sandbox holds before anybody asks: the registered samples, and if wanted the sample endpoint with v1 at work.

The rule: the samples' `az ml` YAML is the only description of the sample endpoint; this file reads it, as a client would send it.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rollout.errors import SettingsError
from rollout.sandbox.assets import MLMODEL
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.resources import Actor, Asset, AssetKind, Identity, State

SAMPLES = Path(__file__).parent / "samples"
NAME = "recommender"
VERSIONS = ("1", "2", "3")
REGISTRY, MLFLOW_NAME, MLFLOW_VERSIONS = "restaurants", "restaurant-stars", ("1", "2")
PATIENCE_SECONDS = 30.0  # real time that the first model process has to answer
LOOK_SECONDS = 0.05
_KINDS: Mapping[str, AssetKind] = {"model": "models", "environment": "environments", "code": "codes"}


def register_samples(cloud: Cloud, *, folder: Path = SAMPLES) -> None:
    """Register models `recommender:1..3`, their code `recommender-code:1..3`, and `recommender-env:1`.

    The MLflow models `restaurant-stars:1..2` are in the registry `restaurants`.
    """
    now = cloud.now()
    cloud.assets.register(Asset(kind="environments", name=f"{NAME}-env", version="1"), now=now)
    for version in VERSIONS:
        code = folder / f"v{version}"
        model = code / "model"
        cloud.assets.register(Asset(kind="codes", name=f"{NAME}-code", version=version, path=code), now=now)
        cloud.assets.register(
            Asset(kind="models", name=NAME, version=version, path=model if model.exists() else code), now=now
        )
    for version in MLFLOW_VERSIONS:
        path = folder / "mlflow" / f"v{version}"
        flavors = yaml.safe_load((path / MLMODEL).read_text(encoding="utf-8"))["flavors"]
        mlflow = Asset(kind="models", name=MLFLOW_NAME, version=version, path=path, flavors=flavors, registry=REGISTRY)
        cloud.assets.register(mlflow, now=now)


async def seed_endpoint(cloud: Cloud, *, folder: Path = SAMPLES) -> None:
    """Create the sample endpoint with blue (v1) at 100 percent, at once. Raises SettingsError if blue cannot start."""
    actor = Actor(id=cloud.identity.client_id)
    endpoint, blue = _read(folder / "endpoint.yml"), _read(folder / "blue-v1.yml")
    name = str(endpoint["name"])
    body = endpoint_body(endpoint, cloud.identity)
    cloud.put_endpoint(name, body, actor=actor)
    cloud.hurry()
    cloud.put_deployment(name, str(blue["name"]), deployment_body(blue, cloud.identity), actor=actor)
    await _until_ready(cloud, name, str(blue["name"]))
    body["properties"]["traffic"] = {str(blue["name"]): 100}
    cloud.put_endpoint(name, body, actor=actor)
    cloud.hurry()


def endpoint_body(values: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
    """The PUT body of an endpoint described in `az ml` YAML."""
    return {
        "location": identity.region,
        "tags": values.get("tags", {}),
        "identity": {"type": "SystemAssigned"},
        "properties": {
            "authMode": str(values.get("auth_mode", "key")).replace("_", ""),
            "description": values.get("description"),
            "properties": {},
            "traffic": {},
        },
    }


def deployment_body(values: Mapping[str, Any], identity: Identity) -> dict[str, Any]:
    """The PUT body of a deployment described in `az ml` YAML; assets by `azureml:NAME:VERSION`."""
    code, limits = values.get("code_configuration", {}), values.get("request_settings", {})
    return {
        "location": identity.region,
        "tags": values.get("tags", {}),
        "sku": {"name": "Default", "capacity": values.get("instance_count", 1)},
        "properties": {
            "endpointComputeType": "Managed",
            "description": values.get("description"),
            "model": _reference("model", values["model"], identity),
            "environmentId": _reference("environment", values["environment"], identity),
            "codeConfiguration": {
                "codeId": _reference("code", code["code"], identity),
                "scoringScript": code["scoring_script"],
            },
            "environmentVariables": values.get("environment_variables", {}),
            "instanceType": values.get("instance_type"),
            "requestSettings": {
                "requestTimeout": f"PT{limits.get('request_timeout_ms', 5000) / 1000:g}S",
                "maxConcurrentRequestsPerInstance": limits.get("max_concurrent_requests_per_instance", 1),
            },
            "scaleSettings": {"scaleType": "Default"},
        },
    }


async def _until_ready(cloud: Cloud, endpoint: str, deployment: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while (state := cloud.deployment(endpoint, deployment).state) is not State.SUCCEEDED:
        if state is State.FAILED or loop.time() > deadline:
            last = " | ".join(cloud.logs(endpoint, deployment, tail=3)) or "it wrote nothing"
            raise SettingsError(f"The sandbox's first deployment, {deployment}, did not start: {last}")
        cloud.hurry()
        await asyncio.sleep(LOOK_SECONDS)


def _reference(word: str, text: str, identity: Identity) -> str:
    name, version = text.removeprefix("azureml:").split(":")
    return identity.asset_id(_KINDS[word], name, version)


def _read(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return values
