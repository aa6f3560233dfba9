"""The table of transitions: complete, reached in every entry, drawn in the documentation, and kept through JSON."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rollout.analysis.verdict import Reason
from rollout.lifecycle import TRANSITIONS, Phase
from rollout.lifecycle.again import undo_of
from rollout.lifecycle.phases import diagram
from rollout.lifecycle.story import Story
from rollout.store.codec import dump_rollout, load_rollout
from tests.support.lives import FAIL, T0, Life, at, at_step, awaiting_approval, deployment, policy, started, verdict

DOCS = Path(__file__).parents[2] / "docs" / "lifecycle.md"
P = Phase


def then(make: Callable[[], Life], *steps: Callable[[Life], object]) -> Callable[[], Life]:
    def play() -> Life:
        life = make()
        for step in steps:
            step(life)
        return life

    return play


def stable_gone(life: Life) -> None:
    life.deployments = {"green": deployment("green")}
    life.tick()


def endpoint_gone(life: Life) -> None:
    life.gone = True
    life.tick()


def fails(life: Life) -> None:
    life.tick(FAIL)


def pauses(life: Life) -> None:
    life.ask("pause")


def resumes(life: Life) -> None:
    life.ask("resume")


def promotes_all(life: Life) -> None:
    life.ask("promote", full=True, reason="tested by hand")


def passes(life: Life) -> None:
    life.tick(verdict("pass"))


def retreats(life: Life) -> None:
    life.tick(verdict("retreat"))


def recovers(life: Life) -> None:
    life.tick(verdict("hold", Reason.RECOVERED))


def holds_blind(life: Life) -> None:
    life.tick(verdict("hold", Reason.NO_DATA))


def waits(life: Life) -> None:
    life.tick()


def undoing() -> Life:
    """A promotion is undone."""
    before = at(P.SUCCEEDED)
    life = Life(traffic={"green": 100})
    life.rollout, _ = undo_of((before.rollout,), rollout_id="r1", by="ana", reason=None, now=life.now)
    life.tick()
    return life


def slowly(phase: Phase) -> Life:
    """In this phase, and Azure takes its time."""
    life = at(phase)
    life.slow = True
    return life


def paused_in(phase: Phase) -> Callable[[], Life]:
    return then(lambda: slowly(phase), pauses)


ANY_TIME = {P.PAUSED: pauses, P.ROLLING_BACK: fails, P.HALTED: stable_gone, P.ABORTED: endpoint_gone}

#: For every entry of the table, a life that passes through it.
SCENES: dict[tuple[Phase, Phase], Callable[[], Life]] = {
    (P.PENDING, P.PREPARING): lambda: at(P.PREPARING),
    (P.PREPARING, P.PROGRESSING): started,
    (P.PREPARING, P.WAITING): then(lambda: Life(policy=policy(approve={0: {"timeout": "4h"}})), waits),
    (P.PREPARING, P.ABORTED): then(lambda: at(P.PREPARING), lambda life: life.ask("abort", reason="not today")),
    **{
        (phase, after): then(lambda phase=phase: slowly(phase), step)  # type: ignore[misc]
        for phase in (P.PROGRESSING, P.RETREATED, P.WAITING, P.PROMOTING)
        for after, step in ANY_TIME.items()
    },
    (P.PAUSED, P.ROLLING_BACK): then(lambda: at(P.PAUSED), fails),
    (P.PAUSED, P.HALTED): then(lambda: at(P.PAUSED), stable_gone),
    (P.PAUSED, P.ABORTED): then(lambda: at(P.PAUSED), endpoint_gone),
    (P.PROGRESSING, P.RETREATED): lambda: at(P.RETREATED),
    (P.PROGRESSING, P.WAITING): then(lambda: at(P.PROGRESSING), holds_blind),
    (P.PROGRESSING, P.PROMOTING): then(lambda: at_step(2), passes),
    (P.RETREATED, P.PROGRESSING): then(lambda: at(P.RETREATED), recovers),
    (P.RETREATED, P.WAITING): then(awaiting_approval, retreats, waits, recovers),
    (P.RETREATED, P.PROMOTING): then(lambda: at(P.RETREATED), promotes_all),
    (P.WAITING, P.PROGRESSING): then(awaiting_approval, lambda life: life.ask("approve")),
    (P.WAITING, P.RETREATED): then(awaiting_approval, retreats),
    (P.WAITING, P.PROMOTING): then(awaiting_approval, promotes_all),
    (P.PAUSED, P.PROGRESSING): then(paused_in(P.PROGRESSING), resumes),
    (P.PAUSED, P.RETREATED): then(paused_in(P.RETREATED), resumes),
    (P.PAUSED, P.WAITING): then(paused_in(P.WAITING), resumes),
    (P.PAUSED, P.PROMOTING): then(paused_in(P.PROMOTING), resumes),
    (P.ROLLING_BACK, P.ROLLED_BACK): lambda: at(P.ROLLED_BACK),
    (P.ROLLING_BACK, P.HALTED): then(lambda: slowly(P.ROLLING_BACK), stable_gone),
    (P.ROLLING_BACK, P.ABORTED): then(lambda: at_step(1), lambda life: life.ask("abort", reason="no"), waits),
    (P.PROMOTING, P.SUCCEEDED): lambda: at(P.SUCCEEDED),
    (P.PROMOTING, P.GUARDING): lambda: at(P.GUARDING),
    (P.GUARDING, P.ROLLING_BACK): then(lambda: at(P.GUARDING), fails),
    (P.GUARDING, P.HALTED): then(lambda: at(P.GUARDING), lambda life: life.facts.update(stable_serves=False), fails),
    (P.GUARDING, P.ABORTED): then(lambda: at(P.GUARDING), endpoint_gone),
    (P.GUARDING, P.SUCCEEDED): then(lambda: at(P.GUARDING), lambda life: life.ask("promote")),
    (P.PREPARING, P.ROLLING_BACK): undoing,
    (P.PREPARING, P.OBSERVING): lambda: at(P.OBSERVING),
    (P.OBSERVING, P.OBSERVED): lambda: at(P.OBSERVED),
}
ENTRIES = [(phase, after) for phase, following in TRANSITIONS.items() for after in sorted(following)]


def test_every_phase_has_a_row_and_ended_phases_an_empty_one() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert {phase for phase, following in TRANSITIONS.items() if not following} == {p for p in Phase if p.ended}


def test_no_scene_plays_what_the_table_does_not_have() -> None:
    assert set(SCENES) <= set(ENTRIES)


@pytest.mark.parametrize(("phase", "after"), ENTRIES, ids=str)
def test_every_entry_of_the_table_is_reached(phase: Phase, after: Phase) -> None:
    assert (phase, after) in SCENES, (
        f"nothing leads from {phase} to {after}: take it out of the table, or write its scene"
    )
    life = SCENES[phase, after]()
    assert (phase, after) in life.chain, (life.chain, life.rollout.sentence)


def test_what_the_table_does_not_list_is_a_bug_that_says_so() -> None:
    story = Story(Life().rollout, T0)
    with pytest.raises(AssertionError, match="no transition from pending to succeeded"):
        story.move(Phase.SUCCEEDED, "It cannot be.")


@pytest.mark.parametrize("phase", list(Phase))
def test_a_rollout_survives_json_in_every_phase(phase: Phase) -> None:
    rollout = at(phase).rollout
    assert load_rollout(dump_rollout(rollout), name="r1") == rollout


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase.ended])
def test_nothing_changes_what_has_ended(phase: Phase) -> None:
    life = at(phase)
    before = life.rollout
    for given in (None, FAIL, verdict("pass"), verdict("retreat")):
        decision = life.tick(given, seconds=3600)
        assert (decision.events, decision.write) == ((), None)
    assert life.rollout == before


def test_the_documentation_draws_this_table() -> None:
    drawn = DOCS.read_text(encoding="utf-8").split("```mermaid\n")[1].split("\n```")[0]
    assert drawn == diagram()


def test_the_documentation_explains_every_phase() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [phase for phase in Phase if f"`{phase}`" not in text] == []
