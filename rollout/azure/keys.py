"""What opens an endpoint: its key, its token, or a token of Microsoft Entra ID.

The rule: kept in memory for as long as it is good and never shown. A key that was refused is asked for anew, but an
endpoint's keys are not asked for more often than every half minute, whatever happens: Azure Resource Manager counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any

from rollout.azure.arm import WorkspaceResources
from rollout.azure.errors import in_our_words
from rollout.errors import RolloutError, UnavailableError
from rollout.ports import Clock

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

#: The least time between two requests for the same endpoint's key, and before a token's end that a new one is asked for.
NOT_SOONER, BEFORE_THE_END = timedelta(seconds=30), timedelta(minutes=5)
_ROLE = (
    "Sample requests need Microsoft.MachineLearningServices/workspaces/onlineEndpoints/listKeys/action (and …/token/action) on "
    "the workspace: give this identity a role with both, or take `probes` and `smoke_test` out of the policy."
)


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A bearer value; `renew_at` None: good until it is refused."""

    value: str = field(repr=False)
    asked_at: datetime
    renew_at: datetime | None = None


class EndpointKeys:
    """The keys and tokens of one workspace's endpoints; safe to use from many threads."""

    def __init__(
        self,
        resources: WorkspaceResources,
        identity: "TokenCredential",
        *,
        audience: str,
        clock: Clock,
        remedy: str = _ROLE,
    ) -> None:
        """`remedy` is what a person does where Azure refuses the keys."""
        self._remedy = remedy
        self._resources = resources
        self._identity = identity
        self._scope = f"{audience}/.default"
        self._clock = clock
        self._secrets: dict[str, Secret] = {}
        self._failures: dict[str, tuple[datetime, RolloutError]] = {}
        self._locks: dict[str, Lock] = {}

    def get(self, endpoint: str, auth_mode: str, *, instead_of: Secret | None = None) -> Secret:
        """The endpoint's secret; `instead_of` was refused. Raises RefusedError, ThrottledError, UnavailableError."""
        with self._locks.setdefault(endpoint.casefold(), Lock()):
            known, now = self._secrets.get(endpoint.casefold()), self._clock.now()
            if known is not None and not self._is_stale(known, instead_of, now):
                return known
            failed = self._failures.get(endpoint.casefold())
            if failed is not None and now - failed[0] < NOT_SOONER:
                raise failed[1]
            return self._ask(endpoint, auth_mode, now)

    def _is_stale(self, known: Secret, refused: Secret | None, now: datetime) -> bool:
        if known.renew_at is not None and now >= known.renew_at:
            return True
        return known is refused and now - known.asked_at >= NOT_SOONER

    def _ask(self, endpoint: str, auth_mode: str, now: datetime) -> Secret:
        way: Mapping[str, Callable[[str, datetime], Secret]] = {"key": self._key, "aml_token": self._token}
        try:
            with in_our_words(f"get the key of endpoint {endpoint}", remedy=self._remedy):
                found = way.get(auth_mode, self._entra_token)(endpoint, now)
        except RolloutError as error:
            self._failures[endpoint.casefold()] = (now, error)
            raise
        self._secrets[endpoint.casefold()] = found
        self._failures.pop(endpoint.casefold(), None)
        return found

    def _key(self, endpoint: str, now: datetime) -> Secret:
        return Secret(value=_text(self._resources.keys(endpoint), "primaryKey"), asked_at=now)

    def _token(self, endpoint: str, now: datetime) -> Secret:
        told = self._resources.token(endpoint)
        renew = told.get("refreshAfterTimeUtc") or told.get("expiryTimeUtc")
        renew_at = datetime.fromtimestamp(float(renew), UTC) if renew else None
        return Secret(value=_text(told, "accessToken"), asked_at=now, renew_at=renew_at)

    def _entra_token(self, _endpoint: str, now: datetime) -> Secret:
        token = self._identity.get_token(self._scope)
        ends = datetime.fromtimestamp(token.expires_on, UTC)
        return Secret(value=token.token, asked_at=now, renew_at=ends - BEFORE_THE_END)


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if not value:
        raise UnavailableError(f"Azure's answer holds no {name}.")
    return str(value)
