"""Importing: what other tools call a canary, as a policy.

`argo.py`, `flagger.py` and `sagemaker.py` read each tool's own file, `thresholds.py` what its metrics mean, `draft.py`
collects a policy and writes it down. The rule: what is written is a policy that `rollout lint` accepts, and whatever the
other file says that the policy does not is told, with its line and the reason. Mistakes of the file are told as those of
a policy, with file:line:column.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from rollout.documents.units import show
from rollout.errors import PolicyError
from rollout.policy.importing.argo import convert as from_argo
from rollout.policy.importing.draft import Draft
from rollout.policy.importing.flagger import convert as from_flagger
from rollout.policy.importing.node import Node, read_all
from rollout.policy.importing.sagemaker import convert as from_sagemaker
from rollout.policy.written import parse_policy

Tool = Literal["argo", "flagger", "sagemaker"]
TOOLS: Mapping[Tool, Callable[[list[Node]], Draft]] = {
    "argo": from_argo,
    "flagger": from_flagger,
    "sagemaker": from_sagemaker,
}


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A policy's text, and what it does not say that the other file did."""

    text: str
    notes: tuple[str, ...]


def convert(text: str, *, tool: Tool, file: str, endpoint: str | None = None) -> Imported:
    """The policy that another tool's file means; `endpoint` names the Azure ML endpoint, where the file's name is not it.

    Raises PolicyError with file, line and column where the file cannot be read as one of that tool.
    """
    draft = TOOLS[tool](read_all(text, file=file))
    if endpoint is not None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{2,61}", endpoint):
            raise PolicyError(f"{show(endpoint)} is no name of an endpoint: write letters, digits and single dashes.")
        draft.endpoint_name, draft.endpoint_from = endpoint, ""
    written = draft.written(tool=tool, file=file)
    parse_policy(written, file="the policy")
    return Imported(text=written, notes=tuple(draft.told()))
