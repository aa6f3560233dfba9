"""Settings: how a daemon reaches Azure, where it keeps its state, and whom it tells (`rollout.yaml`).

The rule: secrets never stand in settings; a field that needs one names an environment variable (`…_env`) or a file
(`…_file`). Relative paths stay as written: the daemon reads them from the folder of the settings file. Every field can
be overridden from the environment: `ROLLOUT_STORE`, `ROLLOUT_API__LISTEN` (two underscores go one level deeper).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rollout.documents.mistakes import collect, in_order
from rollout.documents.models import BUILT, Model
from rollout.documents.names import FileName, Guid, Name, Variable
from rollout.documents.text import Document, read
from rollout.documents.units import Duration, between, show
from rollout.errors import Mistake, PolicyError, SettingsError

PREFIX = "ROLLOUT_"
Severity = Literal["notice", "action", "page"]

#: Fields and values of later versions, and what to do until then.
LATER: Mapping[str, str] = {
    "workspaces.*.metrics=per_resource": "metrics of single endpoints; write batch, or none",
}

_GUID = "11111111-2222-3333-4444-555555555555"
_SECONDS = timedelta(seconds=1)
_Poll = Annotated[Duration, AfterValidator(between(5 * _SECONDS, 600 * _SECONDS))]
_Lag = Annotated[Duration, AfterValidator(between(0 * _SECONDS, 3600 * _SECONDS))]


class Cloud(Model):
    """Which Azure: one of Microsoft's, or a sandbox by the path of its `sandbox.json`."""

    name: Literal["AzureCloud", "AzureChinaCloud", "AzureUSGovernment", "sandbox"] = "AzureCloud"
    sandbox: FileName | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        return {"name": "sandbox", **value} if isinstance(value, dict) and "sandbox" in value else value

    @model_validator(mode="after")
    def _has_its_file(self) -> Self:
        if (self.name == "sandbox") != (self.sandbox is not None):
            raise ValueError("a sandbox is named by its file: write `cloud: {sandbox: .rollout/sandbox/sandbox.json}`")
        return self


class Credential(Model):
    """Who the daemon is, as azure-identity knows it."""

    type: Literal["default", "managed_identity", "workload_identity", "client_secret", "certificate"] = "default"
    tenant_id: Guid | None = None
    client_id: Guid | None = None
    secret_env: Variable | None = None
    secret_file: FileName | None = None
    certificate_file: FileName | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"type": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        needed = {"client_secret": "tenant_id client_id", "certificate": "tenant_id client_id certificate_file"}
        missing = [name for name in needed.get(self.type, "").split() if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.type} needs {' and '.join(missing)}: write them below `credential:`")
        secrets = (self.secret_env is not None) + (self.secret_file is not None)
        if self.type == "client_secret" and secrets != 1:
            raise ValueError("client_secret needs its secret from one place: write `secret_env` or `secret_file`")
        if self.type != "client_secret" and secrets:
            raise ValueError(f"{self.type} uses no secret: take `secret_env` and `secret_file` out")
        return self


def _azure_name(value: str) -> str:
    if not re.fullmatch(r"[\w.()-]{1,90}", value):
        raise ValueError(f"{show(value)} is not a name in Azure: write letters, digits, dashes, dots and underscores")
    return value


def _region(value: str) -> str:
    name = value.replace(" ", "").lower()  # "West Europe", as the portal shows it
    if not re.fullmatch(r"[a-z][a-z0-9]{1,40}", name):
        raise ValueError(f"{show(value)} is not a region: write one such as westeurope")
    return name


