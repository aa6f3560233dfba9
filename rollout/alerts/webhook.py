"""The signed webhook: each alert as a CloudEvents 1.0 event in JSON, signed as in Standard Webhooks 1.0.

A request is `POST`, `Content-Type: application/cloudevents+json`, with these headers:

- `webhook-id`: the alert's id, the same in every attempt: drop what you have already seen
- `webhook-timestamp`: POSIX seconds when this attempt was sent: refuse what is older or newer than five minutes
- `webhook-signature`: `v1,` and the base64 of HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}`

The key is the secret: of one that begins with `whsec_` the base64 after it, of any other its UTF-8 bytes. `verify` checks
all three, for receivers in Python; any library for Standard Webhooks does, for the others.
The event: `id`, `source` (`/rollout/{workspace}/{endpoint}`), `type` (`azureml.rollout.{kind}`), `subject` (the rollout's
id), `time`, and `data`: `workspace, endpoint, rollout_id, kind, severity, title, sentence, text, details, summary`.

The rule: the body depends on the alert alone, byte for byte. 2xx is delivered; 410 is never tried again; everything else,
redirects too (a signed body goes nowhere but to the address it was made for), is tried again.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import httpx

from rollout.alerts.channels import Channel, without_secrets
from rollout.alerts.render import Message
from rollout.errors import RefusedError, SettingsError, ThrottledError, UnavailableError
from rollout.world import Alert

#: Seconds to reach the receiver, and to wait for its answer.
CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 10.0
#: How far the time of a request may lie from the receiver's.
REPLAY_WINDOW = timedelta(minutes=5)
CONTENT_TYPE = "application/cloudevents+json"


class Webhook:
    """Sends alerts to one webhook."""

    def __init__(self, channel: Channel) -> None:
        """Raises SettingsError if the address or the secret is of no use."""
        if not _usable(channel.url):
            raise SettingsError(
                f"channels.{channel.name}: the webhook's address must be a URL with https:// or http://."
            )
        if not channel.secret:
            raise SettingsError(f"channels.{channel.name}: a webhook needs a secret to sign with: set secret_env.")
        self._channel = channel
        self._key = _key(channel.secret, name=channel.name)

    def send(self, alert: Alert, message: Message, *, now: datetime) -> None:
        """One attempt. Raises UnavailableError or ThrottledError (try again), RefusedError (never again)."""
        body = cloud_event(alert, message)
        headers = {"content-type": CONTENT_TYPE, "user-agent": "azureml-rollout"}
        headers |= signed(alert.id, body, key=self._key, now=now)
        timeout = httpx.Timeout(ANSWER_TIMEOUT, connect=CONNECT_TIMEOUT)
        try:
            with (
                httpx.Client(timeout=timeout, follow_redirects=False) as client,
                client.stream("POST", self._channel.url, content=body, headers=headers) as response,
            ):
                self._judge(response, now=now)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = without_secrets(str(error), self._channel) or type(error).__name__
            raise UnavailableError(f"The webhook could not be reached ({why}).") from error

    def _judge(self, response: httpx.Response, *, now: datetime) -> None:
        status = response.status_code
        if response.is_success:
            return
        if status == httpx.codes.GONE:
            raise RefusedError("The webhook answered 410: it is gone. Put its new address in the settings.")
        if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
            raise ThrottledError(f"The webhook answered {status}.", retry_after=_retry_after(response, now=now))
        hint = " It redirects: put the final address in the settings." if response.is_redirect else ""
        raise UnavailableError(f"The webhook answered {status}.{hint}")


def _usable(address: str) -> bool:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return False
    return url.scheme in {"https", "http"} and bool(url.host)


def cloud_event(alert: Alert, message: Message) -> bytes:
    """The body of the request: see the module's docstring."""
    event = alert.event
    data = {
        "workspace": alert.endpoint.workspace,
        "endpoint": alert.endpoint.name,
        "rollout_id": alert.rollout_id,
        "kind": event.kind,
        "severity": event.severity,
        "title": message.title,
        "sentence": message.line,
        "text": message.body,
        "details": dict(event.details),
        "summary": dict(alert.summary),
    }
    envelope = {
        "specversion": "1.0",
        "id": alert.id,
        "source": f"/rollout/{quote(alert.endpoint.workspace, safe='')}/{quote(alert.endpoint.name, safe='')}",
        "type": f"azureml.rollout.{event.kind}",
        "subject": alert.rollout_id,
        "time": event.at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()


def signed(alert_id: str, body: bytes, *, key: bytes, now: datetime) -> dict[str, str]:
    """The three headers of a request sent `now`."""
    stamp = str(int(now.timestamp()))
    return {
        "webhook-id": alert_id,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + _signature(alert_id, stamp, body, key=key),
    }


def verify(headers: Mapping[str, str], body: bytes, *, secret: str, now: datetime) -> None:
    """For receivers: the request was signed with this secret, and lately. Raises RefusedError, saying what is wrong.

    `headers` are looked up in lower case. What is left to the receiver: drop a `webhook-id` that it has already seen.
    """
    found = {name.lower(): value for name, value in headers.items()}
    alert_id, stamp = found.get("webhook-id", ""), found.get("webhook-timestamp", "")
    expected = _signature(alert_id, stamp, body, key=_key(secret, name="webhook"))
    given = [part.removeprefix("v1,") for part in found.get("webhook-signature", "").split()]
    if not any(hmac.compare_digest(expected.encode(), part.encode()) for part in given):
        raise RefusedError("The signature does not match: another secret, or somebody changed the request.")
    if not stamp.isdecimal() or abs(now - datetime.fromtimestamp(int(stamp), UTC)) > REPLAY_WINDOW:
        raise RefusedError(f"The request is not of now (sent at {stamp}): a replay, or a clock that is wrong.")


def _signature(alert_id: str, stamp: str, body: bytes, *, key: bytes) -> str:
    signed_content = f"{alert_id}.{stamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, signed_content, hashlib.sha256)).decode()


def _key(secret: str, *, name: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise SettingsError(f"channels.{name}: what follows whsec_ in the secret must be base64.") from None


def _retry_after(response: httpx.Response, *, now: datetime) -> float | None:
    """Seconds, from either form of the header (RFC 9110, 10.2.3); None where it is absent or makes no sense."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - now).total_seconds())
    except (TypeError, ValueError):
        return None
