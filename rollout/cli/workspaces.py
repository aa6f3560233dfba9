"""The commands' own way to Azure: which workspace, and who asks.

The rule: these commands do not need the daemon. The settings name the workspace; the identity is that of whoever runs the
command (azure-identity's DefaultAzureCredential: `az login`, environment, managed identity), never the daemon's. Against a
sandbox it is the sandbox's own client.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollout.clock import WallClock
from rollout.errors import PolicyError, SettingsError
from rollout.settings import Credential, Settings, Workspace, parse_settings, with_sandbox

if TYPE_CHECKING:
    from rollout.azure.personal import Personal

DEFAULT_CONFIG = "rollout.yaml"
LOOK_EVERY = 5.0  # seconds between two looks at an operation of Azure's
LOOK_SOONEST = 0.1
#: Not fields of the settings: they tell the commands where a daemon answers, and who asks.
NOT_SETTINGS = frozenset({"ROLLOUT_API", "ROLLOUT_USER"})


@contextmanager
def azure_of(config: Path | None, name: str | None) -> Iterator["Personal"]:
    """A connection to the workspace that the settings call `name` (or their only one). Raises RolloutError."""
    file = config or Path(os.environ.get("ROLLOUT_CONFIG") or DEFAULT_CONFIG)
    settings, sandbox = settings_of(file)
    workspace = _workspace(settings, name, file)
    from rollout.azure.cloud import cloud_of
    from rollout.azure.personal import personal

    logging.getLogger("azure").setLevel(logging.CRITICAL)  # what goes wrong is told in our words

    speed = float(sandbox.get("speed", 1.0)) if sandbox else 1.0
    with personal(
        cloud=cloud_of(settings.cloud, sandbox),
        credential=settings.credential if sandbox else Credential(type="default"),
        secret=secret_of(settings, file) if sandbox else None,
        workspace=workspace,
        clock=WallClock(),
        pause=threading.Event().wait,
        every=max(LOOK_SOONEST, LOOK_EVERY / speed),
    ) as found:
        yield found


def settings_of(file: Path) -> tuple[Settings, Mapping[str, Any] | None]:
    """The settings of a file, and what the sandbox that they name says of itself. Raises SettingsError."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"No settings at {file}: name them with --config FILE or ROLLOUT_CONFIG.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings {file} cannot be read: {error}.") from None
    environ = {key: value for key, value in os.environ.items() if key not in NOT_SETTINGS}
    settings = parse_settings(text, file=str(file), environ=environ)
    if settings.cloud.sandbox is None:
        return settings, None
    told = sandbox_told(file.resolve().parent / settings.cloud.sandbox)
    return with_sandbox(settings, told), told


def sandbox_told(file: Path) -> Mapping[str, Any]:
    """What a sandbox wrote about itself. Raises SettingsError."""
    try:
        told: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"No sandbox has written {file}: start one with `rollout sandbox`.") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{file} is not what a sandbox writes ({error}): start the sandbox anew.") from None
    return told


def _workspace(settings: Settings, name: str | None, file: Path) -> Workspace:
    known = settings.workspaces
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name is None:
        raise PolicyError(f"Which workspace? {file} names {', '.join(known)}: choose one with -w.")
    if name not in known:
        raise PolicyError(f"{file} names no workspace {name}: it has {', '.join(known)}.")
    return known[name]


def secret_of(settings: Settings, file: Path) -> str | None:
    """The sandbox's client secret. Raises SettingsError."""
    credential = settings.credential
    if credential.secret_env is not None:
        return os.environ.get(credential.secret_env, "").strip()
    if credential.secret_file is None:
        return None
    try:
        return (file.resolve().parent / credential.secret_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(
            f"The sandbox's secret cannot be read ({error.strerror}): start the sandbox anew."
        ) from None
