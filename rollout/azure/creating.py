"""Candidates that the daemon creates from a policy's file, each in a thread of its own.

The rule: a tick never waits, and an upload may take an hour: so a creation is begun here, and asked after. It is planned from
a fresh read and writes only what differs, so that it may be begun again by whoever does not know how it ended. Nothing is
written to a deployment that has traffic, and nothing is read from this machine for a file that was sent to it.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rollout.azure.az_files import AzFile, read_deployment
from rollout.azure.managing import Manager
from rollout.azure.plans import Action, Plan, mirror_of, split_of
from rollout.azure.waiting import Stage
from rollout.errors import ConflictError, PolicyError, RefusedError, RolloutError, UnavailableError
from rollout.policy import Manifest
from rollout.ports import Ended

#: How the address of a creation begins: no operation of Azure's does.
PREFIX = "creation:"
#: Creations at once in one workspace, and how many that have ended are remembered.
AT_ONCE, REMEMBERED = 4, 50
#: A deployment that was only scaled since is as its file says.
_NO_DIFFERENCE = frozenset({"instance_count"})


@dataclass(eq=False, kw_only=True)
class _Creation:
    """One of them; `doing` is the last that was heard."""

    endpoint: str
    manifest: Manifest
    doing: str = "reading what it names"
    ended: Ended | None = None

    def told(self, stage: Stage) -> None:
        self.doing = f"{stage.doing[:1].lower()}{stage.doing[1:]}"

    def same(self, endpoint: str, manifest: Manifest) -> bool:
        return (self.endpoint, self.manifest) == (endpoint, manifest)


class Creations:
    """Those of one workspace; safe to use from many threads. `new_id` names each."""

    def __init__(self, manager: Manager, *, new_id: Callable[[], str]) -> None:
        self._manager = manager
        self._new_id = new_id
        self._known: OrderedDict[str, _Creation] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, endpoint: str, manifest: Manifest) -> str:
        """Begin, or go on with the same one; its address. Raises ConflictError where too many are under way."""
        with self._lock:
            running = {address: each for address, each in self._known.items() if each.ended is None}
            for address, each in running.items():
                if each.same(endpoint, manifest):
                    return address
            if len(running) >= AT_ONCE:
                raise ConflictError(f"{len(running)} deployments are being created already")
            address, creation = f"{PREFIX}{self._new_id()}", _Creation(endpoint=endpoint, manifest=manifest)
            self._known[address] = creation
            while len(self._known) > REMEMBERED:
                self._known.pop(next(address for address, each in self._known.items() if each.ended is not None))
        threading.Thread(target=self._run, args=(creation,), name=f"create {manifest.name}", daemon=True).start()
        return address

    def ended(self, address: str) -> Ended | None:
        """How it ended; None while it runs. One that this process has not begun is not known."""
        with self._lock:
            creation = self._known.get(address)
        return Ended(why=None, known=False) if creation is None else creation.ended

    def doing(self, address: str) -> str | None:
        """What it is doing now, in words."""
        with self._lock:
            creation = self._known.get(address)
        return creation.doing if creation else None

    def _run(self, creation: _Creation) -> None:
        try:
            self._make(creation)
        except (UnavailableError, ConflictError):
            creation.ended = Ended(why=None, known=False)  # it is begun again
        except RolloutError as error:
            creation.ended = Ended(why=error.message)
        except Exception as error:  # azure-ai-ml's own: a person reads it, and the rollout goes no further
            creation.ended = Ended(
                why=f"{creation.manifest.path} could not be created: {type(error).__name__}: {error}"
            )
        else:
            creation.ended = Ended(why=None)

    def _make(self, creation: _Creation) -> None:
        manager, endpoint, manifest = self._manager, creation.endpoint, creation.manifest
        file = _file_of(manifest, endpoint)
        self._refuse_traffic(endpoint, manifest.name)
        plan = manager.plan_file(file, told=creation.told)
        if plan.action is Action.UPDATE and _as_written(plan):
            return
        manager.carry_out(
            replace(plan, traffic=None),
            told=creation.told,
            before=lambda: self._refuse_traffic(endpoint, manifest.name),  # an upload may have taken an hour
        )

    def _refuse_traffic(self, endpoint: str, name: str) -> None:
        """Raises RefusedError where the deployment serves."""
        found = self._manager.endpoint(endpoint)
        for what, split in (("the traffic", split_of(found)), ("the mirrored traffic", mirror_of(found))):
            if share := split.share(name):
                raise RefusedError(
                    f"{name} of {endpoint} has {share} % of {what}: a rollout creates its candidate without. Write another "
                    "name into the file, or `candidate: NAME` into the policy"
                )


def _file_of(manifest: Manifest, endpoint: str) -> AzFile:
    """The file as azure-ai-ml reads it. Raises PolicyError, RefusedError."""
    path = Path(manifest.folder or "") / manifest.path
    if manifest.folder is None and manifest.local:
        raise _far(manifest, ", ".join(manifest.local))
    file = read_deployment(path, name=manifest.name, endpoint=endpoint, text=manifest.text)
    if manifest.folder is None and (found := _paths(file.entity)):
        raise _far(manifest, ", ".join(found))
    return file


def _far(manifest: Manifest, what: str) -> PolicyError:
    return PolicyError(
        f"{manifest.path} names files on a disk ({what}), which are read only beside a policy of the daemon's"
    )


def _paths(entity: Any) -> list[str]:
    """What of an entity lies on this machine: a second look, at what azure-ai-ml has understood."""
    code = getattr(entity.code_configuration, "code", None) if entity.code_configuration else None
    named = {"model": entity.model, "environment": entity.environment, "code": code}
    found = []
    for field, value in named.items():
        path = value if isinstance(value, str) else getattr(value, "path", None) or getattr(value, "build", None)
        with suppress(OSError):
            if path is not None and Path(str(path)).exists():
                found.append(field)
    return found


def _as_written(plan: Plan) -> bool:
    return bool(plan.changes) and all(change.field in _NO_DIFFERENCE for change in plan.changes)
