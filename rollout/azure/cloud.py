"""Which cloud, and who we are there.

The rule: a `Cloud` is plain data: every address, token audience and certificate authority a client needs, so that a
sandbox is a cloud like any other. Its name is unique per address: azure-ai-ml keeps, for the life of a process, the first
cloud that it was given under a name, and would silently talk to that one. Time-outs and retries are ours, for all clients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rollout import settings
from rollout.errors import SettingsError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

#: Seconds until a connection stands, and until an answer comes (the SDKs' own default is 300 for both).
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0
#: One more try, at once, where no connection came about; none after a time-out, which was long enough, and none after an
#: answer: the SDKs would sleep for whatever Retry-After says, and the next poll is the better retry.
CONNECTION_RETRIES = 1
NO_RETRIES = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The addresses of one cloud. `{region}` in `metrics` is filled in per region."""

    name: str
    resource_manager: str
    authority: str
    logs: str
    logs_audience: str
    metrics: str
    metrics_audience: str
    scoring_audience: str
    ca_file: str | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    read_timeout: float = READ_TIMEOUT

    @property
    def is_sandbox(self) -> bool:
        """A local cloud with its own certificate authority."""
        return self.ca_file is not None

    def metrics_address(self, region: str) -> str:
        """Where the metrics of a region are read; regions are written as Azure writes them in addresses."""
        return self.metrics.format(region=region.replace(" ", "").casefold())

    def options(self, **more: Any) -> dict[str, Any]:
        """What every SDK client of this cloud is made with."""
        options: dict[str, Any] = {
            "connection_timeout": self.connect_timeout,
            "read_timeout": self.read_timeout,
            "retry_total": CONNECTION_RETRIES,
            "retry_connect": CONNECTION_RETRIES,
            "retry_read": 0,
            "retry_status": 0,
        }
        if self.ca_file is not None:
            # A sandbox is on this machine: a proxy from the environment, which the SDKs honour even for 127.0.0.1,
            # would never find it.
            options |= {"connection_verify": self.ca_file, "use_env_settings": False}
        return options | more


CLOUDS: Mapping[str, Cloud] = {
    "AzureCloud": Cloud(
        name="AzureCloud",
        resource_manager="https://management.azure.com",
        authority="https://login.microsoftonline.com",
        logs="https://api.loganalytics.io",
        logs_audience="https://api.loganalytics.io",
        metrics="https://{region}.metrics.monitor.azure.com",
        metrics_audience="https://metrics.monitor.azure.com",
        scoring_audience="https://ml.azure.com",
    ),
    "AzureUSGovernment": Cloud(
        name="AzureUSGovernment",
        resource_manager="https://management.usgovcloudapi.net",
        authority="https://login.microsoftonline.us",
        logs="https://api.loganalytics.us",
        logs_audience="https://api.loganalytics.us",
        metrics="https://{region}.metrics.monitor.azure.us",
        metrics_audience="https://metrics.monitor.azure.us",
        scoring_audience="https://ml.azure.us",
    ),
    "AzureChinaCloud": Cloud(
        name="AzureChinaCloud",
        resource_manager="https://management.chinacloudapi.cn",
        authority="https://login.chinacloudapi.cn",
        logs="https://api.loganalytics.azure.cn",
        logs_audience="https://api.loganalytics.azure.cn",
        metrics="https://{region}.metrics.monitor.azure.cn",
        metrics_audience="https://metrics.monitor.azure.cn",
        scoring_audience="https://ml.azure.cn",
    ),
}


def sandbox_cloud(*, address: str, ca_file: str) -> Cloud:
    """A sandbox: one address for everything, with real audiences, so that tokens are asked for as on Azure."""
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.netloc:
        raise SettingsError(
            f"The sandbox's address {address!r} is not an https address; start it with `rollout sandbox`."
        )
    base = f"https://{parts.netloc}"
    return Cloud(
        name=f"Sandbox-{parts.netloc.replace(':', '-')}",
        resource_manager=base,
        authority=base,
        logs=base,
        logs_audience=CLOUDS["AzureCloud"].logs_audience,
        metrics=base,
        metrics_audience=CLOUDS["AzureCloud"].metrics_audience,
        scoring_audience=CLOUDS["AzureCloud"].scoring_audience,
        ca_file=ca_file,
    )


def cloud_of(wanted: settings.Cloud, sandbox: Mapping[str, Any] | None = None) -> Cloud:
    """The cloud that the settings name; `sandbox` is the content of the `sandbox.json` that they point to."""
    if wanted.name != "sandbox":
        return CLOUDS[wanted.name]
    if sandbox is None or not {"address", "ca_file"} <= set(sandbox):
        raise SettingsError(
            f"{wanted.sandbox} is not the file of a running sandbox: start one with `rollout sandbox start`."
        )
    return sandbox_cloud(address=str(sandbox["address"]), ca_file=str(sandbox["ca_file"]))


def make_credential(cloud: Cloud, wanted: settings.Credential, *, secret: str | None = None) -> "TokenCredential":
    """The credential; no request is made yet. `secret` is what `secret_env` or `secret_file` holds.

    Raises SettingsError where a value is missing or cannot be read.
    """
    try:
        return _credential(cloud, wanted, secret)
    except (ValueError, OSError) as error:
        raise SettingsError(f"The credential {wanted.type} cannot be used: {error}") from error


def _credential(cloud: Cloud, wanted: settings.Credential, secret: str | None) -> "TokenCredential":
    from azure import identity

    options = cloud.options(authority=cloud.authority)
    if cloud.is_sandbox:
        options["disable_instance_discovery"] = True
    tenant, client = wanted.tenant_id or "", wanted.client_id or ""
    match wanted.type:
        case "client_secret":
            return identity.ClientSecretCredential(tenant, client, secret or "", **options)
        case "certificate":
            return identity.CertificateCredential(tenant, client, wanted.certificate_file, **options)
        case "workload_identity":
            known = {"tenant_id": wanted.tenant_id, "client_id": wanted.client_id}  # else from the environment
            return identity.WorkloadIdentityCredential(
                **{key: value for key, value in known.items() if value}, **options
            )
    # The metadata service of a machine wants its own retries: it answers 404 and 410 while it wakes up.
    patient = {name: value for name, value in options.items() if not name.startswith("retry_")}
    if wanted.type == "managed_identity":
        return identity.ManagedIdentityCredential(client_id=wanted.client_id, **patient)
    return identity.DefaultAzureCredential(managed_identity_client_id=wanted.client_id, **patient)
