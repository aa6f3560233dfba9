"""The ways back from a policy: the effective YAML, and the JSON Schema that editors read.

The rule: what is written here is read back by `parse_policy` as the same policy.
"""

from typing import Any

import yaml
from pydantic import BaseModel

from rollout.documents.text import parse_scalar
from rollout.documents.units import format_share
from rollout.policy.checks import AnswerSizeCheck, Checks, ClientErrorCheck, CustomCheck, ErrorCheck, LatencyCheck
from rollout.policy.manifest import WrittenCandidate
from rollout.policy.model import Approval, Doubt, Expert, NoData, Policy, When
from rollout.policy.probes import WrittenProbes
from rollout.policy.smoke import WrittenSmokeTest
from rollout.policy.triggers import ScheduleTrigger, WrittenTrigger
from rollout.policy.waves import Waves
from rollout.policy.windows import Windows
from rollout.policy.written import DEFAULT_STEPS, PolicyFile

_PARTS = (
    AnswerSizeCheck,
    Approval,
    Checks,
    ClientErrorCheck,
    Doubt,
    ErrorCheck,
    Expert,
    LatencyCheck,
    NoData,
    When,
    Windows,
    WrittenCandidate,
    WrittenProbes,
    WrittenSmokeTest,
    WrittenTrigger,
)

_ORDER = (
    "name",
    "description",
    "workspace",
    "endpoint_name",
    "waves",
    "mode",
    "stable",
    "candidate",
    "trigger",
    "first_step",
    "steps",
    "holdback",
    "checks",
    "min_requests",
    "capacity",
    "when",
    "smoke_test",
    "probes",
    "windows",
    "deadline",
    "after",
    "alerts",
    "runbook",
    "expert",
)


def effective_yaml(policy: Policy) -> str:
    """The policy with everything that its file left to defaults, as a file."""
    dumped = _without_nulls(policy.model_dump(mode="json"))
    own = dumped["checks"].pop("custom")
    dumped["checks"] |= {"custom": [{"name": check.pop("name"), **check} for check in own]} if own else {}
    if manifest := dumped.pop("manifest", None):
        dumped["candidate"] = {key: manifest[key] for key in ("name", "text")}
    if template := dumped.get("trigger", {}).get("model", {}).get("deployment"):
        dumped["trigger"]["model"]["deployment"] = {key: template[key] for key in ("names", "text")}
    dumped["steps"] = dumped.pop("mirror") + [item for step in dumped["steps"] for item in _items(step)]
    if policy.waves is not None:
        del dumped["endpoint_name"]
    written = {name: dumped[name] for name in _ORDER if dumped.get(name, "") != ""}
    return yaml.dump(written, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)


def _without_nulls(value: Any) -> Any:
    """What is not written needs no line."""
    if isinstance(value, dict):
        return {name: _without_nulls(found) for name, found in value.items() if found is not None}
    return [_without_nulls(found) for found in value] if isinstance(value, list) else value


def _items(step: dict[str, Any]) -> list[dict[str, Any]]:
    """A step as people write it: its approval on a line of its own before it."""
    approve = {name: value for name, value in step.pop("approve", {}).items() if value != []}
    return [{"approve": approve}, step] if approve else [step]


class _Dumper(yaml.SafeDumper):
    """Writes what `rollout.documents` reads; repeats what is equal instead of pointing at it."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """PyYAML leaves `08` and `1e3` plain, which read back as numbers; lines stay lines."""
        style = "|" if "\n" in data else None if isinstance(parse_scalar(data), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


_Dumper.add_representer(str, _Dumper.represent_str)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a policy file.

    It accepts what `parse_policy` accepts, but for what a schema cannot say: that shares rise, that bakes fit into the
    deadline, and bounds of durations.
    """
    from pydantic.json_schema import GenerateJsonSchema

    class Generate(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - the signature is pydantic's
            return False

    schema = PolicyFile.model_json_schema(by_alias=True, schema_generator=Generate)
    for model in _PARTS:
        _write_defaults(schema["$defs"][model.__name__], model.model_construct())
    _write_defaults(schema["$defs"]["CustomCheck"], CustomCheck.model_construct(name=""))
    _write_defaults(schema["$defs"]["ScheduleTrigger"], ScheduleTrigger.model_construct(expression=""))
    _write_defaults(schema["$defs"]["Waves"], Waves.model_construct(order=()))
    _write_defaults(schema, PolicyFile.model_construct(endpoint_name=""))
    schema["required"].remove("endpoint_name")
    one_of = [{"required": ["endpoint_name"]}, {"required": ["waves", "name"]}]
    schema["anyOf"] = one_of
    schema["properties"]["steps"]["default"] = [format_share(step.traffic or 0) for step in DEFAULT_STEPS]
    return {"$schema": Generate.schema_dialect, **schema, "title": "Rollout policy"}


def _write_defaults(schema: dict[str, Any], example: BaseModel) -> None:
    """Defaults as people would write them: editors insert them."""
    with_default = {name for name, field in type(example).model_fields.items() if not field.is_required()}
    written = _without_nulls(example.model_dump(mode="json", include=with_default))
    for name, shape in schema["properties"].items():
        shape.pop("default", None)
        if name in written:
            shape["default"] = written[name]
