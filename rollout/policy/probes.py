"""Probes: sample requests that are sent to both deployments by name, beside the live traffic.

The rule: a policy holds the requests themselves (JSON texts, sent as they stand); a file names where they are.
"""

import json
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StrictInt, WithJsonSchema, model_validator

from rollout.documents.models import BUILT, Model
from rollout.documents.units import parse_milliseconds, show
from rollout.policy.attached import MAX_FILES, Attached

PER_MINUTE, TIMEOUT = 60, timedelta(seconds=4)
LEAST_TIMEOUT, MOST_TIMEOUT = timedelta(milliseconds=100), timedelta(seconds=60)


def _is_json(text: str) -> str:
    """JSON as it is sent, without the blank lines around it."""
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        why = (
            f"line {error.lineno}, column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "it is too deep"
        )
        raise ValueError(f"is not JSON ({why}): a request is sent as JSON") from None  # what it holds stays out of logs
    return text.strip()


def _timeout(value: object) -> timedelta:
    found = value if isinstance(value, timedelta) else timedelta(milliseconds=parse_milliseconds(value))
    if not LEAST_TIMEOUT <= found <= MOST_TIMEOUT:
        raise ValueError(f"{show(value)} is out of range: write between 100ms and 60s")
    return found


def written_timeout(value: timedelta) -> str:
    """As people write it: `800ms`, `4s`."""
    milliseconds = value // timedelta(milliseconds=1)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


Request = Annotated[str, AfterValidator(_is_json)]
Timeout = Annotated[
    timedelta,
    BeforeValidator(_timeout),
    PlainSerializer(written_timeout, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,6}(?:\.\d{1,6})? ?m?s$", "examples": ["4s"]}),
]


class Pace(Model):
    """How often probes are sent, and how long an answer may take."""

    per_minute: StrictInt = Field(
        default=PER_MINUTE, ge=6, le=240, description="Pairs of requests a minute, one to each deployment"
    )
    timeout: Timeout = Field(default=TIMEOUT, description="What takes longer counts as bad", examples=["4s"])


class Probes(Pace):
    """Sample requests as they are sent, in turn."""

    model_config = BUILT

    requests: tuple[Request, ...] = Field(min_length=1, max_length=MAX_FILES)


class WrittenRequests(Model):
    """Sample requests: in files beside the policy, or as they stand."""

    request_file: Annotated[Attached, AfterValidator(_is_json)] | None = Field(
        default=None, description="A request as JSON, in a file beside the policy", examples=["requests/sample.json"]
    )
    request_files: tuple[Annotated[Attached, AfterValidator(_is_json)], ...] | None = Field(
        default=None, max_length=MAX_FILES, description="Several of them, sent in turn"
    )
    requests: tuple[Request, ...] | None = Field(
        default=None, max_length=MAX_FILES, description="The requests themselves, each as JSON in quotes"
    )

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        given = [value for value in (self.request_file, self.request_files, self.requests) if value]
        if len(given) != 1:
            what = "has no request" if not given else "has its requests in two places"
            raise ValueError(f"{what}: write either request_file, request_files or requests")
        return self

    def found(self) -> tuple[str, ...]:
        """The requests, wherever they were written."""
        alone = (self.request_file,) if self.request_file is not None else ()
        return alone or self.request_files or self.requests or ()


class WrittenProbes(WrittenRequests, Pace):
    """Sample requests that are sent to both deployments by name, in pairs, beside the live traffic."""

    def probes(self) -> Probes:
        """What this means."""
        return Probes(requests=self.found(), per_minute=self.per_minute, timeout=self.timeout)
