"""Waiting for Azure's long-running operations, where a person waits too.

The rule: looked at, never polled by the SDK: what runs is told after every look, a look that fails is no end, and what
cannot be known any more from the operation's own address is read from the resource. Seconds here are real ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from azure.core.exceptions import AzureError, HttpResponseError

from rollout.azure.arm import WorkspaceResources
from rollout.azure.remedies import why_failed
from rollout.errors import RefusedError, UnavailableError

TERMINAL = frozenset({"Succeeded", "Failed", "Canceled"})
LONGEST = 3_600.0  # seconds: Azure itself gives an operation half an hour
MAX_FAILED_LOOKS = 30  # in a row
_GONE = frozenset({403, 404})


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How far something is: what is done in words, and Azure's own percentage where it gives one."""

    doing: str
    percent: int | None = None


Told = Callable[[Stage], None]


class Waiting:
    """Waits for the operations of one workspace. `pause` waits so many seconds; `monotonic` gives seconds."""

    def __init__(
        self,
        resources: WorkspaceResources,
        *,
        monotonic: Callable[[], float],
        pause: Callable[[float], object],
        every: float,
    ) -> None:
        self._resources = resources
        self._monotonic = monotonic
        self._pause = pause
        self._every = every

    def ended(
        self, address: str | None, *, doing: str, failing: str, state: Callable[[], str | None], told: Told
    ) -> None:
        """Until the operation at this address has succeeded; `state` reads the resource's own, None where it is gone.

        `doing` is told ("Creating deployment blue"), `failing` completes "Cannot …". Raises RefusedError with Azure's
        reason, UnavailableError where the end is not known after an hour.
        """
        if address is not None and self._operation(address, doing=doing, failing=failing, told=told):
            return
        if (last := self.settled(state, doing=doing, told=told)) in {"Failed", "Canceled"}:
            raise RefusedError(f"Cannot {failing}: Azure says {last}, and no longer why.")

    def settled(self, state: Callable[[], str | None], *, doing: str, told: Told) -> str | None:
        """The resource's state when nothing runs on it any more; None where it is gone."""
        found: list[str | None] = []

        def look() -> bool:
            found.append(state())
            told(Stage(doing=doing))
            return found[-1] is None or found[-1] in TERMINAL

        self.until(look, doing=doing)
        return found[-1]

    def rest(self) -> None:
        """The time between two looks."""
        self._pause(self._every)

    def until(self, look: Callable[[], bool], *, doing: str, longest: float = LONGEST) -> None:
        """Until `look` says so. Raises UnavailableError where Azure cannot be asked, or takes too long."""
        deadline, failed = self._monotonic() + longest, 0
        while True:
            try:
                if look():
                    return
                failed = 0
            except (AzureError, UnavailableError, ValueError, AttributeError) as error:
                failed += 1
                if failed >= MAX_FAILED_LOOKS:
                    raise UnavailableError(
                        f"{doing}: Azure does not say how far it is ({error}). Run the command again."
                    ) from error
            if self._monotonic() >= deadline:
                raise UnavailableError(
                    f"{doing} has not ended after {longest / 60:.0f} minutes. Run the command again."
                )
            self.rest()

    def _operation(self, address: str, *, doing: str, failing: str, told: Told) -> bool:
        """Whether it was seen to succeed; False where its address answers no more. Raises RefusedError."""
        seen: list[dict[str, Any]] = []

        def look() -> bool:
            try:
                seen.append(self._resources.operation(address))
            except HttpResponseError as error:
                if error.status_code in _GONE:
                    seen.append({"status": "gone"})
                    return True
                raise
            percent = seen[-1].get("percentComplete")
            told(Stage(doing=doing, percent=round(percent) if isinstance(percent, int | float) else None))
            return seen[-1].get("status") in TERMINAL

        self.until(look, doing=doing)
        last = seen[-1]
        if last.get("status") in {"Failed", "Canceled"}:
            raise why_failed(last, doing=failing)
        return last.get("status") == "Succeeded"
