"""What the sandbox was asked, apart from predictions: how often each kind of request came, and when the last ones did.

The rule: it only listens. Each request to Azure AD, Resource Manager and Azure Monitor is noted when it has arrived and
when it was answered, in real seconds since 1970: what a client costs Azure, and how quickly it acts, can be measured.
"""

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from aiohttp import web

KEPT = 5_000  # calls
#: Where what is not Azure's lies: predictions, which the traffic log counts, and the sandbox's own address.
NOT_COUNTED = ("/endpoints/", "/sandbox/")

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request: its kind, the endpoint it is about if any, and the real seconds when it came and was answered."""

    kind: str
    endpoint: str
    arrived: float
    answered: float
    status: int


class Calls:
    """Counts and remembers calls; `middleware` is what sees them. `wall` gives real seconds since 1970."""

    def __init__(self, *, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._counts: Counter[str] = Counter()
        self._recent: deque[Call] = deque(maxlen=KEPT)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note a request; one whose client left before the answer has status 0."""
        if request.path.startswith(NOT_COUNTED):
            return await handler(request)
        arrived, status = self._wall(), 0
        try:
            response = await handler(request)
            status = response.status
        finally:
            self._note(request, arrived=arrived, status=status)
        return response

    def dump(self, *, since: float = 0.0) -> Mapping[str, Any]:
        """How many of each kind since the start, and the calls that came after `since`; plain values."""
        recent = [asdict(call) for call in self._recent if call.arrived > since]
        return {"now": self._wall(), "counts": dict(sorted(self._counts.items())), "recent": recent}

    def _note(self, request: web.Request, *, arrived: float, status: int) -> None:
        kind = kind_of(request)
        self._counts[kind] += 1
        endpoint = request.match_info.get("endpoint", "")
        self._recent.append(Call(kind=kind, endpoint=endpoint, arrived=arrived, answered=self._wall(), status=status))


def kind_of(request: web.Request) -> str:
    """`GET onlineEndpoints/{endpoint}`: method and route, without the ML workspace that all of them share."""
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "(nothing there)"
    _, of_workspace, own = route.partition("MachineLearningServices/workspaces/{workspace}/")
    return f"{request.method} {own if of_workspace else route.lstrip('/')}"
