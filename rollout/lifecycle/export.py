"""Exports: a rollout in one JSON document that can be judged again anywhere.

The rule: the document names its format and version; what a newer version wrote is refused, never guessed at. Nothing in
it is secret: cells are counts, a policy holds no secrets, and the deployment's file that it may bring, with its environment
variables, is left out.

Keys: `format` ("rollout-export") · `version` (1) · `judge` (the version of the judge's memory) · `rollout` {id endpoint
workspace stable candidate phase sentence created_at created_by} · `policy` (with all its defaults) · `exhibits`: one for
each look of the judge {at, stage {step traffic started since bake retreated_since holdback instances}, sources [{source
closed_before steady read_at baseline candidate}], begun, whole}; cells stand under their minute since the epoch as class
-> bucket -> count, told as differences from the exhibit before (null: gone), all of them where `whole` · `events` {at kind
sentence severity details}.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from rollout.analysis.exhibits import Exhibit
from rollout.analysis.judgement import VERSION as JUDGE
from rollout.errors import PolicyError
from rollout.lifecycle.rollout import Rollout
from rollout.policy import Policy
from rollout.world import Event

FORMAT: Literal["rollout-export"] = "rollout-export"
VERSION: Literal[1] = 1


@dataclass(frozen=True, kw_only=True)
class About:
    """Which rollout it was."""

    id: str
    endpoint: str
    workspace: str
    stable: str | None
    candidate: str | None
    phase: str
    sentence: str
    created_at: datetime
    created_by: str


@dataclass(frozen=True, kw_only=True)
class Export:
    """A rollout with everything that it was judged on."""

    format: Literal["rollout-export"]
    version: Literal[1]
    judge: int
    rollout: About
    policy: Policy
    exhibits: tuple[Exhibit, ...]
    events: tuple[Event, ...]


_EXPORT = TypeAdapter(Export)


def _without_files(policy: Policy) -> Policy:
    """What judging again needs: no deployment is created by it."""
    manifest = policy.manifest and policy.manifest.model_copy(update={"text": "", "folder": None})
    return policy.model_copy(update={"manifest": manifest, "trigger": None})


def export(rollout: Rollout, exhibits: Sequence[Exhibit], events: Sequence[Event]) -> dict[str, Any]:
    """The document, as JSON values. The judge's memory is left out of the events: it is what judging again gives."""
    about = About(
        id=rollout.id,
        endpoint=rollout.ref.name,
        workspace=rollout.ref.workspace,
        stable=rollout.stable,
        candidate=rollout.candidate,
        phase=rollout.phase.value,
        sentence=rollout.sentence,
        created_at=rollout.created_at,
        created_by=rollout.created_by,
    )
    slim = tuple(
        replace(event, details={key: value for key, value in event.details.items() if key != "judgement"})
        for event in events
    )
    document = Export(
        format=FORMAT,
        version=VERSION,
        judge=JUDGE,
        rollout=about,
        policy=_without_files(rollout.policy),
        exhibits=tuple(exhibits),
        events=slim,
    )
    found: dict[str, Any] = _EXPORT.dump_python(document, mode="json")
    return found


def load_export(text: str, *, file: str) -> Export:
    """What `export` gave, as text. Raises PolicyError where it is none, or a newer version's."""
    try:
        return _EXPORT.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=True)
        telling = [one for one in found if one["loc"] in {("format",), ("version",)}]
        raise PolicyError(f"{file}: {_why((telling or found)[0])}") from None


def _why(first: Any) -> str:
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return "it is not JSON: name a file that `rollout export` wrote."
    if where == "version" and first["type"] == "literal_error":
        return f"it is of version {first['input']}, and this one reads version {VERSION}: use the newer Rollout."
    if where in {"", "format", "version"}:
        return "it is not an export: name a file that `rollout export` wrote."
    return f"{where}: {first['msg']}: this is not what `rollout export` wrote."
