"""Made-up keys, tokens and signed addresses of the sandbox, from an injected generator: for loopback only.

The rule: nothing here is a secret outside the sandbox that drew it; its shape and length are those of Azure.
"""

import base64
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

AML_TOKEN_LIFETIME = timedelta(hours=24)
AML_TOKEN_REFRESH = timedelta(hours=12)
_SIGNED_BYTES = 1_860  # `c=` of a status address is about 2.5 KB of base64


@dataclass(frozen=True, kw_only=True)
class EndpointToken:
    """An `aml_token`: opens one endpoint until it expires (on the sandbox's clock)."""

    value: str
    endpoint: str
    expires: datetime
    refresh_after: datetime


def random_id(chance: random.Random) -> str:
    """A random UUID, version 4."""
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def random_key(chance: random.Random) -> str:
    """An endpoint key: 32 letters and digits."""
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=32))


def random_token(chance: random.Random, *, endpoint: str, now: datetime) -> EndpointToken:
    """A token for one endpoint: 24 hours, to be refreshed after 12."""
    return EndpointToken(
        value=_urlsafe(chance, 256),
        endpoint=endpoint,
        expires=now + AML_TOKEN_LIFETIME,
        refresh_after=now + AML_TOKEN_REFRESH,
    )


def signature(chance: random.Random, *, now: datetime) -> Mapping[str, str]:
    """The signed query of a status address, which must come back word for word."""
    return {
        "t": str(int(now.timestamp() * 10_000_000)),
        "c": _urlsafe(chance, _SIGNED_BYTES),
        "s": _urlsafe(chance, 256),
        "h": _urlsafe(chance, 32),
    }


def _urlsafe(chance: random.Random, size: int) -> str:
    return base64.urlsafe_b64encode(chance.randbytes(size)).decode().rstrip("=")
