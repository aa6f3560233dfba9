"""Argo Rollouts: a Rollout with its AnalysisTemplates (argoproj.io/v1alpha1).

The rule: `setWeight` and the pauses after it are a step, a pause without a duration is an approval before the next one,
and a metric's condition is a `max`. How often Argo measures and how many failures it forgives has no place here: every
minute is weighed, and no single one rolls back.
"""

import re
from collections.abc import Mapping

from rollout.documents.units import show
from rollout.policy.importing.draft import Draft, Share, listed
from rollout.policy.importing.node import Node, of_kind
from rollout.policy.importing.thresholds import Threshold, carry

_COMPARED = re.compile(r"(?:result|value)[^<>=!&|]{0,40}?(<=|>=|<|>)\s*(\d{1,12}(?:\.\d{1,12})?)")
_OTHERS = re.compile(r"isNaN|isNil|isInf|default\(|\|\||&&|len\(")

#: Steps of Argo's without a counterpart, and why.
_STEPS: Mapping[str, str] = {
    "setCanaryScale": "deployments are not scaled by a rollout: give the candidate as many instances as stable",
    "setHeaderRoute": "no routing by header; call the candidate with the header azureml-model-deployment instead",
    "setMirrorRoute": "put `- {mirror_traffic: 10%, bake: 10m}` before the first step",
    "experiment": "no experiments; the candidate is compared with stable at every step",
    "plugin": "no plugins",
    "replicaProgressThreshold": "pods are Azure's",
}
#: Fields of a canary strategy without a counterpart, and why.
_CANARY: Mapping[str, str] = {
    "antiAffinity": "pods are Azure's",
    "dynamicStableScale": "stable keeps its instances, for a quick roll back",
    "abortScaleDownDelaySeconds": "the candidate is kept after a roll back",
    "scaleDownDelaySeconds": "stable is kept after a promotion",
}
#: Fields of a metric that are not needed, and why.
_METRIC: Mapping[str, str] = {
    "failureLimit": "not needed: evidence is weighed over all minutes, and no single one rolls back",
    "consecutiveSuccessLimit": "not needed: a step passes early once it is proven not worse",
    "inconclusiveLimit": "not needed: `when.doubt` says what follows when a bake ends without an answer",
    "consecutiveErrorLimit": "not needed: a silent source holds the share, and `when.no_data` says for how long",
    "count": "not needed: every minute of the bake is judged",
    "initialDelay": "not needed: the first two minutes of a candidate weigh little",
}


def convert(nodes: list[Node]) -> Draft:
    """The draft of a policy. Raises PolicyError."""
    rollouts = of_kind(nodes, "Rollout")
    if not rollouts:
        nodes[0].fail("there is no Rollout in this file: give the one that has the steps, with its AnalysisTemplates")
    if len(rollouts) > 1:
        rollouts[1].fail("a second Rollout: a policy is for one endpoint, so give one at a time")
    rollout, draft = rollouts[0], Draft()
    draft.named(rollout.get("metadata", "name"), what="the Rollout's name")
    strategy = rollout.need("spec", "strategy")
    canary, blue_green = strategy.get("canary"), strategy.get("blueGreen")
    if canary is not None:
        _canary(draft, canary)
    elif blue_green is not None:
        _blue_green(draft, blue_green)
    elif not strategy.has("canary"):
        strategy.fail("has neither `canary` nor `blueGreen`")
    _metrics(draft, of_kind(nodes, "AnalysisTemplate", "ClusterAnalysisTemplate"), _named_templates(strategy))
    return draft


# --- steps


def _canary(draft: Draft, canary: Node) -> None:
    fields = canary.fields()
    for name, why in _CANARY.items():
        if name in fields:
            draft.note(fields[name], why)
    starting = canary.get("analysis", "startingStep") if canary.get("analysis") else None
    if starting is not None:
        draft.note(starting, "not needed: the candidate is judged from its first request on")
    steps = fields.get("steps")
    whole = _whole(canary)
    approve = False
    for step in steps.items() if steps else ():
        approve = _step(draft, step, whole, approve=approve)
    if approve:
        draft.shares.append(Share(traffic=100, approve=True, told="the end, after a pause without a duration"))
    if draft.shares and draft.shares[-1].traffic < 100:
        draft.shares.append(Share(traffic=100, told="Argo ends there by itself, unjudged"))


def _whole(canary: Node) -> int:
    """What Argo calls all of the traffic: 100, or finer where the router allows."""
    found = canary.get("trafficRouting", "maxTrafficWeight")
    if found is None:
        return 100
    if not 1 <= found.number() <= 1_000_000_000 or found.number() % 1:
        found.fail(f"{show(found.value)} is not a whole number from 1 up")
    return int(found.number())


def _step(draft: Draft, step: Node, whole: int, *, approve: bool) -> bool:
    """Take in a step; True where the next share waits for an approval."""
    known = False
    if step.has("setWeight"):
        known = True
        weight = step.need("setWeight")
        if _weigh(draft, weight, whole, approve=approve):
            approve = False
    if step.has("pause"):
        known = True
        approve = _pause(draft, step, approve=approve)
    if step.has("analysis"):
        known = True
        draft.note(step.get("analysis"), "an analysis as a step: not needed, every step is judged while it bakes")
    for name, why in _STEPS.items():
        if step.has(name):
            known = True
            draft.note(Node(step.document, (*step.path, name), None), why)
    if not known:
        draft.note(step, f"a step that is not known here: {listed(step.fields()) if step.fields() else 'empty'}")
    return approve


