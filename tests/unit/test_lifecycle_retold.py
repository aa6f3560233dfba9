"""What is kept of a rollout tells it again: explained, exported, and judged once more, without a daemon."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter

from rollout.analysis.exhibits import Recorder
from rollout.analysis.verdict import Reason, Verdict, begin
from rollout.errors import PolicyError, RefusedError
from rollout.lifecycle import Phase, advance
from rollout.lifecycle.evidence import with_evidence
from rollout.lifecycle.explain import FORGOTTEN, Explanation, explain
from rollout.lifecycle.export import Export, export, load_export
from rollout.lifecycle.replaying import AS_IT_WAS, judge_again
from rollout.policy import Checks, ErrorCheck, Manifest, Policy, Trigger
from rollout.policy.templates import Template
from rollout.policy.triggers import ModelTrigger
from rollout.world import Event
from tests.support.judging import START, cell, logs, stage
from tests.support.lives import FAIL, at_step, policy, verdict
from tests.support.played import Played, played

Sites = tuple[Played, Played]


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Gets worse in its second step, and is rolled back."""
    site = played(tmp_path_factory.mktemp("bad"), worse_after=12)
    yield site
    site.store.close()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Is promoted."""
    site = played(tmp_path_factory.mktemp("good"))
    yield site
    site.store.close()


def explained(site: Played, **asked: Any) -> Explanation:
    return explain(site.rollout, site.store.exhibits("r1"), site.history, **asked)


def exported(site: Played) -> Export:
    written = json.dumps(export(site.rollout, site.store.exhibits("r1"), site.history))
    return load_export(written, file="rollout.json")


# --- explain -------------------------------------------------------------------------------------------------------


def test_the_last_verdict_is_explained_from_every_look_before_it(bad: Played) -> None:
    found = explained(bad)
    assert (found.verdict, found.at) == (bad.rollout.verdict, found.points[-1].at)
    assert found.stage is not None
    assert (found.stage.step, found.stage) == (1, found.points[-1].stage)
    assert [point.at for point in found.points] == [exhibit.at for exhibit in bad.store.exhibits("r1")]
    assert found.forgotten is None
    assert found.rollout == bad.rollout
    assert any("fewer bad requests on green" in sentence for sentence in found.what_if)


def test_both_rates_stand_in_their_intervals_and_speak_of_the_minutes_that_failed_it(bad: Played) -> None:
    found = explained(bad)
    errors = found.measured[0]
    assert [one.finding for one in found.measured] == list(found.verdict.findings)
    assert errors.baseline is not None
    assert errors.candidate is not None
    for (low, high), rate in ((errors.baseline, errors.finding.baseline), (errors.candidate, errors.finding.candidate)):
        assert rate.value is not None
        assert low < rate.value < high
    assert errors.candidate[0] > errors.baseline[1]
    latency = next(one for one in found.measured if one.finding.unit == "ms")
    assert latency.baseline is not None
    assert latency.finding.baseline.value is not None
    assert latency.baseline[0] <= latency.finding.baseline.value <= latency.baseline[1]


def test_the_moments_tell_from_the_fault_to_the_end_in_order(bad: Played) -> None:
    found = explained(bad)
    kinds = [moment.kind for moment in found.moments]
    assert kinds == ["fault_began", "suspected", "retreated", "decided", "rolling_back", "rolled_back"]
    assert [moment.at for moment in found.moments] == sorted(moment.at for moment in found.moments)
    began, suspected, retreated, decided, rolling_back, _ = found.moments
    assert found.verdict.first_bad is not None
    assert began.at == datetime.fromtimestamp(found.verdict.first_bad * 60, UTC)
    assert "speak for a fault" in began.sentence
    first = next(point for point in found.points if point.verdict.reason is Reason.SUSPICION)
    assert (suspected.at, suspected.sentence) == (first.at, first.verdict.sentence)
    assert (decided.at, decided.sentence) == (found.at, found.verdict.sentence)
    told = {event.kind: event for event in bad.history}
    assert (retreated.at, retreated.sentence) == (told["retreated"].at, told["retreated"].sentence)
    assert rolling_back.sentence == told["rolling_back"].sentence


def test_a_step_is_explained_by_its_own_verdict_and_without_what_came_after(bad: Played) -> None:
    found = explained(bad, step=0)
    assert found.stage is not None
    assert (found.verdict.action, found.stage.step) == ("pass", 0)
    assert [moment.kind for moment in found.moments] == ["decided"]
    assert len(found.points) < len(explained(bad).points)
    assert found.what_if[0].startswith("Errors: it would have taken about this many more bad requests on green")


def test_a_promotion_is_explained_with_its_end(good: Played) -> None:
    found = explained(good)
    assert (found.verdict.action, found.stage and found.stage.step) == ("pass", 2)
    kinds = [moment.kind for moment in found.moments]
    assert kinds[-3:] == ["decided", "promoting", "succeeded"]
    assert explained(good, step=2).moments == found.moments
    assert [moment.kind for moment in explained(good, step=1).moments][-1] == "decided"


def test_a_retreat_that_ended_is_told_as_resumed(bad: Played) -> None:
    """Of retreats the history tells the beginning and the end, whatever phase the rollout goes back to."""
    at, kinds = (
        bad.history[-1].at,
        ("retreated", "progressing", "progressing", "retreated", "paused", "waiting", "waiting"),
    )
    resumed = [
        Event(at=at + minute * timedelta(minutes=1), kind=kind, sentence=f"Now {kind}.")
        for minute, kind in enumerate(kinds)
    ]
    found = explain(bad.rollout, bad.store.exhibits("r1"), resumed)
    told = [(moment.kind, moment.sentence) for moment in found.moments if moment.sentence.startswith("Now")]
    assert told == [
        ("retreated", "Now retreated."),
        ("resumed", "Now progressing."),
        ("retreated", "Now retreated."),
        ("paused", "Now paused."),
    ]


def test_what_was_forgotten_is_told_from_the_history(bad: Played) -> None:
    whole, found = explained(bad), explain(bad.rollout, (), bad.history)
    assert found.forgotten == FORGOTTEN
    assert found.what_if == ()
    assert (found.verdict, found.at, found.stage) == (whole.verdict, whole.at, whole.stage)
    assert [one.finding for one in found.measured] == list(whole.verdict.findings)
    assert all(one.baseline is None and one.candidate is None for one in found.measured)
    assert {point.at for point in found.points} < {point.at for point in whole.points}
    assert [a != b for a, b in zip(found.points, found.points[1:], strict=False)].count(False) == 0
    step = explain(bad.rollout, (), bad.history, step=0)
    assert (step.verdict.action, step.stage and step.stage.step) == ("pass", 0)


def test_what_cannot_be_explained_says_why(bad: Played) -> None:
    exhibits = bad.store.exhibits("r1")
    with pytest.raises(RefusedError, match=r"Step 3 was not judged; those that were: 1, 2\."):
        explain(bad.rollout, exhibits, bad.history, step=2)
    with pytest.raises(RefusedError, match="Nothing of restaurant-recommender was judged yet: ") as refused:
        explain(bad.rollout, (), ())
    assert bad.rollout.sentence in str(refused.value)
    blind = [
        replace(event, details={key: value for key, value in event.details.items() if key != "stage"})
        for event in bad.history
    ]
    assert explain(bad.rollout, (), blind).stage is None
    with pytest.raises(RefusedError, match="leave --step out"):
        explain(bad.rollout, (), blind, step=0)


# --- what is kept with a decision ----------------------------------------------------------------------------------


def test_every_event_of_a_verdict_carries_it() -> None:
    life = at_step(1)
    seen = life.seen(FAIL)
    decision = advance(life.rollout, seen, life.now)
    assert decision.events
    for before, event in zip(decision.events, with_evidence(decision), strict=True):
        assert event.details["judgement"] == begin(life.policy).dump()
        kept: Any = event.details["verdict"]
        assert (kept["action"], kept["reason"], kept["evidence"]) == ("fail", "regression", 4120.0)
        assert json.loads(json.dumps(event.details)) == event.details
        assert event.details.items() >= before.details.items()
        assert (event.at, event.kind, event.sentence) == (before.at, before.kind, before.sentence)
    assert with_evidence(replace(decision, judged=False)) == decision.events
    unjudged = replace(decision, rollout=replace(decision.rollout, verdict=None))
    assert with_evidence(unjudged) == decision.events
    forgotten = with_evidence(replace(decision, rollout=replace(decision.rollout, judgement=None)))
    assert {event.details["judgement"] for event in forgotten} == {None}


# --- export --------------------------------------------------------------------------------------------------------


def test_an_export_holds_what_the_judge_was_shown_and_what_was_told(bad: Played) -> None:
    found = exported(bad)
    rollout = bad.rollout
    about = found.rollout
    assert (about.id, about.endpoint, about.workspace) == ("r1", rollout.ref.name, rollout.ref.workspace)
    assert (about.stable, about.candidate, about.phase) == ("blue", "green", "rolled_back")
    assert (about.sentence, about.created_at, about.created_by) == (
        rollout.sentence,
        rollout.created_at,
        rollout.created_by,
    )
    assert found.policy == rollout.policy
    assert found.exhibits == tuple(bad.store.exhibits("r1"))
    assert [(event.at, event.kind, event.sentence) for event in found.events] == [
        (event.at, event.kind, event.sentence) for event in bad.history
    ]
    assert any("verdict" in event.details for event in found.events)
    assert not any("judgement" in event.details for event in found.events)
    assert found.judge == begin(rollout.policy).version


def test_an_export_leaves_the_files_of_deployments_out(bad: Played) -> None:
    """They may hold environment variables, and an export is passed on."""
    text = "name: green\nenvironment_variables: {TOKEN: hush}\n"
    template = Template(names=("blue", "green"), text=text)
    trigger = Trigger(model=ModelTrigger(name="recommender", deployment=template))
    policy = bad.rollout.policy.model_copy(update={"manifest": Manifest(name="green", text=text), "trigger": trigger})
    written = json.dumps(export(replace(bad.rollout, policy=policy), bad.store.exhibits("r1"), bad.history))
    assert "hush" not in written
    assert load_export(written, file="rollout.json").policy.manifest is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nothing", "it is not JSON: name a file that `rollout export` wrote."),
        ("{}", "it is not an export: name a file that `rollout export` wrote."),
        ("[]", "it is not an export: name a file that `rollout export` wrote."),
        ('{"format": "other"}', "it is not an export: name a file that `rollout export` wrote."),
        ('{"format": "rollout-export"}', "it is not an export: name a file that `rollout export` wrote."),
        (
            '{"format": "rollout-export", "version": 2}',
            "it is of version 2, and this one reads version 1: use the newer",
        ),
    ],
)
def test_what_is_no_export_is_refused_with_its_reason(text: str, told: str) -> None:
    with pytest.raises(PolicyError) as refused:
        load_export(text, file="here.json")
    assert f"here.json: {told}" in str(refused.value)


def test_a_broken_part_of_an_export_is_named(bad: Played) -> None:
    document = export(bad.rollout, bad.store.exhibits("r1"), bad.history)
    document["rollout"]["created_at"] = "yesterday"
    with pytest.raises(
        PolicyError, match=r"rollout\.json: rollout\.created_at: .*: this is not what `rollout export` wrote"
    ):
        load_export(json.dumps(document), file="rollout.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e400"])
def test_an_export_with_a_number_that_is_none_is_refused(bad: Played, number: str) -> None:
    document = export(bad.rollout, bad.store.exhibits("r1"), bad.history)
    shown = next(one for exhibit in document["exhibits"] for one in exhibit["sources"] if one["baseline"])
    cell = next(iter(shown["baseline"].values()))
    cell["histograms"]["ok"] = {"40": "@"}
    with pytest.raises(PolicyError, match="exhibits"):
        load_export(json.dumps(document).replace('"@"', number), file="rollout.json")


# --- judged again --------------------------------------------------------------------------------------------------


def test_its_own_policy_comes_to_the_same_verdicts(bad: Played) -> None:
    found = judge_again(exported(bad))
    kept = [event for event in bad.history if "verdict" in event.details]
    looks = bad.store.exhibits("r1")
    assert (found["endpoint"], found["id"]) == (bad.rollout.ref.name, "r1")
    assert (found["policy"], found["with"], found["same"], found["notes"]) == ("recommender", None, True, [])
    assert len(found["changes"]) == len({event.at for event in kept} & {look.at for look in looks})
    assert found["sentence"] == (
        f"{len(looks)} looks judged again with the rollout's own policy: all {len(found['changes'])} kept verdicts came out "
        "the same, evidence to 1e-9."
    )
    last = found["verdicts"][-1]
    assert last["action"] == "fail"
    assert last["at"] == looks[-1].at.isoformat()
    assert (last["step"], last["traffic"]) == (2, looks[-1].stage.traffic)
    assert (last["reason"], last["evidence"]) == ("regression", bad.rollout.verdict and bad.rollout.verdict.evidence)
    assert len(found["verdicts"]) == len(looks)
    change = found["changes"][-1]
    assert change["then"] == change["now"] == {key: last[key] for key in ("action", "reason", "evidence", "sentence")}
    assert change["differences"] == []


def test_a_kept_verdict_without_its_look_is_left_out(bad: Played) -> None:
    found = exported(bad)
    kept = next(event for event in found.events if "verdict" in event.details)
    stray = replace(kept, at=kept.at - timedelta(days=1))
    silent = replace(stray, at=found.exhibits[0].at, details={})
    again = judge_again(replace(found, events=(stray, silent, *found.events)))
    assert again == judge_again(found)


def test_minutes_that_are_steady_and_not_closed_are_exhibited() -> None:
    series = logs({START: cell(1)}, {}, closed_before=START + 2, steady=frozenset({START + 1, START + 2, START + 3}))
    at = datetime.fromtimestamp((START + 4) * 60, UTC)
    found = Recorder().exhibit("r1", at=at, stage=stage(), series=[series], begun=None)
    assert found.sources[0].steady == (START + 2, START + 3)


def test_a_verdict_that_comes_out_otherwise_is_named_with_the_numbers(bad: Played) -> None:
    found = exported(bad)
    forged = [dict(event.details) for event in found.events]
    index = next(at for at, event in enumerate(found.events) if "verdict" in event.details)
    kept: Any = forged[index]["verdict"]
    forged[index]["verdict"] = {**kept, "evidence": kept["evidence"] + 1e-6, "action": "fail"}
    events = tuple(replace(event, details=forged[at]) for at, event in enumerate(found.events))
    again = judge_again(replace(found, events=events))
    assert again["same"] is False
    broken = [change for change in again["changes"] if change["differences"]]
    assert len(broken) == 1
    assert broken[0]["differences"][0] == f"action fail and {kept['action']}"
    assert broken[0]["differences"][1].startswith("evidence ")
    assert f"1 of {len(again['changes'])} kept verdicts came out otherwise, the first at " in again["sentence"]
    assert f"{broken[0]['at']} (action fail and {kept['action']}; evidence " in again["sentence"]


def other(**changes: Any) -> Policy:
    return policy(**changes).model_copy(update={"name": "other"})


def test_a_lenient_policy_would_not_have_failed(bad: Played) -> None:
    lenient = other(checks=Checks(error_rate=ErrorCheck(max_increase="20pp")))
    found = judge_again(exported(bad), other=lenient)
    assert (found["with"], found["same"]) == ("other", None)
    assert found["sentence"].startswith(
        "With policy other the candidate would not have failed: the evidence stays at or "
    )
    assert found["sentence"].endswith("and fails at 20.")
    assert found["notes"] == [AS_IT_WAS]
    told = [change["differences"] for change in found["changes"]]
    assert ["fail then, hold now"] in told or ["fail then, retreat now"] in told
    assert all(change["then"]["action"] != change["now"]["action"] for change in found["changes"])
    pairs = [(change["then"]["action"], change["now"]["action"]) for change in found["changes"]]
    looks = len(found["verdicts"])
    assert len(pairs) < looks / 2  # told once while it lasts


def test_the_same_policy_by_another_name_fails_as_it_did(bad: Played) -> None:
    found = judge_again(exported(bad), other=other())
    failed = bad.store.exhibits("r1")[-1].at
    told = f"With policy other the candidate would have failed at {failed:%H:%M:%S} UTC, as it did. "
    assert found["sentence"].startswith(told + "The candidate failed: errors")
    assert found["changes"] == []


def test_a_stricter_policy_fails_earlier_or_where_the_own_did_not(bad: Played, good: Played) -> None:
    impatient = other(when={"suspicion": "hold"})
    found = judge_again(exported(bad), other=impatient)["sentence"]
    failed = bad.store.exhibits("r1")[-1].at
    assert f" UTC, instead of {failed:%H:%M:%S}. The candidate failed: " in found
    lenient = other(checks=Checks(error_rate=ErrorCheck(max_increase="20pp")))
    spared = replace(exported(bad), policy=lenient)
    assert "; with its own it did not. The candidate failed: " in judge_again(spared, other=other())["sentence"]
    assert "would not have failed either: " in judge_again(exported(good), other=other())["sentence"]


def test_what_another_policy_cannot_be_judged_by_is_noted(bad: Played) -> None:
    found = exported(bad)
    elsewhere = other(expert={"evidence": ["logs", "metrics", "probes"]})
    recorded = found.policy.expert.evidence
    missing = [name for name in ("logs", "metrics", "probes") if name not in recorded]
    assert (
        f"Nothing was recorded of {', '.join(missing)}, which other asks for too."
        in judge_again(found, other=elsewhere)["notes"]
    )
    steps = judge_again(found, other=policy(1, 100).model_copy(update={"name": "two"}))["notes"]
    assert steps == [AS_IT_WAS, "The steps of two have other shares: the steps and bakes are the rollout's own."]
    old = judge_again(replace(found, judge=found.judge - 1))["notes"]
    versions = f"judged by a judge of version {found.judge - 1}, this one is of version {found.judge}"
    assert old == [f"It was {versions}: the numbers may differ."]


def test_without_what_was_shown_nothing_is_judged_again(bad: Played) -> None:
    with pytest.raises(RefusedError, match="not kept for this rollout of restaurant-recommender"):
        judge_again(replace(exported(bad), exhibits=()))


def test_a_look_between_two_moments_is_the_only_one_that_counts() -> None:
    """An explanation of a look that saw nothing of its split yet goes back to the one that decided."""
    life = at_step(1)
    assert life.phase is Phase.PROGRESSING
    one, two = verdict("pass", evidence=0.2), verdict("hold", blocks=0)
    history = [
        Event(at=life.now + at * timedelta(minutes=1), kind="progressing", sentence="So.", details={"verdict": given})
        for at, given in enumerate([_plain(one), _plain(two)])
    ]
    found = explain(life.rollout, (), history)
    assert (found.verdict, len(found.points)) == (one, 1)
    alone = explain(life.rollout, (), history[1:])
    assert alone.verdict == two
    started = [_plain(one), _plain(replace(two, blocks=1))]
    later = [replace(event, details={"verdict": given}) for event, given in zip(history, started, strict=True)]
    assert explain(life.rollout, (), later).verdict == replace(two, blocks=1)


def _plain(one: Verdict) -> Any:
    return TypeAdapter(Verdict).dump_python(one, mode="json")
