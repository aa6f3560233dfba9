"""A running sandbox for tests: the real server over HTTPS, in a thread with its own event loop.

The rule: tests talk to it as any client does; `call` is for looking at the model behind it, on its own thread.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rollout.sandbox.cloud import Cloud
from rollout.sandbox.resources import Timings
from rollout.sandbox.server import Options, Sandbox, running, without_proxy

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.identity import ClientSecretCredential

T = TypeVar("T")
START_SECONDS = 60
#: What a sandbox and the unmodified MLClient leave in the environment; a child that inherits the latter cannot even start.
WRITTEN = ("NO_PROXY", "AZUREML_CURRENT_CLOUD")
STOP_SECONDS = 20
FAST = 600.0  # speed at which a traffic update takes about 40 ms and a deployment's creation about a second


@dataclass(frozen=True, kw_only=True)
class LocalSandbox:
    """A sandbox that answers: what its `sandbox.json` says, and clients for it."""

    sandbox: Sandbox
    loop: asyncio.AbstractEventLoop

    @property
    def values(self) -> dict[str, Any]:
        """The contents of `sandbox.json`."""
        return self.sandbox.values

    @property
    def file(self) -> Path:
        """`sandbox.json` itself."""
        return self.sandbox.file

    @property
    def address(self) -> str:
        """`https://127.0.0.1:PORT`."""
        return str(self.values["address"])

    @property
    def ca_file(self) -> str:
        """The certificate authority to trust."""
        return str(self.values["ca_file"])

    @property
    def secret(self) -> str:
        """The client secret."""
        return Path(self.values["client_secret_file"]).read_text(encoding="utf-8")

    def call(self, question: Callable[[Cloud], T]) -> T:
        """Ask the model something, on the server's own thread."""

        async def ask() -> T:
            return question(self.sandbox.cloud)

        return asyncio.run_coroutine_threadsafe(ask(), self.loop).result(STOP_SECONDS)

    def credential(
        self, client_id: str | None = None, *, secret: str | None = None, **options: Any
    ) -> "ClientSecretCredential":
        """The service principal's credential; with another `client_id` that of a person."""
        return credential(self.values, client_id, secret=secret, **options)

    def ml_client(self, client_id: str | None = None, **options: Any) -> "MLClient":
        """An unmodified MLClient; `options` as polling_interval, read_timeout, retry_total."""
        return ml_client(self.values, client_id, **options)


def credential(
    values: Mapping[str, Any], client_id: str | None = None, *, secret: str | None = None, **options: Any
) -> "ClientSecretCredential":
    """A credential for the sandbox with this `sandbox.json`: the service principal's, or that of a person."""
    from azure.identity import ClientSecretCredential

    return ClientSecretCredential(
        values["tenant_id"],
        client_id or values["client_id"],
        secret or Path(values["client_secret_file"]).read_text(encoding="utf-8"),
        authority=values["address"],
        disable_instance_discovery=True,
        connection_verify=values["ca_file"],
        **options,
    )


def ml_client(values: Mapping[str, Any], client_id: str | None = None, **options: Any) -> "MLClient":
    """An unmodified MLClient for the sandbox with this `sandbox.json`."""
    from azure.ai.ml import MLClient

    address = values["address"]
    metadata = {
        "azure_portal": address,
        "resource_manager": address,
        "active_directory": address,
        "aml_resource_id": "https://ml.azure.com",
        "storage_endpoint": "core.windows.net",
        "registry_discovery_endpoint": f"{address}/discovery",
    }
    return MLClient(
        credential(values, client_id),
        values["subscription_id"],
        values["resource_group"],
        values["workspace_name"],
        cloud=f"Local-{address.rpartition(':')[2]}",  # unique: the first of a name wins in a process
        cloud_metadata=metadata,
        connection_verify=values["ca_file"],
        enable_telemetry=False,
        **{"polling_interval": 0.05, **options},
    )


@contextmanager
def local_sandbox(
    folder: Path, *, speed: float = FAST, seed: bool = False, timings: Timings | None = None, chance: int = 1
) -> Iterator[LocalSandbox]:
    """A sandbox that runs until the block is left; its state is kept in `folder`."""
    options = Options(state=folder, speed=speed, seed=seed, timings=timings or Timings(), chance=chance)
    before = {name: os.environ.get(name) for name in WRITTEN}
    os.environ["NO_PROXY"] = without_proxy(before["NO_PROXY"] or "")
    thread = _Thread(options)
    try:
        yield thread.started()
    finally:
        thread.stop()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class _Thread:
    """The server's thread: starts it, hands out what runs, ends it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._ready = threading.Event()
        self._local: LocalSandbox | None = None
        self._over: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)

    def started(self) -> LocalSandbox:
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise TimeoutError(f"the sandbox did not start within {START_SECONDS} s")
        if self._local is None:
            raise RuntimeError("the sandbox did not start") from self._error
        return self._local

    def stop(self) -> None:
        if self._local is not None and self._over is not None and self._thread.is_alive():
            self._local.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise TimeoutError(f"the sandbox did not stop within {STOP_SECONDS} s")
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told to the test's thread
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        async with running(self._options) as sandbox:
            self._local = LocalSandbox(sandbox=sandbox, loop=asyncio.get_running_loop())
            self._ready.set()
            await self._over.wait()