def _weigh(draft: Draft, weight: Node, whole: int, *, approve: bool) -> bool:
    number = weight.number()
    if not 0 <= number <= whole:
        weight.fail(f"{show(weight.value)} is not a weight between 0 and {whole}")
    share = round(100 * number / whole)
    if share == 0:
        draft.note(weight, f"a weight of {show(weight.value)}: a step has at least 1%")
        return False
    if 100 * number % whole:
        draft.note(weight, f"{show(weight.value)} of {whole} became {share}%: Azure splits in whole percents")
    draft.shares.append(Share(traffic=share, approve=approve, told=f"setWeight: {show(weight.value)}"))
    return True


def _pause(draft: Draft, step: Node, *, approve: bool) -> bool:
    duration = step.get("pause", "duration") if step.get("pause") is not None else None
    if duration is None:
        return True
    length = duration.duration()
    if not draft.shares:
        draft.note(duration, "a pause before the first weight: nothing would be judged in it")
    elif length:
        last = draft.shares[-1]
        last.bake = draft.baked(length, duration) + (last.bake or length * 0)
        last.told += f", pause: {show(duration.value).strip(chr(34))}"
    return approve


def _blue_green(draft: Draft, blue_green: Node) -> None:
    by_hand = blue_green.get("autoPromotionEnabled")
    approve = by_hand is not None and not by_hand.flag()
    draft.shares.append(Share(traffic=100, approve=approve, told="blueGreen: all at once"))
    draft.note(
        blue_green,
        "all traffic at once leaves only the 5% held back to compare with: think of a small step before it, such as 10%",
    )
    for name in ("prePromotionAnalysis", "postPromotionAnalysis"):
        if blue_green.has(name):
            draft.note(
                blue_green.get(name), "not needed: the candidate is judged on its live traffic until the bake ends"
            )
    if blue_green.has("autoPromotionSeconds"):
        draft.note(blue_green.get("autoPromotionSeconds"), "an approval that is given by time; here it only times out")


# --- metrics


def _named_templates(strategy: Node) -> set[str]:
    """The templates that the strategy names anywhere."""
    found, open_nodes = set(), [strategy.value]
    while open_nodes:
        value = open_nodes.pop()
        if isinstance(value, dict):
            name = value.get("templateName")
            found |= {name} if isinstance(name, str) else set()
            open_nodes += value.values()
        elif isinstance(value, list):
            open_nodes += value
    return found


def _metrics(draft: Draft, templates: list[Node], named: set[str]) -> None:
    there = set()
    for template in templates:
        name = template.get("metadata", "name")
        there.add(name.text() if name else "")
        dry = _dry_runs(template)
        metrics = template.get("spec", "metrics")
        for metric in metrics.items() if metrics else ():
            _metric(draft, metric, dry)
    missing = sorted(named - there)
    if missing:
        draft.note(None, f"the AnalysisTemplates {listed(missing)} are not in this file: their thresholds are unknown")


def _dry_runs(template: Node) -> set[str]:
    dry = template.get("spec", "dryRun")
    return {one.need("metricName").text() for one in dry.items()} if dry else set()


def _metric(draft: Draft, metric: Node, dry: set[str]) -> None:
    named = metric.get("name")
    name = named.text() if named else "a metric without a name"
    for field, why in _METRIC.items():
        if metric.get(field) is not None:
            draft.note(metric.get(field), why)
    if name in dry or ".*" in dry:
        draft.note(
            metric, f"{show(name)} is a dry run, and is left out: a check here may be one too, with `dry_run: true`"
        )
        return
    for field, good in (("successCondition", True), ("failureCondition", False)):
        condition = metric.get(field)
        if condition is not None:
            _condition(draft, metric, condition, name, good=good)
            return
    draft.note(metric, f"{show(name)} has no condition that compares a number: it is not carried over")


def _condition(draft: Draft, metric: Node, condition: Node, name: str, *, good: bool) -> None:
    text = condition.text()
    compared = _COMPARED.findall(text)
    if len(compared) != 1:
        draft.note(condition, f"{show(text)} is more than one comparison with a number: write a check by hand")
        return
    if _OTHERS.search(text):
        draft.note(
            condition, f"of {show(text)} only the comparison: missing data holds the share here, see `when.no_data`"
        )
    sign, number = compared[0]
    query = _query(metric)
    threshold = Threshold(value=float(number), low=sign.startswith(">") == good)
    carry(draft, condition, threshold, name=name, query=query, told=f"{name}: {text}")


def _query(metric: Node) -> str:
    """The query of whatever provider there is."""
    provider = metric.get("provider")
    for one in provider.fields().values() if provider else ():
        found = one.get("query") if isinstance(one.value, dict) else None
        if found is not None and isinstance(found.value, str):
            return found.value
    return ""
