"""The FastAPI face: routes under /v1, health, a token, errors as RFC 9457 problems.

The rule: loopback only; every route under /v1 needs the bearer token; an answer never shows a stack trace. Routes are
plain functions (run in threads): they read the store for milliseconds and never wait for Azure, but for /v1/plan and
/v1/checks/try, which may ask the logs within bounds (see `rollout.daemon.past` and `rollout.daemon.trials`).
"""

import hmac
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, Protocol

import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from rollout.errors import ConflictError, PolicyError, RefusedError, RolloutError, UnavailableError
from rollout.policy import Checks, CustomCheck, Policy
from rollout.web import views
from rollout.web.bodies import CommandBody, PlanBody, PolicyBody, RetryBody, StartBody, TryBody, UndoBody
from rollout.web.freezes import add_freezes
from rollout.web.release_routes import add_releases
from rollout.web.service import NewCommand, Service
from rollout.world import Verb

PROBLEM = "application/problem+json"
#: Names under which a loopback server is asked: others come from a page that points its own name here.
HOSTS = ("127.0.0.1", "localhost", "[::1]")
MAX_EVENTS = 1000
_NEEDS_REASON = frozenset({Verb.ABORT})

Workspace = Annotated[str | None, Query(description="Where two workspaces have an endpoint of this name")]
Limit = Annotated[int, Query(ge=1, le=500)]


class Health(Protocol):
    """Whether the daemon lives, and whether it can do its work; each with reasons, empty where all is well."""

    def alive(self) -> list[str]:
        """Why the process should be restarted."""

    def ready(self) -> list[str]:
        """Why it cannot judge or move traffic just now."""


def create_app(service: Service, *, token: str, health: Health, log: structlog.stdlib.BoundLogger) -> FastAPI:
    """The API over a service."""
    app = FastAPI(
        title="Rollout",
        description="Moves an Azure ML online endpoint's traffic to a new deployment in steps, and back by itself.",
        version="1",
        redoc_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS))
    app.include_router(_routes(service, _guard(token)))
    app.include_router(_health_routes(health))
    _add_errors(app, log)
    return app


