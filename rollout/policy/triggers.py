"""Triggers: what starts a policy's rollouts without being asked.

The rule: a trigger says what is waited for, never what is done then: that is the rest of the policy. An expression means
what it means to cron (weekday 0 is Sunday), and what two crons would read differently is refused.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from rollout.documents.models import BUILT, Model
from rollout.documents.names import Name
from rollout.documents.units import show
from rollout.policy.templates import Template, WrittenTemplate

#: Azure's limit for tags.
MAX_TAGS = 50
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

#: The five fields of cron, with their least and greatest number, and their names.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("", *MONTHS)),
    ("weekday", 0, 7, (*WEEKDAYS, "sun")),
)
_PART = re.compile(r"(?P<first>\*|[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?(?:/(?P<every>\d{1,2}))?")
_EXAMPLE = '"0 10 * * mon-thu"'


def _cron(value: str) -> str:
    """Five fields in lower case with single spaces. Raises ValueError."""
    fields = value.lower().split()
    if len(fields) != len(_FIELDS):
        what = "minute, hour, day of the month, month and weekday"
        raise ValueError(f"{show(value)} has {len(fields)} fields, not five: write {what}, such as {_EXAMPLE}")
    for text, (name, least, most, names) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            _check_part(part, name, (least, most), names)
    if fields[2] != "*" and fields[4] != "*":
        raise ValueError(
            f"{show(value)} names days of the month and weekdays: crons differ about what that means; write one of them"
        )
    return " ".join(fields)


def _check_part(part: str, name: str, limits: tuple[int, int], names: tuple[str, ...]) -> None:
    found = _PART.fullmatch(part)
    if found is None or (found["first"] == "*" and found["last"]):
        raise ValueError(f"{show(part)} is no {name}: write one such as in {_EXAMPLE}")
    ends = [_number(end, name, limits, names) for end in (found["first"], found["last"]) if end not in {None, "*"}]
    if name == "weekday" and found["last"] == "sun":
        ends[-1] = 7  # a week may end with it, as in fri-sun
    if len(ends) == 2 and ends[0] > ends[1]:
        raise ValueError(f"{show(part)} runs backwards: write the smaller {name} first, or two ranges with a comma")
    if found["every"] and int(found["every"]) == 0:
        raise ValueError(f"{show(part)} is every 0th {name}: write 1 or more after the slash")
    if found["every"] and len(ends) == 1:
        raise ValueError(f"{show(part)} has no end: write `*/{found['every']}`, or a range before the slash")
    least, most = ends if len(ends) == 2 else limits
    if found["every"] and int(found["every"]) > most - least:
        raise ValueError(f"{show(part)} is one {name} only, the first: write {least} instead")


def _number(text: str, name: str, limits: tuple[int, int], names: tuple[str, ...]) -> int:
    number = int(text) if text.isdigit() else names.index(text) if text in names else -1
    if not limits[0] <= number <= limits[1]:
        also = f", or {names[1]} to {names[-1] if name == 'month' else 'sat'}" if names else ""
        raise ValueError(f"{show(text)} is no {name}: write {limits[0]} to {limits[1]}{also}")
    return number


def _zone(value: str) -> str:
    """A time zone of the IANA database. Raises ValueError."""
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError):  # not there; not a name; a folder of it
        raise ValueError(f"{show(value)} is no time zone: write one such as Europe/Paris, or UTC") from None
    return value


Tags = Annotated[dict[str, str], Field(min_length=1, max_length=MAX_TAGS)]


class DeploymentTrigger(Model):
    """A deployment with these tags appears without traffic."""

    tags: Tags = Field(description="The tags that it must have", examples=[{"rollout": "auto"}])


class ScheduleTrigger(Model):
    """A time has come, and a deployment waits without traffic that was never rolled out."""

    type: Literal["cron"] = Field(default="cron", description="How `expression` is written")
    expression: Annotated[str, AfterValidator(_cron)] = Field(
        description="Minute, hour, day of the month, month, weekday", examples=["0 10 * * mon-thu"]
    )
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="A time zone of the IANA database", examples=["Europe/Paris"]
    )


class SoughtModel(Model):
    """A version of a registered model, with this stage and these tags."""

    name: Name = Field(description="The registered model", examples=["recommender"])
    registry: Name | None = Field(default=None, description="The registry that it is in; the workspace by default")
    stage: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="The stage that the version must have", examples=["Production"]
    )
    tags: Tags | None = Field(
        default=None, description="The tags that the version must have", examples=[{"approved": "true"}]
    )


class ModelTrigger(SoughtModel):
    """The same, with the deployment that serves it."""

    deployment: Template


class WrittenModelTrigger(SoughtModel):
    """A version of a registered model appears with this stage and these tags: the next deployment is created with it."""

    deployment: WrittenTemplate = Field(description="The deployment that is created with it")


class AnyTrigger(Model):
    """What starts a rollout without being asked; `rollout start` always works."""

    deployment: DeploymentTrigger | None = Field(
        default=None, description="A deployment with these tags appears without traffic"
    )
    schedule: ScheduleTrigger | None = Field(
        default=None, description="At these times, what waits without traffic is rolled out"
    )
    when_busy: Literal["queue", "replace", "refuse"] = Field(
        default="queue",
        description="While a rollout runs: queue: the newest waits; replace: the running one is rolled back first;"
        " refuse: it is told, and not started",
    )

    @model_validator(mode="after")
    def _waits_for_something(self) -> Self:
        if not any(getattr(self, kind) for kind in KINDS):
            raise ValueError("waits for nothing: write `deployment`, such as `deployment: {tags: {rollout: auto}}`")
        return self

    @property
    def finds_candidate(self) -> bool:
        """A model's deployment has the name that is free then."""
        return getattr(self, "model", None) is not None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        full = handler.resolve_ref_schema(handler(schema))
        full["anyOf"] = [{"required": [kind]} for kind in KINDS]
        return full


class Trigger(AnyTrigger):
    """As it is judged and pinned."""

    model_config = BUILT

    model: ModelTrigger | None = None


class WrittenTrigger(AnyTrigger):
    """What starts a rollout without being asked; `rollout start` always works."""

    model: WrittenModelTrigger | None = Field(
        default=None, description="A model version appears: the next deployment is created with it, and rolled out"
    )

    def trigger(self, *, folder: str | None) -> Trigger:
        """What this means; `folder` is where the policy's own file lies."""
        model = None
        if self.model is not None:
            same = {name: getattr(self.model, name) for name in SoughtModel.model_fields}
            model = ModelTrigger(**same, deployment=self.model.deployment.template(folder=folder))
        return Trigger(deployment=self.deployment, schedule=self.schedule, when_busy=self.when_busy, model=model)


#: The kinds of triggers, as they stand in a policy.
KINDS = ("deployment", "model", "schedule")


def tagged(tags: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether all wanted tags are there: their names in any case, as in Azure, their values as written."""
    found = {name.casefold(): value for name, value in tags.items()}
    return all(found.get(name.casefold()) == value for name, value in wanted.items())
