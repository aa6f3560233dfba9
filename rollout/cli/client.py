"""The commands' way to the daemon: find it, ask it, and say plainly when it does not answer.

The rule: the daemon is the only one who touches the store and Azure. This module needs nothing beyond the standard
library, so that `rollout status` starts in a blink; every failure leaves as an error of `rollout.errors`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from rollout.errors import ConflictError, PolicyError, RefusedError, RolloutError, SettingsError, UnavailableError

TIMEOUT = 15.0  # seconds for one answer: the API never waits for Azure
MAX_ANSWER = 256 * 1024 * 1024  # bytes: the export of a rollout of days is the largest answer
DEFAULT_CONFIG = "rollout.yaml"
DEFAULT_LISTEN = "127.0.0.1:8123"
DEFAULT_TOKEN_FILE = ".rollout/api-token"  # noqa: S105 - a path
#: Beside the token file: where the daemon really listens (its port may be 0 in the settings).
ADDRESS_FILE = "daemon.json"

_ERRORS: Mapping[int, type[RolloutError]] = {409: ConflictError, 422: PolicyError, 503: UnavailableError}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the daemon answers and which file holds its token; with `address_file`, the daemon tells its address there."""

    address: str
    token_file: Path
    address_file: Path | None = None

    def now(self) -> "Target":
        """With the address of this moment: a daemon that chose its port has another one after a restart."""
        return self if self.address_file is None else replace(self, address=_told(self.address_file))


def find_daemon(config: Path | None, environ: Mapping[str, str] = os.environ) -> Target:
    """From ROLLOUT_API and ROLLOUT_TOKEN_FILE, else from the settings (--config, ROLLOUT_CONFIG, ./rollout.yaml)."""
    if environ.get("ROLLOUT_API") and config is None:
        token_file = environ.get("ROLLOUT_TOKEN_FILE", DEFAULT_TOKEN_FILE)
        return Target(address=_checked(environ["ROLLOUT_API"]), token_file=Path(token_file))
    path = config or Path(environ.get("ROLLOUT_CONFIG") or DEFAULT_CONFIG)
    if not path.is_file():
        raise SettingsError(
            f"No settings at {path}: name them with --config FILE or ROLLOUT_CONFIG, "
            "or name the daemon with ROLLOUT_API and ROLLOUT_TOKEN_FILE."
        )
    return _from_settings(path, environ)


def _from_settings(path: Path, environ: Mapping[str, str]) -> Target:
    """Reads only what is needed to call: mistakes in the rest of the settings are the daemon's to tell."""
    import yaml

    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    api = found.get("api") if isinstance(found, dict) else None
    api = api if isinstance(api, dict) else {}
    listen = environ.get("ROLLOUT_API__LISTEN") or str(api.get("listen") or DEFAULT_LISTEN)
    token = environ.get("ROLLOUT_API__TOKEN_FILE") or str(api.get("token_file") or DEFAULT_TOKEN_FILE)
    token_file = path.parent / token
    if listen.endswith(":0"):
        file = token_file.parent / ADDRESS_FILE
        return Target(address=_told(file), token_file=token_file, address_file=file)
    return Target(address=f"http://{listen}", token_file=token_file)


def _told(file: Path) -> str:
    try:
        return _checked(str(json.loads(file.read_text(encoding="utf-8"))["address"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise UnavailableError(f"No daemon has left its address in {file}. {_how_to_start()}") from None


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme != "http" or not parts.hostname:
        raise SettingsError(f"ROLLOUT_API is {address!r}: write it as http://127.0.0.1:8123.")
    return address.rstrip("/")


def _how_to_start() -> str:
    return "Start one with: rollout daemon --config rollout.yaml"


class Client:
    """One daemon. Every method raises an error of `rollout.errors` with the daemon's own sentence."""

    def __init__(self, target: Target, *, timeout: float = TIMEOUT) -> None:
        self._target = target
        self._timeout = timeout  # seconds for one answer

    def get(self, path: str, **query: object) -> Any:
        """The JSON answer of a read; queries that are None are left out."""
        wanted = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", f"{path}?{urlencode(wanted)}" if wanted else path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """The JSON answer of a write."""
        return self._call("POST", path, {name: value for name, value in body.items() if value is not None})

    def _call(self, method: str, path: str, body: Mapping[str, object] | None) -> Any:
        import http.client  # 20 ms that `lint` and `--help` do without

        target = self._target.now()
        address = urlsplit(target.address)
        connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=self._timeout)
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        payload = None if body is None else json.dumps(body).encode()
        if payload is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, f"{address.path}{path}", body=payload, headers=headers)
            answer = connection.getresponse()
            return _understood(answer.status, answer.read(MAX_ANSWER), target)
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(self._silence(target, error)) from None
        finally:
            connection.close()

    def _token(self) -> str:
        try:
            return self._target.token_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            message = f"No daemon has left its token in {self._target.token_file}. {_how_to_start()}"
            raise UnavailableError(message) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a token"
            message = f"The daemon's token in {self._target.token_file} cannot be read: {reason}."
            raise SettingsError(f"{message} Run this command as the daemon's user.") from None

    def _silence(self, target: Target, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"The daemon at {target.address} did not answer within {self._timeout:.0f} s."
        if isinstance(error, ConnectionRefusedError):
            return f"No daemon answers at {target.address}. {_how_to_start()}"
        return f"No daemon answers at {target.address} ({type(error).__name__}: {error}). {_how_to_start()}"


def rollout_path(endpoint: str, *more: str) -> str:
    """The address of an endpoint's rollout, and of what hangs below it."""
    return "/".join(["/v1/rollouts", quote(endpoint, safe=""), *more])


def _understood(status: int, payload: bytes, target: Target) -> Any:
    try:
        found = json.loads(payload) if payload else {}
    except ValueError:
        message = f"What answers at {target.address} is not Rollout: status {status}, not JSON."
        raise UnavailableError(message) from None
    if status < 300:
        return found
    if status == 401:
        raise SettingsError(
            f"The daemon at {target.address} does not accept the token in {target.token_file}: "
            "it belongs to another daemon, or the file is old."
        )
    detail = found.get("detail") if isinstance(found, dict) else None
    error = _ERRORS.get(status, RefusedError if status < 500 else UnavailableError)
    raise error(str(detail or f"The daemon answered with status {status}."))
