"""Whether the scoring address answers, without sending it a prediction: a request without a key never reaches a model.

The rule: one request, refused by the front end (401) where all is well. Where none came back, the name and the connection
are looked at, to tell what is missing: the name, the way there, or trust in the certificate.
"""

import socket
import ssl
from urllib.parse import urlsplit

import httpx

from rollout.azure.examining.facts import Cause, Reach, Seen, Unread
from rollout.azure.scoring import USER_AGENT

PATIENCE = 10.0  # seconds


def reach(client: httpx.Client, address: str | None) -> Reach:
    """What the scoring address answers to a request without a key."""
    if not address:
        return Reach(status=Unread(cause=Cause.ABSENT, why="Azure shows no scoring address of it yet."))
    host = urlsplit(address).hostname or address
    return Reach(status=_status(client, address, host), addresses=_addresses(host), host=host)


def _status(client: httpx.Client, address: str, host: str) -> Seen[int]:
    headers = {"User-Agent": USER_AGENT, "Content-Type": "application/json"}
    try:
        return client.post(address, content=b"{}", headers=headers, timeout=PATIENCE).status_code
    except httpx.ConnectError as error:
        return Unread(cause=Cause.NETWORK, why=_unconnected(error, host))
    except httpx.TimeoutException:
        why = f"{host} does not answer within {PATIENCE:.0f} s: a firewall may drop what is sent."
        return Unread(cause=Cause.NETWORK, why=why)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        return Unread(cause=Cause.NETWORK, why=f"The connection to {host} was broken off ({error}).")


def _unconnected(error: httpx.ConnectError, host: str) -> str:
    if isinstance(error.__cause__, ssl.SSLError) or "CERTIFICATE" in str(error).upper():
        return f"The certificate of {host} is not trusted here ({error}): a proxy may answer in its place."
    if not _addresses(host):
        return f"The name {host} is not known here: DNS does not resolve it."
    return f"No connection to {host} comes about ({error})."


def _addresses(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, 443, proto=socket.IPPROTO_TCP)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(each[4][0]) for each in found))
