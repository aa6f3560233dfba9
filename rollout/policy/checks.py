"""The checks of a policy: what is compared between candidate and stable, and what follows where the candidate is worse.

The rule: a check that is left out keeps its default, `off` switches it off; a dry run reports and decides nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    Strict,
    StrictBool,
    ValidationInfo,
    WrapSerializer,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from rollout.documents.mistakes import rule
from rollout.documents.models import Model
from rollout.documents.names import Name
from rollout.documents.units import Increase, Milliseconds, Percent, Points, show
from rollout.policy.queries import AttachedQuery, Query

#: Which quantile of the latency each latency check compares.
QUANTILES = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}
#: The checks that compare requests, in the order in which they are told.
COMPARED = ("error_rate", "client_errors", *QUANTILES)
MAX_CUSTOM = 10  # each is a query of its own, every time that the logs are read

DryRun = Annotated[StrictBool, Field(description="Report what the check sees; it decides nothing")]
OnRegression = Annotated[
    Literal["rollback", "pause", "alert"] | None,
    Field(description="What follows where this check fails the candidate; as `when.regression` says by default"),
]


class ErrorCheck(Model):
    """A rate of errors: candidate against stable, in the same minutes."""

    max_increase: Points = Field(
        default=0.005, description="By how much the candidate's rate may exceed stable's", examples=["0.5pp"]
    )
    max: Percent | None = Field(
        default=None, description="The rate that the candidate may never exceed while stable keeps it", examples=["5%"]
    )
    dry_run: DryRun = False
    on_regression: OnRegression = None


class ClientErrorCheck(ErrorCheck):
    """The rate of client errors: candidate against stable, in the same minutes."""

    max_increase: Points = Field(
        default=0.01, description="By how much the candidate's rate may exceed stable's", examples=["1pp"]
    )


class CustomCheck(ErrorCheck):
    """What a query of your own counts as bad: candidate against stable, in the same minutes."""

    name: Name = Field(description="What the check is called in verdicts", examples=["empty_answers"])
    kql_file: AttachedQuery | None = Field(
        default=None,
        description="A query that returns minute, deployment, n and bad, in a file beside the policy",
        examples=["queries/empty-answers.kql"],
    )
    kql: Query | None = Field(default=None, description="The query itself")
    max_increase: Points = Field(
        default=0.01, description="By how much the candidate's rate may exceed stable's", examples=["1pp"]
    )

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        if (self.kql is None) == (self.kql_file is None):
            what = "has no query" if self.kql is None else "has two queries"
            raise ValueError(f"{what}: write either kql_file or kql")
        return self

    @property
    def query(self) -> str:
        """The text of the query."""
        return self.kql or self.kql_file or ""

    def resolved(self) -> Self:
        """The same with the text of its file."""
        return self.model_copy(update={"kql": self.query, "kql_file": None})


class LatencyCheck(Model):
    """A quantile of the latency: candidate against stable, in the same minutes."""

    max_increase: Increase = Field(
        default=0.25, description="By which part the candidate's latency may exceed stable's", examples=["25%"]
    )
    max: Milliseconds | None = Field(
        default=None,
        description="The latency that the candidate may never exceed while stable keeps it",
        examples=["800ms"],
    )
    dry_run: DryRun = False
    on_regression: OnRegression = None


class AnswerSizeCheck(Model):
    """The median size of good answers: told to people where it is another one, and never decided on."""

    max_change: Annotated[float, Strict()] = Field(
        default=2.0,
        ge=1.1,
        le=100,
        allow_inf_nan=False,
        description="The candidate's median may be this many times stable's, or as many times smaller",
    )
    dry_run: DryRun = Field(default=False, description="Report it in the status, without an alert")


def _read_check(value: object, info: ValidationInfo) -> object:
    """`off` switches a check off; an empty line in a file says nothing, so it is refused there."""
    if isinstance(value, Mapping | BaseModel) or (value is None and not info.context):
        return value
    if value is None:
        raise rule(((), "is empty: write `{max_increase: …}`, or off, or take the line out"))
    if value is False or value == "off":
        return None
    raise ValueError(f"{show(value)} cannot stand here: write `{{max_increase: …}}`, or off")


class _Switch:
    """`off` in the schema, where pydantic would write null."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        return {"anyOf": [{"enum": ["off", False]} if way == {"type": "null"} else way for way in found["anyOf"]]}


def _write_check(value: object, handler: SerializerFunctionWrapHandler) -> object:
    return "off" if value is None else handler(value)


_CHECK = (BeforeValidator(_read_check), WrapSerializer(_write_check, when_used="json"), _Switch())


class Checks(Model):
    """What is compared; a check that is not mentioned keeps its default, `off` switches it off."""

    error_rate: Annotated[ErrorCheck | None, *_CHECK] = Field(
        default=ErrorCheck.model_construct(), description="Server errors, model errors, time-outs and throttling"
    )
    client_errors: Annotated[ClientErrorCheck | None, *_CHECK] = Field(
        default=ClientErrorCheck.model_construct(), description="Requests refused as the caller's fault (4xx)"
    )
    latency_p50: Annotated[LatencyCheck | None, *_CHECK] = Field(default=None, description="The median latency")
    latency_p95: Annotated[LatencyCheck | None, *_CHECK] = Field(
        default=LatencyCheck.model_construct(), description="The latency that 95 % of the requests keep"
    )
    latency_p99: Annotated[LatencyCheck | None, *_CHECK] = Field(
        default=None, description="The latency that 99 % of the requests keep"
    )
    answer_size: Annotated[AnswerSizeCheck | None, *_CHECK] = Field(
        default=None, description="The median size of good answers: sees an error that is sent with status 200"
    )
    custom: tuple[CustomCheck, ...] = Field(
        default=(), max_length=MAX_CUSTOM, description="What queries of your own count as bad"
    )

    @field_validator("custom")
    @classmethod
    def _names_differ(cls, value: tuple[CustomCheck, ...]) -> tuple[CustomCheck, ...]:
        seen = dict.fromkeys(cls.model_fields, "a built-in check")
        broken = []
        for at, check in enumerate(value):
            if other := seen.get(check.name.casefold()):
                message = f"{show(check.name)} is the name of {other}, too: give each check a name of its own"
                broken.append(((at, "name"), message))
            seen.setdefault(check.name.casefold(), "another check")
        if broken:
            raise rule(*broken)
        return value

    @model_validator(mode="after")
    def _something_decides(self) -> Self:
        checks = [*self.active().values(), *self.custom]
        if any(not check.dry_run for check in checks):
            return self
        if not checks:
            raise ValueError("every check is off: leave at least one on")
        raise ValueError("every check is a dry run, so nothing would stop the candidate: let at least one decide")

    def named(self, name: str) -> ErrorCheck | LatencyCheck | None:
        """The check of this name, built in or a query of its own; None where there is none."""
        own = {check.name: check for check in self.custom}
        return self.active().get(name) or own.get(name)

    def active(self) -> dict[str, ErrorCheck | LatencyCheck]:
        """The checks that compare requests and are on, by name, in the order in which they are told."""
        found = {name: getattr(self, name) for name in COMPARED}
        return {name: check for name, check in found.items() if check is not None}
