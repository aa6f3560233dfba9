"""Flagger: a Canary (flagger.app/v1beta1).

The rule: each weight is a step that bakes for one interval, thresholds of metrics are `max`, the confirming webhooks are
approvals. Flagger's count of failed checks has no place here: every minute is weighed, and no single one rolls back.
"""

from collections.abc import Mapping
from datetime import timedelta

from rollout.documents.units import format_duration, show
from rollout.policy.importing.draft import SHORT_BAKE, Draft, Share
from rollout.policy.importing.node import Node, of_kind
from rollout.policy.importing.thresholds import Threshold, carry

USUAL_INTERVAL = timedelta(minutes=1)
#: Fields of the analysis without a counterpart, and why.
_ANALYSIS: Mapping[str, str] = {
    "threshold": "not needed: evidence is weighed over all minutes, and no single one rolls back",
    "mirror": "put `- {mirror_traffic: 10%, bake: 10m}` before the first step",
    "mirrorWeight": "put `- {mirror_traffic: 10%, bake: 10m}` before the first step",
    "match": "no routing by header or cookie; call the candidate with the header azureml-model-deployment instead",
    "stepWeightPromotion": "the last traffic moves at once, when the last bake has ended",
    "sessionAffinity": "Azure has no sticky sessions between deployments",
    "primaryReadyThreshold": "pods are Azure's",
    "canaryReadyThreshold": "pods are Azure's",
    "alerts": "name channels of your settings in `alerts`; their addresses stand in the settings",
}
_SPEC: Mapping[str, str] = {
    "progressDeadlineSeconds": "a deadline of pods; `deadline` is one of the whole rollout",
    "autoscalerRef": "deployments are not scaled by a rollout",
}
_HOOKS: Mapping[str, str] = {
    "confirm-traffic-increase": "an approval before every step; here they stand before the first and the last at most",
    "rollback": "`rollout abort` rolls back at any time",
    "event": "a webhook channel of the settings gets every alert",
    "pre-rollout": "tests before the first step; write a `smoke_test`",
    "rollout": "tests and load while it runs; the candidate is judged on its live traffic",
    "post-rollout": "work afterwards; `rollout start --wait` ends with 0 or 2 for a pipeline to go on from",
}


def convert(nodes: list[Node]) -> Draft:
    """The draft of a policy. Raises PolicyError."""
    canaries = of_kind(nodes, "Canary")
    if not canaries:
        nodes[0].fail("there is no Canary in this file")
    if len(canaries) > 1:
        canaries[1].fail("a second Canary: a policy is for one endpoint, so give one at a time")
    canary, draft = canaries[0], Draft()
    spec = canary.need("spec")
    draft.named(spec.get("targetRef", "name") or canary.get("metadata", "name"), what="the target's name")
    analysis = spec.get("analysis") or spec.get("canaryAnalysis")
    if analysis is None:
        spec.fail("has no `analysis`: this is not a Canary that can be converted")
    _told(draft, spec, _SPEC)
    _told(draft, analysis, _ANALYSIS)
    skip = spec.get("skipAnalysis")
    if skip is not None and skip.flag():
        draft.note(
            skip, "a rollout without a judgement: there is none here; `rollout promote --full` skips what is left"
        )
    interval = _interval(draft, analysis)
    _weights(draft, analysis, interval)
    _hooks(draft, analysis)
    metrics = analysis.get("metrics")
    for metric in metrics.items() if metrics else ():
        _metric(draft, metric, of_kind(nodes, "MetricTemplate"))
    return draft


def _told(draft: Draft, node: Node, fields: Mapping[str, str]) -> None:
    present = node.fields()
    for name, why in fields.items():
        if name in present:
            draft.note(present[name], why)


