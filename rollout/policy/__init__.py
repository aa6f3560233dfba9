"""Policies: how a rollout is to be done, as its author wrote it.

`model.py` holds the `Policy` that is judged and pinned to each rollout, `written.py` the form that people write and
how one becomes the other, `render.py` the ways back: the effective YAML and the JSON Schema. The rule: a policy is
read once, at the door, with every mistake at once; from there on it is a frozen value without open questions.
"""

from rollout.policy.advice import advice
from rollout.policy.attached import Files
from rollout.policy.capacity import Capacity
from rollout.policy.checks import (
    QUANTILES,
    AnswerSizeCheck,
    Checks,
    ClientErrorCheck,
    CustomCheck,
    ErrorCheck,
    LatencyCheck,
)
from rollout.policy.manifest import Manifest
from rollout.policy.mirror import MirrorStep
from rollout.policy.model import (
    Approval,
    Doubt,
    Expert,
    NoData,
    Policy,
    Step,
    When,
)
from rollout.policy.probes import Probes
from rollout.policy.render import effective_yaml, json_schema
from rollout.policy.smoke import SmokeTest
from rollout.policy.triggers import DeploymentTrigger, ScheduleTrigger, Trigger
from rollout.policy.waves import Target, Waves, first_of, policy_of
from rollout.policy.windows import Windows
from rollout.policy.written import parse_policy

__all__ = [
    "QUANTILES",
    "AnswerSizeCheck",
    "Approval",
    "Capacity",
    "Checks",
    "ClientErrorCheck",
    "CustomCheck",
    "DeploymentTrigger",
    "Doubt",
    "ErrorCheck",
    "Expert",
    "Files",
    "LatencyCheck",
    "Manifest",
    "MirrorStep",
    "NoData",
    "Policy",
    "Probes",
    "ScheduleTrigger",
    "SmokeTest",
    "Step",
    "Target",
    "Trigger",
    "Waves",
    "When",
    "Windows",
    "advice",
    "effective_yaml",
    "first_of",
    "json_schema",
    "parse_policy",
    "policy_of",
]
