"""A policy as people write it, and how it becomes the `Policy` that is judged.

The rule: what is not written is filled in here and nowhere else, so that `rollout lint --effective` shows all of it.

- `steps` may be a list of shares (`[5%, 25%, 100%]`), of steps (`{traffic: 5%, bake: 10m}`), with approvals between
  them (`- approve` or `- approve: {timeout: 4h}`); 5 %, 25 %, 50 %, 100 % where it is left out.
- `bake` is that of every step without its own (15m); the last step without its own bakes for 30m, or for `bake` if that
  is longer.
- `first_step` is `auto` (the first minutes run at a share sized from the traffic) where `steps` is left out, else
  `as_written`.
- `probes` add their source to `expert.evidence` where that is not written.
- `endpoint_name` is the first endpoint of the `waves`, where there are any.
- The defaults of the settings lie under the file, field by field; lists are replaced, not joined.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Self

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from rollout.documents.mistakes import collect, in_order, rule
from rollout.documents.models import BUILT, Model
from rollout.documents.names import Name
from rollout.documents.text import Document, Path, read
from rollout.documents.units import SHARE_SCHEMA, Bake, Share
from rollout.errors import PolicyError
from rollout.policy.attached import Attachments, Files
from rollout.policy.checks import Checks, ErrorCheck
from rollout.policy.manifest import Candidate, WrittenCandidate
from rollout.policy.mirror import MirrorShare, MirrorStep
from rollout.policy.model import (
    MAX_STEPS,
    Approval,
    Common,
    Deadline,
    Expert,
    Policy,
    Step,
    broken_shares,
    check_roles,
    long_enough,
)
from rollout.policy.probes import WrittenProbes
from rollout.policy.smoke import WrittenSmokeTest
from rollout.policy.triggers import WrittenTrigger
from rollout.policy.waves import Waves, with_first_endpoint
from rollout.policy.windows import too_long

BAKE = timedelta(minutes=15)
LAST_BAKE = timedelta(minutes=30)

#: Fields and values of later versions, and what to do until then.
LATER: Mapping[str, str] = {}


class WrittenStep(Model):
    """A step with its share, or the approval before the next one."""

    traffic: Share | None = Field(default=None, description="The candidate's share of the live traffic")
    mirror_traffic: MirrorShare | None = Field(
        default=None, description="The share of the live traffic that is copied to the candidate before any is live"
    )
    bake: Bake | None = Field(default=None, description="Minutes of judged data", examples=["10m"])
    approve: Approval | None = Field(default=None, description="A person approves before the next step begins")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if value == "approve":
            return {"approve": {}}
        if isinstance(value, str | int | float):
            return {"traffic": value}
        if isinstance(value, dict) and value.get("approve", ...) is None:
            return {**value, "approve": {}}
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.approve and (self.traffic is not None or self.bake is not None or self.mirror_traffic is not None):
            raise ValueError("an approval is an item of its own: write `- approve` on the line before the step")
        if self.mirror_traffic is not None and self.traffic is not None:
            raise ValueError("Azure mirrors no traffic to a deployment that is live: write two steps, the mirror first")
        if not self.approve and self.traffic is None and self.mirror_traffic is None:
            raise ValueError("has no share of the traffic: write `traffic: 5%`, or `- approve`")
        if self.approve and "by" in self.approve.model_fields_set and not self.approve.by:
            message = (
                "names nobody: write a group of the settings such as [ml-leads], or take `by` out: anybody may approve"
            )
            raise rule((("approve", "by"), message))
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        full = handler.resolve_ref_schema(handler(schema))
        fields = {name: {**shape} for name, shape in full["properties"].items()}
        for shape in fields.values():
            shape.pop("default", None)
        step = {**full, "properties": {name: fields[name] for name in ("traffic", "bake")}, "required": ["traffic"]}
        approval = {**full, "properties": {"approve": fields["approve"]}, "required": ["approve"]}
        copies = {name: fields[name] for name in ("mirror_traffic", "bake")}
        mirror = {**full, "properties": copies, "required": ["mirror_traffic"]}
        return {"anyOf": [SHARE_SCHEMA, {"const": "approve"}, step, mirror, approval]}


DEFAULT_STEPS = tuple(WrittenStep.model_construct(traffic=share) for share in (5, 25, 50, 100))


class PolicyFile(Common):
    """How the traffic of one online endpoint moves to a new deployment, and what stops it."""

    model_config = BUILT

    schema_: str | None = Field(default=None, alias="$schema", description="Where the JSON Schema lies, for editors")
    name: Name | None = Field(default=None, description="What the policy is called; the endpoint's name by default")
    candidate: Candidate = Field(
        default=None,
        description="The deployment that is to serve, or the file that it is created from; by default the one without traffic",
    )
    trigger: WrittenTrigger | None = Field(default=None, description="What starts a rollout without being asked")
    bake: Bake = Field(
        default=BAKE, description="Minutes of judged data for each step that does not say", examples=["15m"]
    )
    steps: tuple[WrittenStep, ...] = Field(
        default=DEFAULT_STEPS,
        max_length=MAX_STEPS,
        description="Rising shares of the live traffic, up to 100%",
        examples=[["5%", "25%", "50%", "100%"]],
    )
    first_step: Literal["auto", "as_written"] | None = Field(
        default=None, description="auto: the first minutes run at a share sized from the traffic"
    )
    smoke_test: WrittenSmokeTest | None = Field(
        default=None, description="Sample requests to both deployments by name before any traffic moves"
    )
    probes: WrittenProbes | None = Field(
        default=None, description="Sample requests to both deployments by name, beside the live traffic"
    )
    deadline: Deadline = Field(
        default=timedelta(hours=8),
        validate_default=True,
        description="Active time after which the rollout pauses",
        examples=["8h"],
    )

    @model_validator(mode="before")
    @classmethod
    def _first_of_the_waves(cls, value: object) -> object:
        return with_first_endpoint(value)

    def _broken_waves(self, waves: Waves) -> Iterator[tuple[Path, str]]:
        yield from super()._broken_waves(waves)
        if self.name is None:
            yield ("name",), "a policy with waves has no endpoint to be called after: write `name: …`"
        if isinstance(self.candidate, WrittenCandidate):
            yield from _broken_for_waves(self.candidate, waves)

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, value: tuple[WrittenStep, ...], info: ValidationInfo) -> tuple[WrittenStep, ...]:
        shares = [(at, step.traffic) for at, step in enumerate(value) if step.traffic is not None]
        broken = [
            *broken_shares(shares, holdback=info.data.get("holdback")),
            *_lost_approvals(value),
            *_late_mirrors(value),
        ]
        if any(step.mirror_traffic for step in value) and info.data.get("mode") == "observe":
            broken.append(((), "`mode: observe` writes nothing: take the `mirror_traffic` steps out"))
        if broken:
            raise rule(*broken)
        return value

    @field_validator("deadline")
    @classmethod
    def _time_enough(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        if "steps" not in info.data or "bake" not in info.data:
            return value  # told already
        return long_enough(value, bakes=[step.bake for step in _resolved(info.data["steps"], bake=info.data["bake"])])

    @field_validator("candidate")
    @classmethod
    def _two_roles(cls, value: WrittenCandidate | str | None, info: ValidationInfo) -> WrittenCandidate | str | None:
        name = value
        if isinstance(value, WrittenCandidate):
            if info.data.get("mode") == "observe":
                raise ValueError("`mode: observe` writes nothing: write the name of a deployment")
            name = value.manifest(endpoint=info.data.get("endpoint_name")).name
        check_roles(stable=info.data.get("stable"), candidate=name if isinstance(name, str) else None)
        return value

    @model_validator(mode="after")
    def _a_model_finds_its_deployment(self) -> Self:
        if self.trigger is None or not self.trigger.finds_candidate:
            return self
        names = {"candidate": self.candidate, "stable": self.stable}
        message = "a model's deployment gets the name without traffic: take this out, or `trigger.model`"
        broken: list[tuple[Path, str]] = [((name,), message) for name, value in names.items() if value is not None]
        if self.mode == "observe":
            broken.append(
                (("mode",), "a model's deployment is created: write `mode: act`, or take `trigger.model` out")
            )
        if broken:
            raise rule(*broken)
        return self

    @model_validator(mode="after")
    def _probes_are_judged(self) -> Self:
        judged = "probes" in self.expert.evidence
        if judged and self.probes is None:
            message = "needs requests to send: write `probes: {request_file: requests/sample.json}`, or take probes out"
            raise rule((("expert", "evidence"), message))
        if self.probes and not judged and "evidence" in self.expert.model_fields_set:
            raise rule(
                (("expert", "evidence"), "probes would be sent and not judged: add probes, or take `probes:` out")
            )
        return self

    @model_validator(mode="after")
    def _something_decides(self) -> Self:
        if not (self.expert.evidence or self.probes or self.checks.custom):
            message = "is empty: write what to judge by, such as [logs, metrics], [metrics] or [probes]"
            raise rule((("expert", "evidence"), message))
        decided_on_metrics = "metrics" in self.expert.evidence and "logs" not in self.expert.evidence
        if decided_on_metrics and not self._metrics_can_decide():
            raise rule(
                (("checks",), "metrics time no requests: leave error_rate on, or give a latency check its `max`")
            )
        return self

    @model_validator(mode="after")
    def _steps_fit_the_windows(self) -> Self:
        at = [index for index, step in enumerate(self.steps) if step.traffic is not None]
        bakes = [step.bake for step in _resolved(self.steps, bake=self.bake)]
        broken = [*too_long(self.windows, list(zip(at, bakes, strict=True)), first_sized=self._sized() == "auto")]
        if broken:
            raise rule(*broken)
        return self

    def _sized(self) -> Literal["auto", "as_written"]:
        return self.first_step or ("auto" if "steps" not in self.model_fields_set else "as_written")

    def _metrics_can_decide(self) -> bool:
        if any(not check.dry_run for check in self.checks.custom):
            return True
        deciding = [check for check in self.checks.active().values() if not check.dry_run]
        return any(isinstance(check, ErrorCheck) or check.max is not None for check in deciding)

    def policy(self, *, folder: str | None = None) -> Policy:
        """The policy that this means; `folder` is where its own file lies, None: it was sent."""
        manifest = None
        if isinstance(self.candidate, WrittenCandidate):
            manifest = self.candidate.manifest(endpoint=self.endpoint_name, folder=folder)
        same = {name: getattr(self, name) for name in Common.model_fields} | {
            "checks": self._checks(),
            "expert": self._expert(),
        }
        return Policy(
            **same,
            name=self.name or self.endpoint_name,
            candidate=manifest.name if manifest else self.candidate,
            manifest=manifest,
            trigger=self.trigger.trigger(folder=folder) if self.trigger else None,
            mirror=_mirror(self.steps, bake=self.bake),
            steps=_resolved(self.steps, bake=self.bake),
            first_step=self._sized(),
            smoke_test=self.smoke_test.smoke_test() if self.smoke_test else None,
            probes=self.probes.probes() if self.probes else None,
            deadline=self.deadline,
        )

    def _checks(self) -> Checks:
        """Queries with the text of their files."""
        return self.checks.model_copy(update={"custom": tuple(check.resolved() for check in self.checks.custom)})

    def _expert(self) -> Expert:
        """Probes that are sent are judged."""
        if self.probes is None or "probes" in self.expert.evidence:
            return self.expert
        return self.expert.model_copy(update={"evidence": (*self.expert.evidence, "probes")})


def _broken_for_waves(candidate: WrittenCandidate, waves: Waves) -> Iterator[tuple[Path, str]]:
    """A deployment's file that is for every endpoint is about none, and no endpoint has a candidate of its own then."""
    for target in waves.targets():
        try:
            candidate.manifest(endpoint=target.endpoint_name)
        except ValidationError as error:
            yield ("candidate",), f"{error.errors()[0]['msg']}, or take `endpoint_name` out of that file"
            break
    for at, wave in enumerate(waves.order):
        for index, target in enumerate(wave):
            if target.candidate is not None:
                message = "the candidate of every endpoint is created from the policy's file: take this line out"
                yield ("waves", "order", at, index, "candidate"), message


