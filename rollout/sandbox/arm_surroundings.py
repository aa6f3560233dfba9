"""What lies around the workspace in Resource Manager: roles, diagnostic settings, log workspaces, quotas, the activity log.

The rule: reads of what the model knows. An endpoint has its diagnostic setting unless a fault keeps its rows out of the
logs (`gap` of that endpoint): then it has none, which is what such an endpoint looks like on Azure.
"""

import re
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from aiohttp import web

from rollout.sandbox import access, bodies, rules, skus
from rollout.sandbox.activity import Event
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import MonitorFault
from rollout.sandbox.gate import PROVIDER, SUBSCRIPTION, WORKSPACE, Answer, Call, Gate, page
from rollout.sandbox.metric_catalog import MetricsError
from rollout.sandbox.metrics import MetricStore, parse_request
from rollout.sandbox.resources import Identity

AUTHORIZATION = "/providers/Microsoft.Authorization"
INSIGHTS = "/providers/Microsoft.Insights"
GROUP = SUBSCRIPTION + "/{_:(?i:resourceGroups)}/{group}"
LOCATION = SUBSCRIPTION + PROVIDER + "/locations/{location}"
CATEGORY = "AmlOnlineEndpointTrafficLog"
LOG_WORKSPACE = "logs"
NAMESPACE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints"
_ASSIGNED = re.compile(r"assignedTo\('([^']+)'\)")
_SINCE = re.compile(r"eventTimestamp ge '([^']+)'")
_GROUP = re.compile(r"resourceGroupName eq '([^']+)'")


class Surroundings:
    """The handlers."""

    def __init__(self, *, cloud: Cloud, gate: Gate, metrics: MetricStore) -> None:
        self._cloud = cloud
        self._gate = gate
        self._metrics = metrics
        self._born = cloud.now() - timedelta(days=30)  # of roles that were always there

    def routes(self) -> list[web.RouteDef]:
        """Their addresses."""
        logs = SUBSCRIPTION + "/providers/Microsoft.OperationalInsights/workspaces"
        logs_id = GROUP + "/providers/Microsoft.OperationalInsights/workspaces/{logs}"
        table = (
            (WORKSPACE + AUTHORIZATION + "/permissions", self.permissions),
            (WORKSPACE + AUTHORIZATION + "/roleAssignments", self.assignments),
            (logs_id + AUTHORIZATION + "/roleAssignments", self.assignments),
            (SUBSCRIPTION + AUTHORIZATION + "/roleAssignments", self.assignments),
            (WORKSPACE + "/onlineEndpoints/{endpoint}" + INSIGHTS + "/metrics", self.metrics),
            (SUBSCRIPTION + AUTHORIZATION + "/roleDefinitions/{role}", self.role),
            (WORKSPACE + "/onlineEndpoints/{endpoint}" + INSIGHTS + "/diagnosticSettings", self.diagnostics),
            (logs, self.log_workspaces),
            (logs_id, self.log_workspace),
            (LOCATION + "/usages", self.usages),
            (LOCATION + "/vmSizes", self.sizes),
            (SUBSCRIPTION + INSIGHTS + "/eventtypes/management/values", self.activity),
        )
        return [self._gate.route("GET", path, handler) for path, handler in table]

    # Roles

    def permissions(self, call: Call) -> Answer:
        """What the caller may do in the workspace."""
        return Answer(body={"value": [self._cloud.access.permissions(call.actor.id, now=self._cloud.now())]})

    def assignments(self, call: Call) -> Answer:
        """The roles of one client."""
        asked = _ASSIGNED.search(call.query.get("$filter", ""))
        if asked is None:
            raise rules.not_offered("The sandbox lists role assignments with the filter assignedTo('…') only.")
        identity = self._cloud.identity
        roles = self._cloud.access.roles(asked[1], born=self._born)
        return Answer(body={"value": [_assignment(identity, asked[1], role, since=since) for role, since in roles]})

    def role(self, call: Call) -> Answer:
        """One of the two roles."""
        name = access.NAMES.get(call.path["role"])
        if name is None:
            raise rules.Refusal(404, "RoleDefinitionDoesNotExist", f"There is no role {call.path['role']}.")
        properties = {"roleName": name, "type": "BuiltInRole", "permissions": [access.permission(call.path["role"])]}
        return Answer(body={"id": call.address, "name": call.path["role"], "properties": properties})

    # Logs

    def diagnostics(self, call: Call) -> Answer:
        """The diagnostic settings of an endpoint: one, or none."""
        endpoint = self._cloud.endpoint(call.path["endpoint"])
        identity = self._cloud.identity
        setting = {
            "id": f"{identity.endpoint_id(endpoint.name)}{INSIGHTS}/diagnosticSettings/rollout",
            "type": "Microsoft.Insights/diagnosticSettings",
            "name": "rollout",
            "properties": {
                "workspaceId": log_workspace_id(identity),
                "logs": [{"category": CATEGORY, "categoryGroup": None, "enabled": True}],
                "metrics": [],
                "logAnalyticsDestinationType": None,
            },
        }
        logged = endpoint.spec.compute is None and not self._unlogged(endpoint.name)
        return Answer(body={"value": [setting] if logged else []})

    def log_workspaces(self, call: Call) -> Answer:  # noqa: ARG002
        """The log workspaces of the subscription: one."""
        return Answer(body={"value": [self._log_workspace()]})

    def log_workspace(self, call: Call) -> Answer:
        """The one log workspace."""
        if call.path["logs"].casefold() != LOG_WORKSPACE:
            raise rules.Refusal(404, "ResourceNotFound", f"There is no log workspace {call.path['logs']}.")
        return Answer(body=self._log_workspace())

    def _log_workspace(self) -> dict[str, Any]:
        identity = self._cloud.identity
        return {
            "id": log_workspace_id(identity),
            "name": LOG_WORKSPACE,
            "type": "Microsoft.OperationalInsights/workspaces",
            "location": identity.region,
            "properties": {
                "customerId": identity.log_workspace,
                "provisioningState": "Succeeded",
                "sku": {"name": "PerGB2018"},
                "retentionInDays": 30,
                "workspaceCapping": {"dailyQuotaGb": -1.0},
                "publicNetworkAccessForIngestion": "Enabled",
                "publicNetworkAccessForQuery": "Enabled",
            },
        }

    def metrics(self, call: Call) -> Answer:
        """The metrics of one endpoint."""
        endpoint = self._cloud.endpoint(call.path["endpoint"])
        start, _, end = call.query.get("timespan", "").partition("/")  # the batch has two parameters for it
        span = {"starttime": start, "endtime": end} if end else {}
        query = {"metricnamespace": NAMESPACE, **span, **call.query}
        try:
            asked = parse_request(query, now=self._cloud.now())
            (found,) = self._metrics.answer(asked, [self._cloud.identity.endpoint_id(endpoint.name)])["values"]
        except MetricsError as error:
            raise rules.Refusal(error.status, error.code, error.message) from error
        return Answer(body={"timespan": call.query.get("timespan"), **found})

    def _unlogged(self, endpoint: str) -> bool:
        faults = self._cloud.faults.active(self._cloud.now()).values()
        return any(
            isinstance(fault, MonitorFault) and fault.kind == "gap" and fault.endpoint.casefold() == endpoint.casefold()
            for fault in faults
        )

    # Machines

    def usages(self, call: Call) -> Answer:
        """vCPUs used and allowed, by family of machines."""
        self._check_location(call)
        specs = [
            deployment.spec
            for endpoint in self._cloud.endpoints()
            for deployment in self._cloud.deployments(endpoint.name)
        ]
        place = f"{self._cloud.identity.subscription_path}{PROVIDER}/locations/{self._cloud.identity.region}/usages"
        return Answer(body={"value": [_usage(place, *each) for each in skus.usage(specs)]})

    def sizes(self, call: Call) -> Answer:
        """The machines that there are."""
        self._check_location(call)
        found = [
            {
                "name": name,
                "family": skus.family_name(family),
                "vCPUs": cores,
                "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
            }
            for name, (family, cores) in skus.SIZES.items()
        ]
        return Answer(body={"value": found})

    def _check_location(self, call: Call) -> None:
        if call.path["location"].casefold() != self._cloud.identity.region:
            raise rules.Refusal(404, "LocationNotFound", f"There is nothing in location {call.path['location']}.")

    # What was written

    def activity(self, call: Call) -> Answer:
        """The activity log since a moment, newest first."""
        wanted = call.query.get("$filter", "")
        since, group = _SINCE.search(wanted), _GROUP.search(wanted)
        if since is None or group is None:
            raise rules.not_offered("The sandbox lists the activity log by eventTimestamp and resourceGroupName only.")
        moment = datetime.fromisoformat(since[1])
        ours = group[1].casefold() == self._cloud.identity.resource_group.casefold()
        found = [event for event in self._cloud.activity if ours and event.at >= moment]
        return page([_event(event) for event in reversed(found)], call)