class Workspace(Model):
    """An Azure ML workspace, and the Log Analytics workspace that its endpoints log to, if they do."""

    subscription_id: Guid = Field(examples=[_GUID])
    resource_group: Annotated[str, AfterValidator(_azure_name)] = Field(examples=["rg-food"])
    workspace_name: Annotated[str, AfterValidator(_azure_name)] = Field(examples=["mlw-food"])
    region: Annotated[str, AfterValidator(_region)] = Field(examples=["westeurope"])
    log_workspace: Guid | None = Field(default=None, examples=[_GUID])  # the customer id; None: only metrics are read
    metrics: Literal["batch", "none"] = "batch"


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not re.fullmatch(r"\d{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{show(value)} is not an address to listen on: write 127.0.0.1:8123")
    if not _is_loopback(host.strip("[]")):
        raise ValueError(
            f"not yet: {show(value)} can be reached from outside; write an address of this machine, 127.0.0.1:{port}"
        )
    return value


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Api(Model):
    """Where the commands reach the daemon."""

    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8123"
    token_file: FileName = ".rollout/api-token"  # noqa: S105 - the name of a file

    @property
    def host(self) -> str:
        """The address to bind."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port to bind; 0 takes a free one."""
        return int(self.listen.rpartition(":")[2])


def _webhook(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not the address of a web hook: write https://…")
    if parts.username or parts.password or parts.query or _holds_a_secret(parts.hostname, parts.path):
        raise ValueError("this address holds a secret: put all of it in an environment variable, named with `url_env`")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("would be sent unencrypted: write https://…")
    return value


def _holds_a_secret(host: str, path: str) -> bool:
    """Addresses that anybody who knows them may post to."""
    keyed = ("hooks.slack.com", "webhook.office.com", "logic.azure.com", "powerplatform.com", "discord.com")
    if any(host == name or host.endswith(f".{name}") for name in keyed):
        return True
    return any(len(part) >= 20 and re.search(r"\d", part) and re.search(r"[A-Za-z]", part) for part in path.split("/"))


def _some(value: tuple[Severity, ...]) -> tuple[Severity, ...]:
    if not value:
        raise ValueError("names no severity, so nothing would ever be sent: write [action, page], or take the line out")
    return value


class Channel(Model):
    """Whom an alert reaches: an Apprise address, or our own signed web hook."""

    url_env: Variable | None = None
    url_file: FileName | None = None
    template: FileName | None = None
    webhook: Annotated[str, AfterValidator(_webhook)] | None = None
    secret_env: Variable | None = None
    secret_file: FileName | None = None
    severity: Annotated[tuple[Severity, ...], AfterValidator(_some)] = ("notice", "action", "page")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name in ("url_env", "url_file", "webhook") if getattr(self, name) is not None]
        secrets = [name for name in ("secret_env", "secret_file") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError("has no single way out: write one of `url_env`, `url_file` and `webhook`")
        if self.webhook is not None and len(secrets) != 1:
            raise ValueError("a web hook is signed: write one of `secret_env` and `secret_file`")
        if self.webhook is None and secrets:
            raise ValueError(f"only a web hook is signed: take `{secrets[0]}` out")
        if self.webhook is not None and self.template is not None:
            raise ValueError("a web hook has a form of its own: take `template` out")
        return self


class Polling(Model):
    """How often Azure is asked; `lag` None learns how late the logs are."""

    endpoints: _Poll = 15 * _SECONDS
    logs: _Poll = 60 * _SECONDS
    metrics: _Poll = 30 * _SECONDS
    lag: Annotated[_Lag | None, BeforeValidator(lambda value: None if value == "auto" else value)] = None


def _person(value: str) -> str:
    if not value.strip() or len(value) > 200:
        raise ValueError(f"{show(value)} is nobody: write the name that a person's commands carry, such as anna")
    return value.strip()


Person = Annotated[str, AfterValidator(_person)]


def _store(value: str) -> str:
    if value.startswith(("postgresql:", "postgresql+", "postgres:")):
        raise ValueError("not yet: PostgreSQL; write sqlite:///rollout.db")
    if not re.fullmatch(r"sqlite:///[^?\s]+", value):
        raise ValueError(f"{show(value)} is not a store: write sqlite:///rollout.db")
    return value


class Settings(Model):
    """Everything that a daemon is told."""

    model_config = BUILT

    cloud: Cloud = Cloud.model_construct()
    credential: Credential = Credential.model_construct()
    workspaces: dict[Name, Workspace] = Field(default={}, max_length=100, validate_default=True)
    store: Annotated[str, AfterValidator(_store)] = "sqlite:///rollout.db"
    policies: FileName = "./policies"
    api: Api = Api.model_construct()
    channels: dict[Name, Channel] = Field(default={}, max_length=100)
    groups: dict[Name, tuple[Person, ...]] = Field(
        default={}, max_length=100, description="Who belongs together: approvals name groups"
    )
    polling: Polling = Polling.model_construct()
    defaults: dict[str, Any] = Field(
        default={}, description="Fields of policies that apply where a policy says nothing"
    )

    @field_validator("workspaces")
    @classmethod
    def _reaches_something(cls, value: dict[str, Workspace], info: ValidationInfo) -> dict[str, Workspace]:
        cloud = info.data.get("cloud")
        if not value and cloud is not None and cloud.name != "sandbox":
            raise ValueError("names no workspace: write at least one below it, such as `prod: {subscription_id: …}`")
        return value


def parse_settings(text: str, *, file: str, environ: Mapping[str, str]) -> Settings:
    """The settings that a file's text and the environment mean; the environment wins.

    `file` is how messages name it. Raises SettingsError with every mistake; no value that may be a secret is repeated.
    """
    try:
        document = _overridden(read(text, file=file), environ)
    except PolicyError as error:
        raise SettingsError(mistakes=error.mistakes) from None
    mistakes: list[Mistake] = list(document.mistakes)
    try:
        settings = Settings.model_validate(document.value)
    except ValidationError as error:
        mistakes += collect(error, document, model=Settings, later=LATER)
    if mistakes:
        raise SettingsError(mistakes=in_order(mistakes))
    return settings


def _overridden(document: Document, environ: Mapping[str, str]) -> Document:
    """The document with what the environment says on top; variables that name no field are not ours."""
    if document.value is None:
        document = replace(document, value={})
    if not isinstance(document.value, dict):
        raise SettingsError(
            mistakes=[*document.mistakes, document.mistake((), "settings are made of fields: write `cloud: …`")]
        )
    for name in sorted(environ):
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if not name.startswith(PREFIX) or path[0] not in Settings.model_fields:
            continue
        document = document.with_value(path, _variable_value(environ[name], file=f"{name} (environment)"))
    return document


def _variable_value(text: str, *, file: str) -> Document:
    """What a variable means: YAML, so that lists and numbers can be given, or the text itself (`[::1]:8123`)."""
    try:
        return read(text, file=file)
    except PolicyError:
        return Document(file=file, value=text, values={}, keys={})


def with_sandbox(settings: Settings, sandbox: Mapping[str, object]) -> Settings:
    """The settings with what a sandbox says of itself (the content of its `sandbox.json`).

    Where the settings name no workspace, the sandbox's is called `sandbox`; where they name no credential, it is the
    sandbox's own client. Raises SettingsError if the content is not that of a `sandbox.json`.
    """
    own: dict[str, object] = {}
    try:
        if not settings.workspaces:
            fields = ("subscription_id", "resource_group", "workspace_name", "region", "log_workspace")
            own["workspaces"] = {"sandbox": Workspace.model_validate({name: sandbox[name] for name in fields})}
        if settings.credential.type == "default":
            ids = {name: sandbox[name] for name in ("tenant_id", "client_id")}
            own["credential"] = Credential.model_validate(
                {"type": "client_secret", **ids, "secret_file": sandbox["client_secret_file"]}
            )
    except (KeyError, ValidationError):
        raise SettingsError(f"{settings.cloud.sandbox} is not of this version of the sandbox: start it anew") from None
    return settings.model_copy(update=own)
