"""Access tokens of the sandbox's Azure AD: signed JSON Web Tokens that only this sandbox issues and believes.

The rule: a token is believed for one audience, until it expires, if this sandbox signed it. Lifetimes are real time, as the
SDKs count them; `now` (seconds since 1970) is an argument.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rollout.sandbox import rules
from rollout.sandbox.resources import Actor, Identity

LIFETIME = 3_599  # seconds, as Azure AD gives
MANAGEMENT = ("https://management.azure.com", "https://management.core.windows.net")
MACHINE_LEARNING = "https://ml.azure.com"
LOG_ANALYTICS = ("https://api.loganalytics.io", "https://api.loganalytics.azure.com")
METRICS = ("https://metrics.monitor.azure.com",)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a believed token says: who, and for which service."""

    client_id: str
    audience: str
    expires: float


class Tokens:
    """Issues and checks access tokens."""

    def __init__(self, *, identity: Identity, key: bytes) -> None:
        self._identity = identity
        self._key = key

    @property
    def audiences(self) -> tuple[str, ...]:
        """The services that tokens can be asked for."""
        return (self._identity.address, *MANAGEMENT, MACHINE_LEARNING, *LOG_ANALYTICS, *METRICS)

    def issue(self, client_id: str, audience: str, *, now: float) -> str:
        """A token for one client and one service."""
        claims = {
            "aud": audience,
            "iss": f"{self._identity.address}/{self._identity.tenant_id}/v2.0",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + LIFETIME,
            "appid": client_id,
            "oid": client_id,
            "tid": self._identity.tenant_id,
            "ver": "2.0",
        }
        head = f"{_pack({'alg': 'HS256', 'typ': 'JWT'})}.{_pack(claims)}"
        return f"{head}.{self._signed(head)}"

    def check(self, authorization: str | None, *, audiences: Iterable[str], now: float) -> Claims:
        """The claims of the bearer token, meant for one of `audiences`. Raises Refusal 401 that says what is wrong."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.casefold() != "bearer" or not token:
            raise rules.unauthorized(
                "Authentication failed. The 'Authorization' header is missing.", code="AuthenticationFailed"
            )
        claims = self._claims(token)
        if claims is None:
            raise rules.unauthorized("The access token is invalid.")
        if claims.expires <= now:
            raise rules.unauthorized("The access token expired.", code="ExpiredAuthenticationToken")
        if claims.audience not in audiences:
            raise rules.unauthorized(
                f"The access token is for '{claims.audience}', not for this service.",
                code="InvalidAuthenticationTokenAudience",
            )
        return claims

    def check_management(self, authorization: str | None, *, now: float) -> Actor:
        """Who sends a request to the control plane. Raises Refusal 401."""
        audiences = (self._identity.address, *MANAGEMENT)
        claims = self.check(authorization, audiences=audiences, now=now)
        known = claims.client_id.casefold() == self._identity.client_id.casefold()
        return Actor(id=claims.client_id, kind="Application" if known else "User")

    def check_logs(self, authorization: str | None, *, now: float) -> Claims:
        """Who asks Log Analytics. Raises Refusal 401."""
        return self.check(authorization, audiences=(self._identity.address, *LOG_ANALYTICS), now=now)

    def check_metrics(self, authorization: str | None, *, now: float) -> Claims:
        """Who asks for metrics. Raises Refusal 401."""
        return self.check(authorization, audiences=(self._identity.address, *METRICS), now=now)

    def opens_endpoints(self, token: str, *, now: float) -> bool:
        """Whether an `aad_token` endpoint answers to this token."""
        claims = self._claims(token)
        return claims is not None and claims.expires > now and claims.audience == MACHINE_LEARNING

    def _claims(self, token: str) -> Claims | None:
        head, _, signed = token.rpartition(".")
        if not head or not hmac.compare_digest(signed.encode(), self._signed(head).encode()):
            return None
        values: dict[str, Any] = json.loads(_unpack(head.partition(".")[2]))
        return Claims(client_id=values["appid"], audience=values["aud"], expires=float(values["exp"]))

    def _signed(self, head: str) -> str:
        return _base64(hmac.digest(self._key, head.encode(), hashlib.sha256))


def _pack(values: dict[str, Any]) -> str:
    return _base64(json.dumps(values, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unpack(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
