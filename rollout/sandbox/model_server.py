"""The process of one deployment: imports its scoring script, calls `init()` once and `run(raw)` for each request.

    python -m rollout.sandbox.model_server FD SCRIPT

The rule: it behaves as Azure's inference server does. `run()` gets the body as text; what it returns is sent as JSON
with status 200, or as it says itself (`AMLResponse`); an exception or an answer that is no JSON is a 500 with one
sentence, and the traceback goes to the console. `sys.exit()` ends the process. It ends when the sandbox does.
"""

import importlib.util
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from time import perf_counter
from types import ModuleType
from typing import Any

from rollout.sandbox.channel import HELLO, INIT_FAILED, READY, REQUEST, Reply

MAX_THREADS = 64  # how many run at a time is decided by the router, from the deployment's settings
FAILED = b"An unexpected error occurred in scoring script. Check the logs for more info."
_SHIMS = ("azureml.contrib.services.aml_response", "azureml_inference_server_http.api.aml_response")


class AMLResponse:
    """What a script returns to set its own status or headers (the class of that name in Azure's inference server)."""

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: dict[str, str] | None = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        as_json = json_str or message is None
        text = json.dumps({} if message is None else message) if as_json else message
        self.status_code = status_code
        self.response = text if isinstance(text, bytes) else str(text).encode()
        self.headers = {"Content-Type": "application/json" if as_json else "text/html; charset=utf-8"}
        self.headers.update(response_headers or {})
        self.run_function_failed = run_function_failed


class Host:
    """The loaded script, and the socket to the router."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = Lock()
        self._run: Callable[[str], Any] = _unloaded

    def load(self, script: Path) -> bool:
        """Import the script and call `init()`; tell the router how it went."""
        try:
            module = _imported(script)
            self._run = module.run
            module.init()
        except BaseException as error:
            traceback.print_exc()
            reason = f"{script.name}: init() failed with {type(error).__name__}: {error}."
            self._send(Reply(id=HELLO, status=INIT_FAILED, body=reason.encode()))
            return False
        self._send(Reply(id=HELLO, status=READY))
        return True

    def serve(self) -> None:
        """Answer requests until the router closes its end."""
        with self._connection.makefile("rb") as stream, ThreadPoolExecutor(MAX_THREADS) as pool:
            while len(header := stream.read(REQUEST.size)) == REQUEST.size:
                number, length = REQUEST.unpack(header)
                pool.submit(self._answer, number, stream.read(length))
            os._exit(0)  # the router is gone: requests that still run have nobody to answer

    def _answer(self, number: int, body: bytes) -> None:
        started = perf_counter()
        try:
            result = self._run(body.decode())
            reply = _reply(number, result, run_ms=(perf_counter() - started) * 1000)
        except Exception:
            traceback.print_exc()
            run_ms = (perf_counter() - started) * 1000
            reply = Reply(id=number, status=500, run_ms=run_ms, failed=True, content_type="text/plain", body=FAILED)
        except BaseException as error:  # sys.exit() and the like end an Azure worker, too
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        with self._sending:
            self._connection.sendall(reply.frame())


def _unloaded(_: str) -> Any:
    raise RuntimeError("the scoring script is not loaded")


def _imported(script: Path) -> ModuleType:
    """The scoring script as a module; its folder is where it imports from."""
    sys.path.insert(0, str(script.parent))
    spec = importlib.util.spec_from_file_location("score", script)
    if spec is None or spec.loader is None:
        raise ImportError(f"{script} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["score"] = module
    spec.loader.exec_module(module)
    return module


def _reply(number: int, result: Any, *, run_ms: float) -> Reply:
    """The reply to what `run()` returned. Raises TypeError or ValueError where it is no JSON."""
    if not hasattr(result, "status_code"):
        return Reply(id=number, status=200, run_ms=run_ms, body=json.dumps(result).encode())
    body = result.get_data() if hasattr(result, "get_data") else getattr(result, "response", None)
    if body is None:
        body = getattr(result, "body", b"")
    return Reply(
        id=number,
        status=int(result.status_code),
        run_ms=run_ms,
        failed=bool(getattr(result, "run_function_failed", False)),
        content_type=dict(getattr(result, "headers", {})).get("Content-Type", "application/json"),
        body=body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode(),
    )


def _offer_shims() -> None:
    """Let scripts import AMLResponse from where Azure's images have it, if it is not really there."""
    for path in _SHIMS:
        try:
            known = importlib.util.find_spec(path) is not None
        except ModuleNotFoundError:
            known = False
        if known:
            continue
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        sys.modules[path].AMLResponse = AMLResponse  # type: ignore[attr-defined]


def main(arguments: list[str]) -> int:
    """Serve one script over the inherited socket until the sandbox ends."""
    descriptor, script = arguments
    host = Host(socket.socket(fileno=int(descriptor)))
    _offer_shims()
    if not host.load(Path(script)):
        return 3
    host.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
