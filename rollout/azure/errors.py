"""What Azure said, in our words: every exception of an SDK becomes one of ours here and nowhere else.

The rule: who must act is decided by the status that Azure answered and by its own error code, never by the type of the
SDK's exception (azure-monitor-query loses it, azure-ai-ml reports a failed operation with status 200). A message says
what was tried, what Azure answered in its own words, and what to do; it never holds a token or a key.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from rollout.errors import ConflictError, RefusedError, RolloutError, ThrottledError, UnavailableError

#: Longest text of Azure's that a message repeats.
MAX_WORDS = 500
#: Longest wait that a Retry-After may ask of us, in seconds: more is a mistake or a very bad day.
MAX_RETRY_AFTER = 3600.0
#: Statuses that mean "slower, please": 529 is the metrics service's own.
THROTTLED = frozenset({429, 529})
#: Statuses after which a second try, soon, often works. Not 504: the service has just worked on it for as long as it may.
PASSING = frozenset({500, 502, 503})
#: Codes of failed operations that Azure itself asks to try again.
PASSING_CODES = frozenset({"InternalServerError", "OperationCanceled", "ServiceUnavailable", "ServerBusy"})

#: "…because it is in Updating provisioning state" arrives as 400 as well as 409; "lock confirmation": asked too soon.
_BUSY = re.compile(
    r"in (updating|creating|deleting|scaling) provisioning state|lock confirmation|another operation", re.IGNORECASE
)
_SECRET = re.compile(
    r"eyJ[\w-]+\.[\w-]+(\.[\w-]*)?|(?<=Bearer )\S+|(?<=sig=)[^&\s]+|(?<=client_secret=)[^&\s]+", re.IGNORECASE
)
#: azure-identity gives every failure one type; what Microsoft Entra ID itself refused carries its code, and these pass.
_REFUSED_TOKEN = re.compile(r"AADSTS(?!(?:90006|90012|90024|90033)\b)\d+")
#: The inference service's own answer, as the control plane passes it on: alone, or behind "error detail:".
_WRAPPED = re.compile(r"(?:^|error detail: )\s*(\{.*)", re.DOTALL)
_NOT_THE_SHAPE = (ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class Said:
    """Azure's own words: the HTTP status (None where there was no answer), its error code, its message."""

    status: int | None
    code: str
    message: str

    def __str__(self) -> str:
        head = " ".join(part for part in (str(self.status or ""), self.code) if part)
        return f"{head}: {self.message}" if self.message else head


@contextmanager
def in_our_words(doing: str, *, remedy: str = "", write: bool = False) -> Iterator[None]:
    """Whatever an SDK raises inside leaves as one of `rollout.errors`.

    `doing` completes "Cannot …", `remedy` is what a person does where Azure refused, and `write` says that an answer that
    did not come leaves open whether Azure did what it was asked. A person who waits for an answer is told otherwise: see
    `remedies.py`.
    """
    try:
        yield
    except (AzureError, *_NOT_THE_SHAPE) as error:
        raise translated(error, doing=doing, remedy=remedy, write=write) from error


def translated(error: Exception, *, doing: str, remedy: str = "", write: bool = False) -> RolloutError:
    """Our error for an SDK's: see the module's rule."""
    said = what_azure_said(error)
    sentence = f"Cannot {doing}: {_who_answered(error, said)}."
    if _is_about_a_token(error, said):
        sentence += " Check `credential` in the settings: the identity, its secret or certificate, and its tenant."
    if said.status in THROTTLED:
        return ThrottledError(f"{sentence} It is tried again later.", retry_after=retry_after(error))
    if said.status == 409 or _BUSY.search(said.message):
        return ConflictError(f"{sentence} Another operation runs; it is tried again when that has ended.")
    if _time_heals(error, said):
        unknown = " Whether Azure did it is not known until the endpoint is read again." if write else ""
        return UnavailableError(f"{sentence}{unknown} It is tried again.")
    return RefusedError(f"{sentence} {_for_a_person(said, remedy)}".rstrip())


def cannot(error: Exception, *, doing: str) -> str:
    """What was tried and what Azure answered, in one sentence, for whoever adds what it means."""
    return f"Cannot {doing}: {_who_answered(error, what_azure_said(error))}."


def is_passing(error: BaseException) -> bool:
    """Whether the same call may well work a moment later: a broken connection, a hiccup of the service."""
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return "timeout" not in type(error).__name__.casefold()
    return isinstance(error, HttpResponseError) and error.status_code in PASSING


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an SDK's exception, None where it has none."""
    return error.status_code if isinstance(error, HttpResponseError) else None


