"""What requests carry. The rule: sizes are bounded, unknown keys are refused, every field says what it means."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rollout.policy.attached import MAX_CHARACTERS, MAX_FILES, MAX_NAME
from rollout.world import Verb

MAX_POLICY = 256 * 1024  # characters
FileName = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
FileText = Annotated[str, Field(max_length=MAX_CHARACTERS)]
Who = Annotated[str, Field(min_length=1, max_length=200)]


class Body(BaseModel):
    """Frozen, and nothing in it that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicyBody(Body):
    """A policy: its text, or the name of one that the daemon has loaded."""

    name: Annotated[str | None, Field(max_length=200, description="A policy that the daemon has loaded")] = None
    text: Annotated[str | None, Field(max_length=MAX_POLICY, description="The YAML of a policy")] = None
    file: Annotated[str, Field(max_length=1000, description="What to call the text in messages")] = "policy.yaml"
    files: Annotated[
        dict[FileName, FileText], Field(max_length=MAX_FILES, description="The texts of the files that it names")
    ] = {}

    @model_validator(mode="after")
    def _one(self) -> "PolicyBody":
        if (self.name is None) == (self.text is None):
            raise ValueError("give either `name` or `text`")
        return self

    def sent(self, name: str) -> str:
        """A file that was sent along: never one of the daemon's own. Raises ValueError."""
        if name not in self.files:
            raise ValueError(f'"{name}" cannot be read: it was not sent along with the policy')
        return self.files[name]


class StartBody(Body):
    """Begin a rollout."""

    policy: PolicyBody
    candidate: Annotated[str | None, Field(max_length=64, description="The deployment to move traffic to")] = None
    stable: Annotated[str | None, Field(max_length=64, description="The deployment that serves today")] = None
    endpoint: Annotated[str | None, Field(max_length=200, description="The endpoint that the policy must be about")] = (
        None
    )
    observe: Annotated[bool, Field(description="Judge what people do and never write, whatever the policy says")] = (
        False
    )
    key: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="The same key starts one rollout, however often sent"),
    ] = None
    by: Annotated[Who, Field(description="Who asks")]
    origin: Annotated[Who, Field(description="From where")] = "api"


class UndoBody(Body):
    """Put all traffic back on the stable deployment that was kept after a promotion."""

    by: Annotated[Who, Field(description="Who asks")]
    origin: Annotated[Who, Field(description="From where")] = "api"
    reason: Annotated[str | None, Field(max_length=1000, description="Kept in the history")] = None
    workspace: Annotated[str | None, Field(max_length=200)] = None


class RetryBody(UndoBody):
    """Begin an endpoint's last rollout again."""

    from_step: Annotated[
        int, Field(ge=1, le=50, description="The step to begin with; beyond the first needs a reason")
    ] = 1


class PlanBody(Body):
    """Plan a rollout from the endpoint's last hours."""

    policy: PolicyBody
    hours: Annotated[int, Field(ge=1, le=30 * 24, description="How far back to look")] = 7 * 24


class CommandBody(Body):
    """A wish of a person; the next tick answers it."""

    verb: Verb
    by: Annotated[Who, Field(description="Who asks")]
    origin: Annotated[Who, Field(description="From where")] = "api"
    reason: Annotated[str | None, Field(max_length=1000, description="Kept in the history")] = None
    full: Annotated[bool, Field(description="promote: past all steps")] = False
    drift: Annotated[Literal["adopt", "restore"] | None, Field(description="resume: whose split holds")] = None
    workspace: Annotated[str | None, Field(max_length=200)] = None


class CheckBody(Body):
    """A check of a policy's own."""

    name: Annotated[str, Field(max_length=63, description="What to call it")]
    kql: Annotated[str, Field(max_length=MAX_POLICY, description="Its query")]
    max_increase: Annotated[str, Field(max_length=20, description="In percentage points")] = "1pp"


class TryBody(Body):
    """Run the queries of checks once, over the last hours."""

    endpoint: Annotated[str, Field(min_length=1, max_length=64)]
    workspace: Annotated[str | None, Field(max_length=200)] = None
    checks: Annotated[list[CheckBody], Field(min_length=1, max_length=10)]
    hours: Annotated[int, Field(ge=1, le=24, description="How far back to look")] = 1