def _lost_approvals(steps: Sequence[WrittenStep]) -> list[tuple[Path, str]]:
    """Approvals that no step follows."""
    message = "no step follows this approval: write the step that it is for after it, or take it out"
    following = [*steps[1:], None]
    return [((at,), message) for at, step in enumerate(steps) if step.approve and not _has_traffic(following[at])]


def _late_mirrors(steps: Sequence[WrittenStep]) -> list[tuple[Path, str]]:
    """Mirror steps after the first item that is none."""
    first = next((at for at, step in enumerate(steps) if step.mirror_traffic is None), len(steps))
    message = "comes after live traffic or an approval: Azure mirrors none to a deployment that is live; write it first"
    return [((at, "mirror_traffic"), message) for at, step in enumerate(steps) if step.mirror_traffic and at > first]


def _mirror(steps: Sequence[WrittenStep], *, bake: timedelta) -> tuple[MirrorStep, ...]:
    """The mirror steps with their bakes."""
    mirrors = [step for step in steps if step.mirror_traffic is not None]
    return tuple(MirrorStep(mirror_traffic=step.mirror_traffic or 0, bake=step.bake or bake) for step in mirrors)


def _has_traffic(step: WrittenStep | None) -> bool:
    return step is not None and step.traffic is not None


def _resolved(steps: Sequence[WrittenStep], *, bake: timedelta) -> tuple[Step, ...]:
    """Steps with their bakes, each with the approval that stands before it."""
    found: list[Step] = []
    approve: Approval | None = None
    for at, step in enumerate(steps):
        if step.mirror_traffic is not None:
            continue
        if step.traffic is None:
            approve = step.approve
            continue
        usual = max(bake, LAST_BAKE) if at == len(steps) - 1 else bake
        found.append(Step(traffic=step.traffic, bake=step.bake or usual, approve=approve))
        approve = None
    return tuple(found)


def parse_policy(
    text: str,
    *,
    file: str,
    defaults: Mapping[str, object] | None = None,
    files: Files | None = None,
    folder: str | None = None,
) -> Policy:
    """The policy that a file's text means, over the defaults of the settings.

    `file` is how messages name it; `files` reads the files that it names (see `attached`), None: it may name none. `folder`
    is the folder on this machine in which the file lies, None where it was sent.
    Raises PolicyError with every mistake, in the order of the file.
    """
    document = read(text, file=file)
    if not isinstance(document.value, dict):
        raise PolicyError(mistakes=[*document.mistakes, _not_a_policy(document)])
    document = document.over(defaults or {})
    mistakes = list(document.mistakes)
    try:
        context = {"file": file, "attachments": Attachments(files)}
        written = PolicyFile.model_validate(document.value, context=context)
    except ValidationError as error:
        mistakes += collect(error, document, model=PolicyFile, later=LATER)
    if mistakes:
        raise PolicyError(mistakes=in_order(mistakes))
    return written.policy(folder=folder)


def _not_a_policy(document: Document) -> Any:
    what = "the file is empty" if document.value is None else "a policy is made of fields"
    return document.mistake((), f"{what}: write at least `endpoint_name: …`")
