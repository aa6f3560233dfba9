"""Freezes over the API: `POST /v1/freezes` freezes, `POST /v1/freezes/lift` lifts, `GET /v1/freezes` lists.

The rule: a freeze needs a reason, and holds rises only. It is written down, and every rollout that it is about is ticked
at once, so that people are told within seconds.

A freeze: `endpoint workspace` (both null: everything) `reason by at until` (null: until it is lifted) `sentence`.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, Field, model_validator

from rollout.errors import PolicyError, RefusedError
from rollout.ports import Clock, Store
from rollout.web.bodies import Body, Who
from rollout.windows import told
from rollout.world import EndpointRef, Freeze

Json = dict[str, Any]
LONGEST = timedelta(days=400)


class Place(Body):
    """One endpoint, or all."""

    endpoint: Annotated[str | None, Field(min_length=1, max_length=64, description="The endpoint")] = None
    workspace: Annotated[str | None, Field(max_length=200, description="Where the endpoint is")] = None
    all: Annotated[bool, Field(description="Everything that this daemon moves")] = False
    by: Annotated[Who, Field(description="Who asks")]
    origin: Annotated[Who, Field(description="From where")] = "api"

    @model_validator(mode="after")
    def _one_of_both(self) -> "Place":
        if (self.endpoint is None) != self.all:
            raise ValueError("give either `endpoint` or `all`")
        if self.all and self.workspace is not None:
            raise ValueError("`all` is about every workspace: take `workspace` out")
        return self


class FreezeBody(Place):
    """Freeze: until a moment, for some seconds, or until it is lifted."""

    reason: Annotated[str, Field(min_length=1, max_length=500, description="People are told")]
    until: Annotated[AwareDatetime | None, Field(description="When it is over by itself")] = None
    lasts: Annotated[
        float | None, Field(gt=0, le=LONGEST.total_seconds(), description="Seconds after which it is over by itself")
    ] = None


class FreezeBook:
    """Everything that can be asked about freezes; safe to call from many threads."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        wake: Callable[[], None],
        new_id: Callable[[], str],
        workspace: Callable[[str | None], str],
        seen: Callable[[EndpointRef], bool],
    ) -> None:
        self._seen = seen
        self._store = store
        self._clock = clock
        self._wake = wake
        self._new_id = new_id
        self._workspace = workspace

    def freeze(self, body: FreezeBody) -> Freeze:
        """Write it down. Raises PolicyError where it would be over already."""
        now = self._clock.now()
        until = now + timedelta(seconds=body.lasts) if body.lasts else body.until
        until = until and until.astimezone(UTC)
        if until is not None and not now < until < now + LONGEST:
            raise PolicyError(
                f"A freeze until {until:%Y-%m-%d %H:%M} UTC cannot be: it is {now:%Y-%m-%d %H:%M} UTC now."
            )
        reason = body.reason.strip().rstrip(".") or body.reason
        found = Freeze(id=self._new_id(), endpoint=self._place(body), reason=reason, by=body.by, at=now, until=until)
        self._store.freeze(found)
        self._tick(found.endpoint)
        return found

    def warning(self, freeze: Freeze) -> str:
        """A name with a typing mistake would hold nothing."""
        ref = freeze.endpoint
        if ref is None or self._seen(ref) or self._store.latest(ref) is not None:
            return ""
        return f" No endpoint of that name was seen in workspace {ref.workspace} yet: check it."

    def lift(self, body: Place) -> Sequence[Freeze]:
        """Lift what was frozen by this name. Raises RefusedError where nothing was."""
        place, now = self._place(body), self._clock.now()
        lifted = self._store.unfreeze(place, by=body.by, now=now)
        if not lifted:
            raise RefusedError(self._nothing(place, now))
        self._tick(place)
        return lifted

    def listed(self, ref: EndpointRef | None = None) -> Sequence[Freeze]:
        """Those in force, oldest first."""
        return self._store.freezes(now=self._clock.now(), ref=ref)

    def now(self) -> datetime:
        """The daemon's time."""
        return self._clock.now()

    def _place(self, body: Place) -> EndpointRef | None:
        return (
            None
            if body.endpoint is None
            else EndpointRef(workspace=self._workspace(body.workspace), name=body.endpoint)
        )

    def _nothing(self, place: EndpointRef | None, now: datetime) -> str:
        others = self._store.freezes(now=now)
        if place is None or not any(freeze.endpoint is None for freeze in others):
            what = f"{place} is not frozen" if place else "There is no freeze of everything"
            return f"{what}; `rollout freezes` shows what is frozen."
        return f"{place} is not frozen by itself, but everything is: `rollout unfreeze --all` lifts that."

    def _tick(self, place: EndpointRef | None) -> None:
        """The rollouts that it is about are due now."""
        refs = [rollout.ref for rollout in self._store.rollouts(active_only=True, limit=500)]
        name = place.name.casefold() if place else None
        self._store.wake([ref for ref in refs if name in (None, ref.name.casefold())], now=self._clock.now())
        self._wake()


def freeze_view(freeze: Freeze, *, now: datetime) -> Json:
    """A freeze as JSON values."""
    what = f"{freeze.endpoint}" if freeze.endpoint else "Everything"
    until = f"until {told(freeze.until, now)}" if freeze.until else "until it is lifted"
    return {
        "endpoint": freeze.endpoint.name if freeze.endpoint else None,
        "workspace": freeze.endpoint.workspace if freeze.endpoint else None,
        "reason": freeze.reason,
        "by": freeze.by,
        "at": freeze.at.isoformat(),
        "until": freeze.until.isoformat() if freeze.until else None,
        "sentence": f"{what} is frozen {until}, by {freeze.by}: {freeze.reason}.",
    }


def add_freezes(router: APIRouter, book: FreezeBook) -> None:
    """The routes."""

    @router.post("/freezes", status_code=201, tags=["freezes"])
    def freeze(body: FreezeBody) -> Json:
        """No share rises until it is lifted, or over; judging goes on, and roll backs are never held."""
        found = book.freeze(body)
        view = freeze_view(found, now=book.now())
        return {**view, "sentence": view["sentence"] + book.warning(found)}

    @router.post("/freezes/lift", tags=["freezes"])
    def lift(body: Place) -> Json:
        """Lift the freezes of one endpoint, or those of everything; 404 where there is none."""
        return {"lifted": [freeze_view(one, now=book.now()) for one in book.lift(body)]}

    @router.get("/freezes", tags=["freezes"])
    def listed() -> Json:
        """What is frozen now."""
        return {"now": book.now().isoformat(), "freezes": [freeze_view(one, now=book.now()) for one in book.listed()]}
