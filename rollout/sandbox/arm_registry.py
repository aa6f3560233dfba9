"""Registries, as far as clients read models in them: where one is, and the versions of its models.

The rule: that of `arm.py`: this file only translates. A registry answers beside Azure Resource Manager, under an address that
its discovery tells; what a registry takes (uploads, shares) is not modelled.
"""

from dataclasses import replace

from aiohttp import web

from rollout.sandbox import bodies, rules
from rollout.sandbox.assets import viewed
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.gate import PROVIDER, SUBSCRIPTION, Answer, Call, Gate, page, refusing
from rollout.sandbox.resources import Asset

FRONT = "/mferp/managementfrontend"
DISCOVERY = "/registrymanagement/v1.0/registries/{registry}/discovery"
REGISTRY = FRONT + SUBSCRIPTION + "/{_:(?i:resourceGroups)}/{group}" + PROVIDER + "/registries/{registry}"
VERSION = REGISTRY + "/models/{name}/versions/{version}"


class Registries:
    """The handlers of registries."""

    def __init__(self, *, cloud: Cloud, gate: Gate) -> None:
        self._cloud = cloud
        self._gate = gate

    def routes(self) -> list[web.RouteDef]:
        """The addresses of registries."""
        other = refusing("sandbox: not modelled: this request about a registry.")
        return [
            self._gate.route("GET", DISCOVERY, self.discover),
            self._gate.route("GET", REGISTRY + "/models/{name}/versions", self.versions),
            self._gate.route("GET", VERSION, self.version),
            self._gate.route("PUT", VERSION, self.describe),
            self._gate.route("GET", REGISTRY + "/{rest:.*}", other),
            self._gate.route("PUT", REGISTRY + "/{rest:.*}", other),
        ]

    def discover(self, call: Call) -> Answer:
        """Where a registry answers, and in which subscription and resource group it lies."""
        name, identity = self._known(call), self._cloud.identity
        return Answer(
            body={
                "registryName": name,
                "tenantId": identity.tenant_id,
                "primaryRegion": identity.region,
                "regions": [identity.region],
                "subscriptionId": identity.subscription_id,
                "resourceGroup": identity.resource_group,
                "primaryRegionResourceProviderUri": f"{identity.address}/",
            }
        )

    def versions(self, call: Call) -> Answer:
        """The versions of one model, newest first."""
        found = self._cloud.assets.all("models", call.path["name"], registry=self._known(call))[::-1]
        found = viewed(found, view=call.query.get("listViewType", "ActiveOnly"), stage=call.query.get("stage"))
        return page([bodies.asset_body(self._cloud.identity, asset) for asset in found], call)

    def version(self, call: Call) -> Answer:
        """One version of one model."""
        return Answer(body=bodies.asset_body(self._cloud.identity, self._one(call)))

    def describe(self, call: Call) -> Answer:
        """Describe a version that is there anew: its tags, its stage, whether it is archived."""
        found, values = self._one(call), call.body.get("properties") or {}
        details = {name: values[name] for name in ("stage", "isArchived") if name in values}
        tags, said = dict(values.get("tags") or {}), values.get("description")
        asset = replace(found, tags=tags, description=said, details={**found.details, **details})
        self._cloud.assets.register(asset, now=self._cloud.now())
        return Answer(body=bodies.asset_body(self._cloud.identity, asset))

    def _one(self, call: Call) -> Asset:
        name, version = call.path["name"], call.path["version"]
        found = self._cloud.assets.all("models", name, registry=self._known(call))
        for asset in found:
            if asset.version == version:
                return asset
        raise rules.not_found(f"models {name}:{version}")

    def _known(self, call: Call) -> str:
        name = call.path["registry"]
        if not self._cloud.assets.has_registry(name):
            raise rules.not_found(f"Registry {name}")
        return name