def _interval(draft: Draft, analysis: Node) -> timedelta:
    found = analysis.get("interval")
    bake = draft.baked(found.duration(), found) if found else USUAL_INTERVAL
    if bake < SHORT_BAKE:
        draft.note(
            found or analysis,
            f"bakes of {format_duration(bake)}, as it was: a step that ends with fewer than `min_requests` is held on, and "
            f"fewer, longer steps ({format_duration(SHORT_BAKE)} and more) show more",
        )
    return bake


def _weights(draft: Draft, analysis: Node, interval: timedelta) -> None:
    listed, step, most = analysis.get("stepWeights"), analysis.get("stepWeight"), analysis.get("maxWeight")
    iterations = analysis.get("iterations")
    if listed is not None:
        for weight in listed.items():
            _share(draft, weight, weight.percent(), interval)
    elif step is not None and step.percent():
        top = most.percent() if most else 100
        for share in [*range(step.percent(), top, step.percent()), top]:
            _share(draft, step, share, interval)
    elif iterations is not None:
        draft.note(iterations, "iterations without live traffic: the candidate is judged on a share of it instead")
        draft.shares.append(Share(traffic=10, bake=draft.baked(interval * _count(iterations), iterations)))
    if draft.shares and draft.shares[-1].traffic < 100:
        draft.shares.append(Share(traffic=100, told="the promotion, which Flagger does not judge"))


def _count(iterations: Node) -> int:
    if not 1 <= iterations.number() <= 10_000 or iterations.number() % 1:
        iterations.fail(f"{show(iterations.value)} is not a whole number from 1 up")
    return int(iterations.number())


def _share(draft: Draft, node: Node, share: int, interval: timedelta) -> None:
    if share == 0:
        draft.note(node, "a weight of 0: a step has at least 1%")
        return
    draft.shares.append(Share(traffic=share, bake=interval))


def _hooks(draft: Draft, analysis: Node) -> None:
    """The confirming webhooks, as approvals."""
    hooks = analysis.get("webhooks")
    for hook in hooks.items() if hooks else ():
        kind = hook.get("type")
        name = kind.text() if kind else "rollout"
        if name in {"confirm-rollout", "confirm-promotion"} and draft.shares:
            at = 0 if name == "confirm-rollout" else -1
            draft.shares[at].approve = True
            draft.note(
                hook, f"{name}: an approval before the {'first' if at == 0 else 'last'} step instead of a webhook"
            )
        else:
            draft.note(hook, f"{show(name)}: {_HOOKS.get(name, 'webhooks of this kind')}")


def _metric(draft: Draft, metric: Node, templates: list[Node]) -> None:
    name = metric.need("name").text()
    bounds = metric.get("thresholdRange")
    low, high = (bounds.get("min"), bounds.get("max")) if bounds else (None, None)
    old = metric.get("threshold")  # before v1beta1: the one bound that the metric has
    if bounds is None and old is not None:
        low, high = (old, None) if name == "request-success-rate" else (None, old)
    if low is None and high is None:
        draft.note(metric, f"{show(name)} has no threshold: it is not carried over")
        return
    # Flagger's own latency metric is the 99th percentile in milliseconds
    query = "histogram_quantile(0.99) _ms" if name == "request-duration" else _query(metric, templates)
    if name == "request-success-rate" and low is not None and low.number() <= 1:
        draft.note(low, "a success rate of 1 % or less: Flagger writes percents, 99 for 99 %")
        return
    for bound, is_low in ((low, True), (high, False)):
        if bound is not None:
            told = f"{name}: {'min' if is_low else 'max'} {show(bound.value)}"
            carry(draft, bound, Threshold(value=bound.number(), low=is_low), name=name, query=query, told=told)


def _query(metric: Node, templates: list[Node]) -> str:
    """The metric's own query, or that of the template that it names."""
    own, named = metric.get("query"), metric.get("templateRef", "name")
    if own is not None:
        return own.text()
    for template in templates:
        name, query = template.get("metadata", "name"), template.get("spec", "query")
        if named is not None and name is not None and query is not None and name.text() == named.text():
            return query.text()
    return ""
