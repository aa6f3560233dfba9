"""Talks to a running sandbox by its `sandbox.json`: for `rollout sandbox status | inject | faults`.

The rule: light to import (nothing but the standard library), and no stack traces: a sandbox that does not answer and one that
refuses are told apart, each with what to do.
"""

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from rollout.errors import RefusedError, SettingsError, UnavailableError

STATE = Path(".rollout/sandbox")
TIMEOUT_SECONDS = 10.0
FIELDS = ("address", "ca_file", "epoch", "speed", "client_id", "client_secret_file", "workspace_name", "pid")


def read_values(state: Path = STATE) -> dict[str, Any]:
    """What the sandbox that keeps its state in this folder says of itself. Raises UnavailableError, SettingsError."""
    file = state / "sandbox.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnavailableError(
            f"No sandbox runs with its state in {state}: start one with `rollout sandbox`, or name another --state."
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file} cannot be read ({error}): end the sandbox and start it anew.") from None
    if not isinstance(values, dict) or (missing := [name for name in FIELDS if name not in values]):
        what = ", ".join(missing) if isinstance(values, dict) else "everything"
        raise SettingsError(f"{file} lacks {what}: it is not of this version of the sandbox. Start it anew.")
    return values


def ask(values: Mapping[str, Any], method: str, path: str, body: object = None) -> Any:
    """One request to the sandbox's own address; its JSON is returned. Raises UnavailableError, RefusedError."""
    address = values["address"]
    data = None if body is None else json.dumps(body).encode()
    request = Request(  # noqa: S310 (the address is https: the sandbox wrote it)
        f"{address}/sandbox/{path}", data=data, method=method, headers={"Content-Type": "application/json"}
    )
    try:
        context = ssl.create_default_context(cafile=values["ca_file"])
        opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise RefusedError(_said(error)) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(
            f"No sandbox answers at {address} ({reason}): start it anew with `rollout sandbox`."
        ) from None


def _said(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"The sandbox answered {error.code} {error.reason}."
