"""The routes of releases, under /v1/releases. The rule: that of `rollout.web.app`."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from rollout.lifecycle.releases import Asked
from rollout.web import views
from rollout.web.bodies import Body, Who
from rollout.web.releasing import Releasing, release_answer


class AskBody(Body):
    """A person's wish about a release as a whole; answered at once."""

    verb: Literal["pause", "resume", "abort"]
    by: Annotated[Who, Field(description="Who asks")]
    origin: Annotated[Who, Field(description="From where")] = "api"
    reason: Annotated[str | None, Field(max_length=1000, description="Kept in the history")] = None


def add_releases(router: APIRouter, releasing: Releasing) -> None:
    """Look at releases and steer them; they are started as rollouts are, by a policy with `waves`."""

    @router.get("/releases", tags=["releases"])
    def list_releases(active: bool = False, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> views.Json:
        """Newest first."""
        found = releasing.listed(active_only=active, limit=limit)
        return {"releases": [releasing.view(release) for release in found]}

    @router.get("/releases/{name}", tags=["releases"])
    def get(name: str) -> views.Json:
        """The active release of this name, else its newest."""
        return releasing.view(releasing.find(name))

    @router.post("/releases/{name}/commands", tags=["releases"])
    def ask(name: str, body: AskBody) -> views.Json:
        """Pause, resume or abort all of it."""
        return release_answer(releasing.ask(name, Asked(verb=body.verb, by=body.by, reason=body.reason)))
