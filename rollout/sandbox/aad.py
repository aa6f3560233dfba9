"""Azure AD on loopback: the OpenID configuration, and tokens for a client id with its secret.

The rule: a refusal has the error codes of Azure AD (AADSTS…) and never says what the right secret would be. Any client id
may ask: the sandbox's own is its service principal, every other one is a person, whose changes then bear that name.
"""

import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

from aiohttp import web

from rollout.sandbox.faults import Faults
from rollout.sandbox.resources import Identity
from rollout.sandbox.tokens import LIFETIME, Tokens


class DirectoryError(Exception):
    """A token is refused; `number` is that of the AADSTS message."""

    def __init__(self, status: int, error: str, number: int, message: str) -> None:
        super().__init__(message)
        self.status, self.error, self.number, self.message = status, error, number, message


class Directory:
    """The handlers. `wall` gives real seconds since 1970, `clock` the sandbox's time (for faults)."""

    def __init__(
        self,
        *,
        identity: Identity,
        tokens: Tokens,
        secret: str,
        faults: Faults,
        wall: Callable[[], float],
        clock: Callable[[], datetime],
    ) -> None:
        self._identity = identity
        self._tokens = tokens
        self._secret = secret
        self._faults = faults
        self._wall = wall
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """The addresses under `/{tenant}/`."""
        return [
            web.get("/{tenant}/v2.0/.well-known/openid-configuration", self.configuration),
            web.post("/{tenant}/oauth2/v2.0/token", self.token),
        ]

    async def configuration(self, request: web.Request) -> web.Response:
        """Where tokens are asked for."""
        try:
            tenant = self._tenant(request)
        except DirectoryError as error:
            return self._refused(error)
        base = f"{self._identity.address}/{tenant}"
        return web.json_response(
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "issuer": f"{base}/v2.0",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
                "response_types_supported": ["code", "id_token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid"],
                "tenant_region_scope": "EU",
            }
        )

    async def token(self, request: web.Request) -> web.Response:
        """A token for a client and its secret."""
        form = await request.post()
        fault = self._faults.arm("tokens", None, now=self._clock())
        if fault is not None:
            unavailable = DirectoryError(503, "temporarily_unavailable", 90033, "A transient error has occurred.")
            return self._refused(unavailable)
        try:
            self._tenant(request)
            client = str(form.get("client_id", ""))
            self._check_client(client, str(form.get("client_secret", "")), str(form.get("grant_type", "")))
            audience = self._audience(str(form.get("scope", "")))
        except DirectoryError as error:
            return self._refused(error)
        token = self._tokens.issue(client, audience, now=self._wall())
        answer = {"token_type": "Bearer", "expires_in": LIFETIME, "ext_expires_in": LIFETIME, "access_token": token}
        return web.json_response(answer)

    def _tenant(self, request: web.Request) -> str:
        tenant = request.match_info["tenant"]
        if tenant.casefold() != self._identity.tenant_id.casefold():
            raise DirectoryError(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found.")
        return tenant

    def _check_client(self, client: str, secret: str, grant: str) -> None:
        if grant != "client_credentials":
            message = f"The sandbox gives tokens for client_credentials only, not for '{grant}'."
            raise DirectoryError(400, "unsupported_grant_type", 70003, message)
        if not client:
            raise DirectoryError(400, "invalid_request", 900144, "The body must contain 'client_id'.")
        if not hmac.compare_digest(secret.encode(), self._secret.encode()):
            message = f"Invalid client secret provided for app '{client}'."
            raise DirectoryError(401, "invalid_client", 7000215, message)

    def _audience(self, scope: str) -> str:
        audience = scope.split(" ", maxsplit=1)[0].removesuffix(".default").rstrip("/")
        if audience not in self._tokens.audiences:
            message = f"The resource principal named {audience or scope!r} was not found in the tenant."
            raise DirectoryError(400, "invalid_resource", 500011, message)
        return audience

    def _refused(self, error: DirectoryError) -> web.Response:
        moment = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        trace, correlation = str(uuid4()), str(uuid4())
        description = (
            f"AADSTS{error.number}: {error.message}\r\nTrace ID: {trace}\r\n"
            f"Correlation ID: {correlation}\r\nTimestamp: {moment}"
        )
        body = {
            "error": error.error,
            "error_description": description,
            "error_codes": [error.number],
            "timestamp": moment,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"{self._identity.address}/error?code={error.number}",
        }
        return web.json_response(body, status=error.status)
