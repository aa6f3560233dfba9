"""The smoke test: what is sent before any traffic moves, what must come back, and who is told."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.errors import PolicyError, UnavailableError
from rollout.lifecycle import Phase
from rollout.policy import Policy, Probes, SmokeTest, effective_yaml, parse_policy
from rollout.ports import Answer
from rollout.prober.shapes import Shape
from rollout.prober.trials import attempts_of, made
from rollout.world import EndpointState, Split, Trial
from tests.support.lives import T0, Life, pin, policy
from tests.support.models import FAILED, GOOD, HUNG, REFUSED, LocalModels
from tests.support.stories import REF, a_policy, a_rollout

ENDPOINT = EndpointState(
    name=REF.name, resource_id="/x", state="Succeeded", traffic=Split.of({"blue": 100}), scoring_uri="https://x/score"
)
TEST = SmokeTest(requests=('{"a": 1}', '{"a": 2}'), count=20, warm_up=3, max_latency=timedelta(milliseconds=800))


def answer(value: object, milliseconds: float = 80.0) -> Answer:
    return replace(GOOD, body=json.dumps(value).encode(), milliseconds=milliseconds)


class Turns(LocalModels):
    """Answers that change from request to request: the last of a row stays."""

    def __init__(self, **rows: list[Answer]) -> None:
        super().__init__()
        self.rows = rows
        self.before = self._next

    def _next(self, name: str) -> None:
        row = self.rows.get(name, [GOOD])
        self.answers[name] = row.pop(0) if len(row) > 1 else row[0]


def tried(models: LocalModels, test: SmokeTest = TEST, **changes: Any) -> Trial:
    asked = a_policy(smoke_test=test, **changes)
    return made(models, ENDPOINT, asked, names=("blue", "green"), now=lambda: T0)


# --- the policy


def test_a_policy_says_what_is_sent_and_what_must_come_back() -> None:
    text = (
        "endpoint_name: diners\n"
        "smoke_test: {request_file: r.json, count: 5, warm_up: 0, max_latency: 800ms, same_shape: false}\n"
    )
    found = parse_policy(text, file="p.yaml", files=lambda _name: '{"a": 1}\n')
    assert found.smoke_test == SmokeTest(
        requests=('{"a": 1}',), count=5, warm_up=0, max_latency=timedelta(milliseconds=800), same_shape=False
    )
    assert parse_policy(effective_yaml(found), file="p.yaml") == found


def test_what_is_not_said_is_twenty_after_ten() -> None:
    found = parse_policy("endpoint_name: diners\nsmoke_test: {requests: ['{}']}\n", file="p.yaml").smoke_test
    assert found is not None
    assert (found.count, found.warm_up, found.max_latency, found.same_shape) == (20, 10, None, True)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{}", "p.yaml:2:13: smoke_test: has no request: write either request_file, request_files or requests"),
        ("{requests: ['{}'], count: 0}", "p.yaml:2:39: smoke_test.count: 0 is out of range: write at least 1"),
        (
            "{requests: ['{}'], max_latency: 5s}",
            'p.yaml:2:45: smoke_test.max_latency: "5s" is longer than `timeout` (4s): raise `timeout`, too',
        ),
    ],
)
def test_mistakes_are_told_at_their_place(written: str, told: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"endpoint_name: diners\nsmoke_test: {written}\n", file="p.yaml")
    assert [str(mistake) for mistake in caught.value.mistakes] == [told]


# --- what is sent, and what must come back


def test_both_are_asked_by_name_in_turn_and_a_good_end_is_told() -> None:
    models = Turns(blue=[answer({"stars": [4.5]})], green=[answer({"stars": [3, 1.5]}, 40.0)])
    trial = tried(models)
    assert (trial.problem, trial.of) == (None, "smoke_test")
    assert trial.told == (
        "green answered 20 of 20 requests of the smoke test, in the shape of blue's: 95th percentile 40 ms (blue: 80 ms)."
    )
    assert len(models.asked) == 2 * (3 + 20)
    assert models.asked[:4] == [
        ("blue", b'{"a": 1}'),
        ("green", b'{"a": 1}'),
        ("blue", b'{"a": 2}'),
        ("green", b'{"a": 2}'),
    ]


def test_what_the_warm_up_answers_does_not_count() -> None:
    cold = [FAILED, HUNG, answer({}, 3000.0)]
    assert tried(Turns(green=[*cold, answer({})], blue=[answer({})])).problem is None


@pytest.mark.parametrize(
    ("rows", "problem", "final"),
    [
        ({"green": [FAILED]}, "green answered 424, the model answered 500 to request 1 of 20 of the smoke test", False),
        ({"blue": [GOOD] * 5 + [HUNG]}, "blue gave no answer within 4 s to request 3 of 20 of the smoke test", False),
        (
            {"green": [GOOD] * 10 + [FAILED]},  # it is up, and fails some
            "green answered 424, the model answered 500 to request 8 of 20 of the smoke test",
            True,
        ),
        (
            {"green": [REFUSED]},
            "green answered 424, the model answered 400: no such column to request 1 of 20 of the smoke test",
            True,
        ),
    ],
)
def test_one_bad_answer_ends_it(rows: dict[str, list[Answer]], problem: str, final: bool) -> None:
    trial = tried(Turns(**rows))
    assert (trial.problem, trial.final) == (problem, final)


@pytest.mark.parametrize(("slow", "passes"), [(1, True), (2, False)])
def test_nineteen_of_twenty_come_in_time(slow: int, passes: bool) -> None:
    row = [GOOD] * (3 + 20 - slow) + [replace(GOOD, milliseconds=900.0)]
    trial = tried(Turns(green=row))
    assert (trial.problem is None) == passes
    if not passes:
        assert trial.final
        assert trial.problem == (
            "green answered the smoke test's requests with a 95th percentile of 900 ms, above `max_latency` 800 ms (blue: 80 ms)"
        )


def test_another_shape_is_told_with_its_place() -> None:
    models = Turns(blue=[answer({"stars": [4.5], "unit": "of 5"})], green=[answer({"stars": ["4.5"], "why": None})])
    trial = tried(models)
    assert trial.final
    assert trial.problem == (
        "green's answers to the smoke test have another shape: $.stars[] is a string, blue's is a number; "
        "$.unit is not there, blue's is a string; $.why is null, blue's is not there"
    )
    assert tried(models, TEST.model_copy(update={"same_shape": False})).problem is None


def test_probes_are_tried_first_and_a_key_that_cannot_be_had_is_told() -> None:
    models = LocalModels({"green": REFUSED})
    first = tried(models, probes=Probes(requests=("{}",)))
    assert (first.of, len(models.asked)) == ("probes", 2)
    locked = tried(LocalModels(broken=UnavailableError("No key.")))
    assert (locked.of, locked.problem, locked.final) == ("smoke_test", "No key", False)


def test_a_candidate_that_was_changed_is_tried_anew() -> None:
    preparing = a_rollout(policy=a_policy(smoke_test=TEST), phase=Phase.PREPARING, share=0)
    first = attempts_of(preparing, None)
    assert first is not None
    assert first.due(0.0)
    assert not first.due(0.0)  # one at a time
    first.took(Trial(at=T0, problem="no", final=True), 1.0)
    assert attempts_of(preparing, first) is first
    assert not first.due(100.0)
    changed = replace(preparing, pins=(pin(), pin("recommender:9")))
    again = attempts_of(changed, first)
    assert again is not None
    assert again.due(100.0)
    assert attempts_of(replace(preparing, phase=Phase.PROGRESSING), first) is None


# --- the shape


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def shape(*values: object) -> Shape:
    found = Shape()
    for value in values:
        found.take(json.dumps(value).encode())
    return found


@given(JSON, JSON)
def test_a_shape_differs_both_ways_or_not_at_all(one: object, other: object) -> None:
    assert list(shape(one).differences(shape(one, one))) == []
    there = {place for place, *_ in shape(one).differences(shape(other))}
    assert there == {place for place, *_ in shape(other).differences(shape(one))}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([1, 2, 3], [0.5], True),
        ([], [1], True),
        ([1], ["1"], False),
        ([[1]], [1], False),
        ({"a": 1}, {"a": None}, False),
        (True, 1, False),
    ],
)
def test_values_and_lengths_are_no_shape(one: object, other: object, same: bool) -> None:
    assert (not list(shape(one).differences(shape(other)))) == same


def test_text_has_a_shape_of_its_own() -> None:
    text = Shape()
    text.take(b"<html>")
    text.take(b"[" * 100_000)
    assert [there for _, _, there in shape({}).differences(text)] == ["text that is not JSON"]


# --- the rollout


def smoking() -> Policy:
    return policy(smoke_test=TEST)


def test_nothing_moves_before_it_is_passed_and_the_first_step_says_how() -> None:
    life = Life(policy=smoking())
    life.tick()
    assert life.last.sentence == "Not started yet: the policy's sample requests are being sent to both deployments."
    assert life.writes == []
    life.facts["trial"] = Trial(at=T0, of="smoke_test", told="green answered 20 of 20 requests of the smoke test.")
    life.tick()
    assert life.phase is Phase.PROGRESSING
    assert life.last.sentence.startswith(
        "blue is stable, green the candidate. green answered 20 of 20 requests of the smoke test. Step 1 of 3 began"
    )


def test_failing_it_ends_the_rollout_with_the_reason() -> None:
    life = Life(policy=smoking())
    life.facts["trial"] = Trial(at=T0, of="smoke_test", problem="green gave no answer within 4 s", final=True)
    life.tick()
    assert life.phase is Phase.ABORTED
    assert life.last.sentence == (
        "Not started: green gave no answer within 4 s. Both deployments must answer the policy's sample requests before any "
        "traffic moves: correct `smoke_test` in the policy, or mend what answers."
    )
    assert life.writes == []