def what_azure_said(error: Exception) -> Said:
    """Status, code and message of an SDK's exception, from the body where there is one."""
    if not isinstance(error, HttpResponseError):
        return Said(status=None, code="", message=_plain(str(error)))
    code, message = _from_body(error)
    return Said(status=error.status_code, code=code, message=_plain(message))


def retry_after(error: BaseException) -> float | None:
    """The seconds that Azure asked us to wait; None where it did not say (or gave a date, which it does not do)."""
    response = getattr(error, "response", None)
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    for name, unit in (("retry-after-ms", 1000.0), ("x-ms-retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = headers.get(name)
        if value and re.fullmatch(r"\d+(\.\d+)?", value.strip()):
            return min(float(value) / unit, MAX_RETRY_AFTER)
    return None


def _time_heals(error: Exception, said: Said) -> bool:
    if _is_about_a_token(error, said):
        return not _REFUSED_TOKEN.search(said.message)
    if said.status is None:
        return not _is_from_azure_ml(error)
    return said.status == 408 or said.status >= 500 or (said.status < 400 and said.code in PASSING_CODES | {""})


def _is_about_a_token(error: Exception, said: Said) -> bool:
    return isinstance(error, ClientAuthenticationError) and said.status is None


def _who_answered(error: Exception, said: Said) -> str:
    if isinstance(error, ServiceRequestError | ServiceResponseError):
        return f"no answer from Azure ({said.message})"
    if _is_about_a_token(error, said):
        return f"no token for this identity ({said.message})"
    if isinstance(error, HttpResponseError) and said.status is not None:
        return f"Azure answered {said}"
    if isinstance(error, HttpResponseError) or not isinstance(error, AzureError):
        return f"Azure's answer could not be read ({type(error).__name__}: {said.message})"
    return f"azure-ai-ml refused ({said.message})" if _is_from_azure_ml(error) else said.message


def _for_a_person(said: Said, remedy: str) -> str:
    if said.status in {401, 403}:
        return f"{remedy} A new role assignment can take an hour to arrive."
    return remedy if said.status == 404 else ""


def _is_from_azure_ml(error: Exception) -> bool:
    return type(error).__module__.startswith("azure.ai.ml")


def _from_body(error: HttpResponseError) -> tuple[str, str]:
    body = _json_body(error)
    if body is None:
        code = getattr(error.error, "code", None) or ""
        return str(code), str(getattr(error.error, "message", None) or _first_line(error.message))
    inner = body.get("error", body)
    if not isinstance(inner, dict):
        return str(inner), str(body.get("error_description", ""))
    return str(inner.get("code") or ""), _all_messages(inner)


def _json_body(error: HttpResponseError) -> dict[str, Any] | None:
    try:
        body = json.loads(error.response.text()) if error.response is not None else None
    except Exception:  # whatever a broken body raises, it only costs Azure's own words
        return None
    return body if isinstance(body, dict) and ("error" in body or "code" in body) else None


def _all_messages(error: Mapping[str, Any]) -> str:
    """The message, and what stands behind it: Azure ML puts the cause in `details`, Log Analytics in `innererror`."""
    details = error.get("details")
    behind = [*(details if isinstance(details, list) else []), error.get("innererror")]
    messages = [
        _unwrapped(str(error.get("message") or "")),
        *(_all_messages(part) for part in behind if isinstance(part, dict)),
    ]
    kept = dict.fromkeys(message.strip().rstrip(".") for message in messages if message.strip())
    return "; ".join(kept)


def _unwrapped(message: str) -> str:
    """A message without the JSON that the inference service's own refusals come in: only what it says of which field."""
    found = _WRAPPED.search(message)
    if found is None:
        return message
    try:
        inner, _ = json.JSONDecoder().raw_decode(found[1])
    except ValueError:
        return message
    errors = inner.get("errors")
    if isinstance(errors, dict):
        told = [
            f"{field}: {text}" if field else str(text) for field, texts in errors.items() for text in _listed(texts)
        ]
        return "; ".join(told) or message
    return str(inner.get("detail") or inner.get("title") or message)


def _listed(texts: Any) -> list[Any]:
    return texts if isinstance(texts, list) else [texts]


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""


def _plain(text: str) -> str:
    text = _SECRET.sub("***", " ".join(text.split())).rstrip(".")
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"
