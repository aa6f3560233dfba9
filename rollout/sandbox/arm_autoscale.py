"""The addresses of Azure Monitor's autoscale settings under `/subscriptions/`.

The rule: this file only translates, as `arm.py` does.
"""

from typing import Any

from aiohttp import web

from rollout.sandbox.autoscale import Setting
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.gate import SUBSCRIPTION, Answer, Call, Gate, page

GROUP = SUBSCRIPTION + "/{_:(?i:resourceGroups)}/{group}"
SETTINGS = GROUP + "/providers/{provider:(?i:Microsoft.Insights)}/{kind:(?i:autoscaleSettings)}"
SETTING = SETTINGS + "/{setting}"


class AutoscaleFace:
    """The handlers of autoscale settings."""

    def __init__(self, *, cloud: Cloud, gate: Gate) -> None:
        self._cloud = cloud
        self._gate = gate

    def routes(self) -> list[web.RouteDef]:
        """All addresses of autoscale settings."""
        return [
            self._gate.route("GET", SETTINGS, self.settings),
            self._gate.route("GET", SETTING, self.setting),
            self._gate.route("PUT", SETTING, self.put),
            self._gate.route("DELETE", SETTING, self.delete),
        ]

    def settings(self, call: Call) -> Answer:
        """Those of the resource group."""
        return page([self._body(each) for each in self._cloud.autoscale.all()], call)

    def setting(self, call: Call) -> Answer:
        """One of them."""
        return Answer(body=self._body(self._cloud.autoscale.one(call.path["setting"])))

    def put(self, call: Call) -> Answer:
        """Create or replace one, at once."""
        managed = {
            self._cloud.identity.deployment_id(endpoint.name, each.name).casefold(): each.spec.kind == "Managed"
            for endpoint in self._cloud.endpoints()
            for each in self._cloud.deployments(endpoint.name)
        }
        setting, new = self._cloud.autoscale.put(call.path["setting"], call.body, managed=managed)
        return Answer(status=201 if new else 200, body=self._body(setting))

    def delete(self, call: Call) -> Answer:
        """Take one off."""
        return Answer(status=200 if self._cloud.autoscale.delete(call.path["setting"]) else 204)

    def _body(self, setting: Setting) -> dict[str, Any]:
        group = self._cloud.identity.resource_group_id
        return {
            **setting.body,
            "id": f"{group}/providers/microsoft.insights/autoscalesettings/{setting.name}",
            "name": setting.name,
            "type": "Microsoft.Insights/autoscaleSettings",
        }