def _guard(token: str) -> Callable[..., None]:
    bearer = HTTPBearer(auto_error=False, description="The token in the daemon's token file")

    def check(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if sent is None or not hmac.compare_digest(sent.credentials.encode(), token.encode()):
            raise HTTPException(401, "Send the daemon's token: Authorization: Bearer …", {"WWW-Authenticate": "Bearer"})

    return check


def _routes(service: Service, guard: Callable[..., None]) -> APIRouter:
    router = APIRouter(prefix="/v1", dependencies=[Depends(guard)])
    _add_rollouts(router, service)
    _add_evidence(router, service)
    _add_commands(router, service)
    add_releases(router, service.releasing)
    _add_rest(router, service)
    add_freezes(router, service.freezes)
    return router


def _add_rollouts(router: APIRouter, service: Service) -> None:
    @router.post("/rollouts", status_code=201, tags=["rollouts"])
    def start(body: StartBody) -> views.Json:
        """Begin a rollout; 409 where the endpoint already has an active one. A policy with waves begins a release."""
        policy = _sent(service, body.policy)
        if body.endpoint is not None and body.endpoint.casefold() != policy.endpoint_name.casefold():
            raise PolicyError(
                f"The policy is about {policy.endpoint_name}, not about {body.endpoint}: name one of them."
            )
        key = f"asked/{body.key}" if body.key else None
        if policy.waves is not None:
            return _start_release(service, policy, body, key)
        found = service.start(
            policy, stable=body.stable, candidate=body.candidate, observe=body.observe, by=body.by, key=key
        )
        return service.view(found)

    @router.post("/rollouts/{endpoint}/undo", status_code=201, tags=["rollouts"])
    def undo(endpoint: str, body: UndoBody) -> views.Json:
        """All traffic back on the stable deployment that a promotion has left; 409 where there is nothing to go back to."""
        found = service.find(endpoint, workspace=body.workspace)
        return service.view(service.undo(found.ref, by=body.by, reason=body.reason))

    @router.post("/rollouts/{endpoint}/retry", status_code=201, tags=["rollouts"])
    def retry(endpoint: str, body: RetryBody) -> views.Json:
        """The last rollout again, with fresh evidence; 409 where it did not end without a promotion."""
        if body.from_step > 1 and not body.reason:
            raise PolicyError(f"from_step {body.from_step} skips steps: it needs a reason; it is kept in the history.")
        found = service.find(endpoint, workspace=body.workspace)
        return service.view(service.retry(found, by=body.by, reason=body.reason, from_step=body.from_step))

    @router.get("/rollouts", tags=["rollouts"])
    def list_rollouts(workspace: Workspace = None, active: bool = False, limit: Limit = 100) -> views.Json:
        """Newest first."""
        found = service.rollouts(workspace=workspace, active_only=active, limit=limit)
        return {"now": views.iso(service.now()), "rollouts": [service.view(rollout) for rollout in found]}

    @router.get("/rollouts/{endpoint}", tags=["rollouts"])
    def get(
        endpoint: str, workspace: Workspace = None, events: Annotated[int, Query(ge=0, le=MAX_EVENTS)] = 0
    ) -> views.Json:
        """The active rollout of an endpoint, else its newest, with its last `events`."""
        rollout = service.find(endpoint, workspace=workspace)
        return {**service.view(rollout), "events": service.history(rollout, last=events)}

    @router.get("/rollouts/{endpoint}/plan", tags=["rollouts"])
    def plan(endpoint: str, workspace: Workspace = None) -> views.Json:
        """What its policy will see and take, as far as that is known without asking anybody; `plan` is null else."""
        return {"plan": service.plan_at_once(service.find(endpoint, workspace=workspace))}

    @router.get("/rollouts/{endpoint}/history", tags=["rollouts"])
    def history(endpoint: str, workspace: Workspace = None) -> views.Json:
        """Everything that happened, oldest first."""
        rollout = service.find(endpoint, workspace=workspace)
        return {"id": rollout.id, "now": views.iso(service.now()), "events": service.history(rollout)}


def _start_release(service: Service, policy: Policy, body: StartBody, key: str | None) -> views.Json:
    if body.observe or body.stable or body.candidate:
        raise PolicyError(
            f"{policy.name} has waves of several endpoints: write stable and candidate in the policy; it moves traffic."
        )
    return service.releasing.view(service.start_release(policy, by=body.by, key=key))


def _add_evidence(router: APIRouter, service: Service) -> None:
    @router.get("/rollouts/{endpoint}/explain", tags=["evidence"])
    def explain(
        endpoint: str,
        workspace: Workspace = None,
        step: Annotated[int | None, Query(ge=1, description="The last verdict on this step; else the last one")] = None,
    ) -> views.Json:
        """A verdict with its rates and their intervals, the evidence over time, and what would have changed it."""
        return service.explain(service.find(endpoint, workspace=workspace), step=step)

    @router.get("/rollouts/{endpoint}/export", tags=["evidence"])
    def export(endpoint: str, workspace: Workspace = None) -> views.Json:
        """The rollout with everything that it was judged on: `rollout replay` judges it again."""
        return service.export(service.find(endpoint, workspace=workspace))


def _own_checks(body: TryBody) -> tuple[CustomCheck, ...]:
    try:
        checks = Checks.model_validate({"custom": [check.model_dump() for check in body.checks]})
    except ValidationError as error:
        raise PolicyError("; ".join(_said(one) for one in error.errors())) from None
    return checks.custom


def _sent(service: Service, sent: PolicyBody) -> Policy:
    if sent.name is not None:
        return service.policies.find(sent.name)
    return service.policies.parse(sent.text or "", file=sent.file, files=sent.sent)


def _add_commands(router: APIRouter, service: Service) -> None:
    @router.post("/rollouts/{endpoint}/commands", status_code=202, tags=["commands"])
    def submit(endpoint: str, body: CommandBody) -> views.Json:
        """Write a command down; ask for its `id` to learn what became of it."""
        _check_command(body)
        rollout = service.find(endpoint, workspace=body.workspace)
        asked = NewCommand(
            verb=body.verb, by=body.by, origin=body.origin, reason=body.reason, full=body.full, drift=body.drift
        )
        return views.written_view(service.submit(rollout, asked))

    @router.get("/commands/{command_id}", tags=["commands"])
    def result(command_id: str) -> views.Json:
        """What became of a command: waiting, accepted or refused, with a sentence."""
        return views.command_view(command_id, service.command_result(command_id))


def _check_command(body: CommandBody) -> None:
    if not body.reason and (body.verb in _NEEDS_REASON or body.full):
        raise PolicyError(f"{body.verb}{' --full' if body.full else ''} needs a reason; it is kept in the history.")
    if body.full and body.verb is not Verb.PROMOTE:
        raise PolicyError(f"`full` goes with promote, not with {body.verb}.")
    if body.drift and body.verb is not Verb.RESUME:
        raise PolicyError(f"`drift` goes with resume, not with {body.verb}.")


def _add_rest(router: APIRouter, service: Service) -> None:
    @router.get("/policies", tags=["policies"])
    def policies() -> views.Json:
        """The policy files that the daemon watches, with their mistakes."""
        return {"policies": [views.policy_view(found) for found in service.policies.listed()]}

    @router.get("/triggers", tags=["policies"])
    def triggers(endpoint: str | None = None, workspace: Workspace = None) -> views.Json:
        """What starts rollouts without being asked: what is waited for, what came, what it did and why not."""
        found = service.triggers(endpoint=endpoint, workspace=workspace)
        return {"now": views.iso(service.now()), "triggers": found}

    @router.post("/plan", tags=["policies"])
    def plan(body: PlanBody) -> views.Json:
        """What a policy will see and take on its endpoint, from the endpoint's last hours; takes seconds."""
        return service.plan(_sent(service, body.policy), hours=body.hours)

    @router.post("/checks/try", tags=["policies"])
    def try_checks(body: TryBody) -> views.Json:
        """What the queries of checks count on an endpoint just now, and what the checks would say; takes seconds."""
        return service.try_checks(body.endpoint, _own_checks(body), workspace=body.workspace, hours=body.hours)

    @router.get("/deliveries", tags=["alerts"])
    def deliveries(
        endpoint: str | None = None,
        workspace: Workspace = None,
        state: Annotated[str | None, Query(pattern="^(waiting|delivered|dead)$")] = None,
        limit: Limit = 100,
    ) -> views.Json:
        """What became of the alerts, newest first; `dead` ones were given up."""
        rollout = service.find(endpoint, workspace=workspace) if endpoint else None
        found = service.deliveries(rollout=rollout, state=state, limit=limit)
        return {"now": views.iso(service.now()), "deliveries": [views.delivery_view(one) for one in found]}

    @router.get("/sources", tags=["health"])
    def sources() -> views.Json:
        """How each look at Azure did: last success, last error, how old its data is."""
        return {"now": views.iso(service.now()), "sources": [dict(source) for source in service.world.sources()]}


def _health_routes(health: Health) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    def healthz() -> JSONResponse:
        """200 while the process lives and its loops turn."""
        return _health_answer(health.alive())

    @router.get("/readyz")
    def readyz() -> JSONResponse:
        """200 while it can do its work: store, Azure and data are there."""
        return _health_answer([*health.alive(), *health.ready()])

    return router


def _health_answer(reasons: list[str]) -> JSONResponse:
    content = {"status": "failing" if reasons else "ok", "reasons": reasons}
    return JSONResponse(content, status_code=503 if reasons else 200)


# --- errors


def _add_errors(app: FastAPI, log: structlog.stdlib.BoundLogger) -> None:
    @app.exception_handler(RolloutError)
    async def told(_request: Request, error: RolloutError) -> JSONResponse:
        return problem(_status(error), error.message, **_mistakes(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, "; ".join(_said(one) for one in error.errors()))

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("The API failed in a way that nobody foresaw.", path=request.url.path, exc_info=error)
        return problem(500, "The daemon failed in a way that nobody foresaw: its log says more.")


def _status(error: RolloutError) -> int:
    if isinstance(error, PolicyError):
        return 422
    if isinstance(error, ConflictError):
        return 409
    if isinstance(error, RefusedError):
        return 404
    return 503 if isinstance(error, UnavailableError) else 500


def _mistakes(error: RolloutError) -> dict[str, Any]:
    if not isinstance(error, PolicyError) or not error.mistakes:
        return {}
    keys = ("file", "line", "column", "path", "message")
    return {"mistakes": [{key: getattr(mistake, key) for key in keys} for mistake in error.mistakes]}


def _said(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"] if part != "body")
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def problem(status: int, detail: str, *, headers: Any = None, **more: Any) -> JSONResponse:
    """An error as RFC 9457 has it: `title` is the status in words, `detail` our sentence."""
    title = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(content, status_code=status, media_type=PROBLEM, headers=headers)
