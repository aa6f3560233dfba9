"""The long-running operations of the sandbox: begun, then looked at, over when they are due and their server answers.

The rule: an operation's end is decided by the clock and by its server's report, never by how often it is asked for.
"""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from rollout.sandbox import rules
from rollout.sandbox.keys import random_id, signature
from rollout.sandbox.resources import (
    DeploymentSpec,
    EndpointSpec,
    Operation,
    Seconds,
    Status,
    Trouble,
    Work,
)

KEPT = 2_000  # the status of so many operations can be asked for


class Operations:
    """All operations, running and ended."""

    def __init__(self, *, chance: random.Random, hosted: bool) -> None:
        """`hosted`: a new model process must report before its operation ends."""
        self._chance = chance
        self._hosted = hosted
        self._kept: dict[str, Operation] = {}
        self._running: dict[str, None] = {}
        self._generations = 0

    def one(self, operation: str) -> Operation:
        """One operation, running or ended. Raises Refusal 404."""
        if operation not in self._kept:
            raise rules.not_found(f"Operation {operation}")
        return self._kept[operation]

    def running(self, operation: str | None) -> Operation | None:
        """The operation, if it runs."""
        return self._kept[operation] if operation is not None and operation in self._running else None

    def begin(
        self,
        work: Work,
        target: tuple[str, str | None],
        span: Seconds,
        *,
        now: datetime,
        wish: EndpointSpec | DeploymentSpec | None = None,
        new_server: bool = False,
        trouble: Trouble | None = None,
    ) -> Operation:
        """Begin an operation on `target` (endpoint, deployment or None) that takes a time drawn from `span`.

        `trouble`: it is known already that it will fail, with these words.
        """
        self._generations += new_server
        operation = Operation(
            id=random_id(self._chance),
            work=work,
            endpoint=target[0],
            deployment=target[1],
            started=now,
            due=now + timedelta(seconds=self._chance.uniform(*span)),
            wish=wish,
            generation=self._generations if new_server else None,
            ready=not (new_server and self._hosted) or trouble is not None,
            trouble=trouble,
            signature=signature(self._chance, now=now),
        )
        self._kept[operation.id] = operation
        self._running[operation.id] = None
        forget_oldest(self._kept, KEPT, keep=self._running)
        return operation

    def report(self, target: tuple[str, str], generation: int, *, now: datetime, trouble: Trouble | None) -> None:
        """The server of this generation answers, or cannot start: its operation may end once its time is up."""
        for operation in self._all_running():
            mine = operation.generation == generation and not operation.ready
            if mine and _same(target, operation):
                due = max(operation.due, now)
                self._kept[operation.id] = replace(operation, ready=True, due=due, trouble=trouble)

    def hurry(self, *, now: datetime) -> None:
        """Every running operation is due now."""
        for operation in self._all_running():
            self._kept[operation.id] = replace(operation, due=min(operation.due, now))

    def end_due(self, *, now: datetime) -> list[Operation]:
        """End what is due, in the order of their ends; the ended operations are returned."""
        if not self._running:
            return []
        over = [each for each in self._all_running() if each.ready and each.due <= now]
        ended = []
        for operation in sorted(over, key=lambda each: each.due):
            del self._running[operation.id]
            status = Status.SUCCEEDED if operation.trouble is None else Status.FAILED
            self._kept[operation.id] = replace(operation, status=status, ended=operation.due)
            ended.append(self._kept[operation.id])
        return ended

    def _all_running(self) -> list[Operation]:
        return [self._kept[each] for each in self._running]


def _same(target: tuple[str, str], operation: Operation) -> bool:
    endpoint, deployment = target
    named = (operation.endpoint.casefold(), (operation.deployment or "").casefold())
    return named == (endpoint.casefold(), deployment.casefold())


def forget_oldest(kept: dict[str, Any], limit: int, *, keep: Mapping[str, None] | None = None) -> None:
    """Keep a mapping bounded by dropping its oldest entries, but none in `keep`."""
    for key in list(kept)[: max(0, len(kept) - limit)]:
        if keep is None or key not in keep:
            del kept[key]