def log_workspace_id(identity: Identity) -> str:
    """ARM id of the log workspace."""
    return f"{identity.resource_group_id}/providers/Microsoft.OperationalInsights/workspaces/{LOG_WORKSPACE}"


def _assignment(identity: Identity, client: str, role: str, *, since: datetime) -> dict[str, Any]:
    """Made on the subscription, and so in effect everywhere."""
    name = str(uuid5(NAMESPACE_URL, f"{client}/{role}"))
    scope = identity.subscription_path
    return {
        "id": f"{scope}{AUTHORIZATION}/roleAssignments/{name}",
        "name": name,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "roleDefinitionId": f"{identity.subscription_path}{AUTHORIZATION}/roleDefinitions/{role}",
            "principalId": client,
            "principalType": "ServicePrincipal",
            "scope": scope,
            "createdOn": bodies.moment(since),
            "updatedOn": bodies.moment(since),
        },
    }


def _usage(place: str, family: str, used: int, limit: int) -> dict[str, Any]:
    name = skus.family_name(family)
    return {
        "id": f"{place}/{name}",
        "type": "Microsoft.MachineLearningServices/vmFamily/dedicatedCores/usages",
        "unit": "Count",
        "currentValue": used,
        "limit": limit,
        "name": {"value": name, "localizedValue": f"Standard {family} Family Cluster Dedicated vCPUs"},
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "caller": event.actor.id,
        "claims": {"appid": event.actor.id} if event.actor.kind == "Application" else {"name": event.actor.id},
        "eventTimestamp": bodies.moment(event.at),
        "operationName": {"value": event.action, "localizedValue": event.action},
        "resourceId": event.resource,
        "status": {"value": "Succeeded", "localizedValue": "Succeeded"},
    }
