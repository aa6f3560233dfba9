"""azure-ai-ml, imported late, kept quiet and kept to itself.

The rule: a daemon's output and environment are its own. What the SDK has to say goes into the standard logging tree, from
WARNING up (by itself it prints to stderr; progress dots on stdout come only from pollers, which we never use). What it
writes into the environment, its cloud's name, is taken back: a child process that inherits the name of a sandbox could not
even import the SDK. What it would read from there is hidden: the settings say which cloud is meant.
"""

import importlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rollout.azure.cloud import Cloud
from rollout.settings import Workspace

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_NAME = "azure.ai.ml"
#: Variables by which the SDK would choose a cloud, or another address, by itself.
_uploading = Lock()  # one at a time: the environment is everybody's
_VARIABLES = ("AZUREML_CURRENT_CLOUD", "ARM_CLOUD_METADATA_URL", "AZUREML_DEV_URL_MFE")


def import_azure_ml() -> ModuleType:
    """The module `azure.ai.ml`: four seconds the first time."""
    with _environment_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own classes, against the marshmallow it asks for
        module = importlib.import_module(_NAME)
    _hush()
    return module


def ml_client(cloud: Cloud, identity: "TokenCredential", workspace: Workspace, *, show_progress: bool = False) -> Any:
    """An `MLClient` of this workspace; no request is made yet.

    Uploads need `show_progress`: without it azure-ai-ml waits for ever for a part that failed.
    """
    module = import_azure_ml()
    with _environment_kept():
        client = module.MLClient(
            identity,
            workspace.subscription_id,
            workspace.resource_group,
            workspace.workspace_name,
            enable_telemetry=False,
            show_progress=show_progress,
            **cloud.options(cloud=cloud.name, **_metadata(cloud)),
        )
    _hush()
    return client


def registry_client(cloud: Cloud, identity: "TokenCredential", workspace: Workspace, registry: str) -> Any:
    """An `MLClient` of a registry; one request is made: where it is."""
    module = import_azure_ml()
    with _environment_kept():
        client = module.MLClient(
            identity,
            workspace.subscription_id,
            workspace.resource_group,
            registry_name=registry,
            enable_telemetry=False,
            show_progress=False,
            **cloud.options(cloud=cloud.name, **_metadata(cloud)),
        )
    _hush()
    return client


@contextmanager
def upload_environment(cloud: Cloud) -> Iterator[None]:
    """What azure-ai-ml and Azure Storage read from the environment while they upload, for its span.

    The cloud's name leads to the domain of its storage; a sandbox's certificate reaches the client of the blob store in
    no other way, and a proxy would not find it.
    """
    wanted = {"AZUREML_CURRENT_CLOUD": cloud.name}
    if cloud.ca_file is not None:
        wanted |= {"REQUESTS_CA_BUNDLE": cloud.ca_file, "NO_PROXY": "127.0.0.1,localhost"}
    with _uploading:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            _restore(before)


def _metadata(cloud: Cloud) -> dict[str, Any]:
    """What azure-ai-ml must be told about a cloud that it does not know; it wants all of it and we use three."""
    if not cloud.is_sandbox:
        return {}
    unused = ("azure_portal", "aml_resource_id")
    return {
        "cloud_metadata": {
            **dict.fromkeys(unused, f"{cloud.resource_manager}/"),
            "resource_manager": f"{cloud.resource_manager}/",
            "active_directory": f"{cloud.authority}/",
            "registry_discovery_endpoint": cloud.resource_manager,
            "storage_endpoint": "core.windows.net",
        }
    }


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Hide the SDK's variables from it, and put them back as they were."""
    before = {name: os.environ.pop(name, None) for name in _VARIABLES}
    try:
        yield
    finally:
        _restore(before)


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _hush() -> None:
    """Take away the stderr handlers that azure-ai-ml gives its loggers, and the SDKs' line per request."""
    azure = logging.getLogger("azure")
    if azure.level == logging.NOTSET:
        azure.setLevel(logging.WARNING)
    for name in list(logging.root.manager.loggerDict):
        if name == _NAME or name.startswith(f"{_NAME}."):
            logger = logging.getLogger(name)
            logger.handlers = [handler for handler in logger.handlers if type(handler) is not logging.StreamHandler]
            logger.propagate = True
            if logger.level != logging.NOTSET:  # setting it empties the caches of all loggers
                logger.setLevel(logging.NOTSET)
