"""Traffic: what is written and when, what counts as confirmed, what is a person's, and what is our own late write."""

import pytest

from rollout.lifecycle import Phase, wanted_traffic
from rollout.lifecycle.splits import overwritable, tag_note
from rollout.policy import When
from rollout.world import Severity, Split
from tests.support.lives import FAIL, Life, at, at_step, awaiting_approval, deployment, policy, started, verdict

P = Phase
SMALL, MIDDLE, ALL_BLUE = (
    Split.of({"blue": 95, "green": 5}),
    Split.of({"blue": 75, "green": 25}),
    Split.of({"blue": 100}),
)


def late(life: Life, split: Split) -> None:
    """A write of ours takes effect now."""
    life.traffic = split.as_traffic()


# --- confirming


def test_nothing_is_written_while_the_split_is_as_wanted() -> None:
    life = at_step(1)
    writes = len(life.writes)
    for _ in range(10):
        life.tick(seconds=60)
    assert len(life.writes) == writes


def test_a_snapshot_from_before_the_write_confirms_nothing() -> None:
    life = at_step(1)
    old = life.snapshot()
    life.ask("abort", reason="no")  # writes blue 100 %
    assert life.rollout.writes[-1].ended_at is not None
    assert old.requested_at < life.rollout.writes[-1].ended_at
    life.slow = True
    life.tick(seconds=2)
    assert life.phase is P.ROLLING_BACK


def test_updating_confirms_nothing_even_if_it_shows_the_split() -> None:
    life = started()
    life.tick(verdict("pass"))
    life.state = "Updating"
    life.tick()
    assert life.rollout.confirmed == SMALL
    life.state = "Succeeded"
    life.tick()
    assert life.rollout.confirmed == MIDDLE


def test_old_traffic_after_success_is_a_lagging_read_and_not_drift() -> None:
    life = started()
    life.slow = True  # the operation ended, the read still shows the old split
    life.tick(verdict("pass"))
    for _ in range(2):
        life.tick(seconds=15)
    assert (life.phase, life.writes[-1], len(life.writes)) == (P.PROGRESSING, MIDDLE, 2)
    life.slow = False
    life.tick()
    assert life.rollout.confirmed == MIDDLE


def test_one_look_that_shows_an_older_split_is_not_drift() -> None:
    life = at_step(1)
    life.traffic = SMALL.as_traffic()  # a replica of Azure's that lags
    life.tick()
    assert (life.phase, life.rollout.foreign is not None) == (P.PROGRESSING, True)
    life.traffic = MIDDLE.as_traffic()
    life.tick()
    assert (life.phase, life.rollout.foreign) == (P.PROGRESSING, None)
    assert life.told("paused") == []


def test_two_looks_at_the_same_moment_are_one() -> None:
    life = at_step(1)
    life.traffic = SMALL.as_traffic()
    life.tick()
    life.tick(seconds=4)
    assert life.phase is P.PROGRESSING
    life.tick(seconds=1)
    assert life.phase is P.PAUSED


# --- writing again


def test_an_accepted_write_that_does_not_show_is_sent_again_after_a_while() -> None:
    life = started()
    life.slow = True
    life.tick(verdict("pass"))
    life.tick(seconds=30)
    assert len(life.writes) == 2
    life.tick(seconds=20)
    assert life.writes[1:] == [MIDDLE, MIDDLE]


@pytest.mark.parametrize("answer", ["conflict", "unknown"])
def test_a_write_without_an_answer_is_sent_again_at_the_next_settled_look(answer: str) -> None:
    life = started()
    life.tick(verdict("pass"), answer=answer)
    life.state = "Updating"
    life.tick()
    assert len(life.writes) == 2
    life.state = "Succeeded"
    life.tick()
    assert life.writes[1:] == [MIDDLE, MIDDLE]


def test_a_write_whose_answer_was_lost_may_have_happened() -> None:
    life = started()
    life.tick(verdict("pass"), answer="unknown")
    late(life, MIDDLE)
    life.tick()
    assert (life.rollout.confirmed, len(life.writes), life.phase) == (MIDDLE, 2, P.PROGRESSING)


def test_a_process_that_was_killed_before_its_write_is_healed_by_the_next_tick() -> None:
    life = started()
    life.tick(verdict("pass"), answer="crash")
    assert life.rollout.writes[-1].ended_at is None
    life.tick()  # nobody knows what became of it: look once more
    life.tick()
    assert life.writes[1:] == [MIDDLE, MIDDLE]
    life.tick()
    assert life.rollout.confirmed == MIDDLE


def test_a_refusal_pauses_with_azure_s_words_and_resuming_tries_again() -> None:
    life = started()
    life.tick(verdict("pass"), answer="refused")
    assert (life.phase, life.rollout.paused_because, life.rollout.writes) == (P.PAUSED, "refused", ())
    assert life.last.sentence == (
        "Paused: the new split of restaurant-recommender was refused: Azure said: you may not do that. "
        "`rollout resume restaurant-recommender` tries again, once that is mended; "
        "`rollout abort restaurant-recommender --reason …` puts all traffic back on blue."
    )
    life.ask("resume")
    assert life.writes[1:] == [MIDDLE, MIDDLE]
    life.tick()
    assert life.rollout.confirmed == MIDDLE


def test_a_split_that_azure_does_not_take_on_is_told_and_then_left_to_a_person() -> None:
    life = started()
    life.tick(verdict("pass"), answer="conflict")
    life.state, life.endpoint_changes = "Updating", {"last_modified_by": "bob@example.com"}
    life.tick(seconds=280)
    assert life.told("slow") == []
    life.tick(seconds=60)
    life.tick(seconds=60)
    (slow,) = life.told("slow")
    assert slow.sentence == (
        "Waiting for Azure: blue 75 % + green 25 % is not confirmed after 6 min: restaurant-recommender is Updating, an "
        "operation runs on it, last changed by bob@example.com."
    )
    life.tick(seconds=25 * 60)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "unconfirmed")
    assert "tries again" in life.last.sentence
    life.state = "Succeeded"
    life.ask("resume")
    assert life.phase is P.PROGRESSING
    life.tick()
    assert life.rollout.confirmed == MIDDLE


@pytest.mark.parametrize(
    ("world", "told"),
    [
        (
            {"endpoint_changes": {"failure": "BadRequest: quota."}},
            "Azure shows blue 95 % + green 5 %, and our last write failed: BadRequest: quota.",
        ),
        ({"facts": {"trouble": "The role is missing."}}, "The role is missing."),
    ],
)
def test_the_hindrance_is_named(world: dict[str, dict[str, object]], told: str) -> None:
    life = started()
    life.slow = True
    for name, value in world.items():
        setattr(life, name, value)
    life.tick(verdict("pass"))
    for _ in range(31):
        life.tick(seconds=60)
    assert life.phase is P.PAUSED
    assert told in life.last.sentence


# --- our own late writes


def test_our_own_write_that_comes_after_a_newer_one_is_undone_and_never_called_drift() -> None:
    life = at_step(1)
    life.tick(verdict("pass"), answer="unknown")  # 95 %: nobody knows
    life.tick(verdict("retreat"), seconds=5)
    life.tick(seconds=10)
    assert life.rollout.confirmed == Split.of({"blue": 97, "green": 3})
    late(life, Split.of({"blue": 5, "green": 95}))
    life.tick(seconds=10)
    life.tick(seconds=10)
    assert (life.phase, life.traffic) == (P.RETREATED, {"blue": 97, "green": 3})


def test_our_own_accepted_write_is_not_drift_when_a_lagging_read_shows_what_is_wanted_again() -> None:
    life = at_step(1)
    life.slow = True
    life.tick(verdict("retreat"))  # 3 %: accepted, its operation runs
    life.state = "Updating"
    life.tick(verdict("pass"), seconds=15)  # and 25 % is wanted again
    life.state = "Succeeded"
    life.tick(seconds=15)  # the operation is over, the read still shows 25 %
    assert life.rollout.confirmed == MIDDLE
    life.slow = False
    life.tick(seconds=3)
    life.tick(seconds=10)
    life.tick(seconds=30)
    assert (life.phase, life.traffic) == (P.PROGRESSING, {"blue": 75, "green": 25})
    assert life.told("paused") == []


def test_an_end_is_told_only_when_no_late_write_can_come_any_more() -> None:
    life = at_step(1)
    life.tick(verdict("pass"), answer="unknown")
    life.tick(FAIL, seconds=5)
    life.tick(seconds=10)
    assert (life.phase, life.rollout.confirmed) == (P.ROLLING_BACK, ALL_BLUE)
    late(life, Split.of({"blue": 5, "green": 95}))
    life.tick(seconds=5)
    assert life.writes[-1] == ALL_BLUE  # undone
    life.tick(seconds=20)
    assert (life.phase, life.traffic) == (P.ROLLING_BACK, {"blue": 100})
    life.tick(seconds=35)
    assert life.phase is P.ROLLED_BACK
    assert life.told("unconfirmed") == []


def test_a_promotion_ends_only_when_no_late_write_can_come_any_more() -> None:
    life = at_step(1)
    life.tick(verdict("pass"), answer="unknown")
    life.ask("promote", full=True, reason="go")
    life.tick(seconds=10)
    assert life.phase is P.PROMOTING
    life.tick(seconds=60)
    assert life.phase is P.SUCCEEDED


def test_a_late_write_is_expected_for_a_minute_and_a_person_s_split_after_that() -> None:
    life = at_step(1)
    life.tick(verdict("pass"), answer="unknown")
    life.tick(verdict("retreat"), seconds=5)
    life.tick(seconds=70)
    assert life.rollout.strays == ()
    life.moved_by_hand(blue=5, green=95)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "drift")


# --- a person


def test_a_person_s_split_pauses_and_names_them_and_what_to_do() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=60, green=40)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "drift")
    assert life.last.sentence == (
        "Paused: the traffic of restaurant-recommender was changed by bob@example.com to blue 60 % + green 40 %; the rollout "
        "had set blue 75 % + green 25 %. `rollout resume restaurant-recommender --adopt` goes on from there, `--restore` "
        "sets it back; `rollout abort restaurant-recommender --reason …` puts all traffic back on blue."
    )
    assert life.last.severity is Severity.ACTION
    told = len(life.events)
    for _ in range(5):
        life.tick(seconds=60)
    assert (life.traffic, len(life.events)) == ({"blue": 60, "green": 40}, told)


def test_azure_does_not_always_tell_who() -> None:
    life = at_step(1)
    life.moved_by_hand(by=None, blue=60, green=40)
    assert "was changed to blue 60 % + green 40 %" in life.last.sentence


@pytest.mark.parametrize("phase", [P.PROGRESSING, P.RETREATED, P.WAITING, P.PAUSED, P.PROMOTING])
def test_the_candidate_taken_off_by_hand_ends_the_rollout_in_every_phase(phase: Phase) -> None:
    life = at(phase)
    life.slow = phase is P.PROMOTING  # else its split is confirmed, and it is over
    life.tick()
    life.moved_by_hand(blue=100)
    assert life.phase is P.ABORTED
    assert life.last.sentence.startswith("Rolled back by hand: green (was ")
    assert "by bob@example.com" in life.last.sentence
    writes = len(life.writes)
    life.traffic = {"blue": 75, "green": 25}
    life.tick(seconds=600)
    assert len(life.writes) == writes


def test_a_change_that_leaves_no_candidate_traffic_to_take_is_drift() -> None:
    life = Life(policy=policy(approve={0: {"timeout": "4h"}}))
    life.tick()
    life.moved_by_hand(blue=90, red=10)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "drift")
    assert "red also has traffic" in life.ask_in_vain("resume", drift="adopt")
    life.traffic = {"blue": 100}
    life.tick()
    assert life.last.sentence.startswith("The traffic is blue 100 % again, as the rollout had set it.")
    life.ask("resume")
    life.ask("approve")
    assert life.writes == [SMALL]


def test_resuming_after_drift_must_say_which_split_holds() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=60, green=40)
    assert life.ask_in_vain("resume") == (
        "The traffic is blue 60 % + green 40 %, not what the rollout last set (blue 75 % + green 25 %): resume with --adopt "
        "to go on from there, or with --restore to set it back."
    )
    for verb, words in (("promote", {}), ("promote", {"full": True})):
        assert "say first what holds" in life.ask_in_vain(verb, reason="go", **words)


def test_restore_sets_the_split_back_and_bakes_the_step_anew() -> None:
    life = at_step(1)
    before = life.rollout.step_since
    life.moved_by_hand(blue=60, green=40)
    assert life.ask("resume", drift="restore") == "Resumed by ana with the traffic set back. Judging goes on."
    assert life.writes[-1] == MIDDLE
    life.tick()
    assert (life.phase, life.traffic, life.rollout.replaceable) == (P.PROGRESSING, {"blue": 75, "green": 25}, None)
    assert life.rollout.step_since is not None
    assert before is not None
    assert life.rollout.step_since > before


def test_restore_writes_over_the_split_that_was_told_and_over_no_newer_one() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=60, green=40)
    life.slow = True
    life.ask("resume", drift="restore")
    allowed = overwritable(life.rollout)
    assert allowed is not None
    assert Split.of({"blue": 60, "green": 40}) in allowed
    life.moved_by_hand(blue=50, green=50)
    assert (life.phase, life.rollout.paused_because) == (P.PAUSED, "drift")
    assert "blue 50 % + green 50 %" in life.last.sentence


@pytest.mark.parametrize(
    ("found", "step", "sized", "following"),
    [
        (3, 0, 3, 5),  # below the first step: on to its own share
        (5, 0, None, 25),
        (17, 0, None, 25),
        (30, 1, None, 95),
        (97, 2, None, 100),
        (100, 2, None, 100),
    ],
)
def test_adopt_goes_on_from_the_step_that_the_share_has_reached(
    found: int, step: int, sized: int | None, following: int
) -> None:
    life = at_step(1)
    life.moved_by_hand(blue=100 - found, green=found)
    writes = len(life.writes)
    life.ask("resume", drift="adopt")
    life.tick()
    assert (life.phase, life.rollout.share, life.rollout.step) == (P.PROGRESSING, found, step)
    assert life.rollout.sized_share == sized
    assert len(life.writes) == writes
    life.tick(verdict("pass"), seconds=600)
    assert life.rollout.share == following


def test_adopting_leaves_a_retreat_and_an_approval_behind() -> None:
    retreated = at(P.RETREATED)
    retreated.moved_by_hand(blue=80, green=20)
    retreated.ask("resume", drift="adopt")
    assert (retreated.phase, retreated.rollout.retreated_at, retreated.rollout.share) == (P.PROGRESSING, None, 20)
    waiting = awaiting_approval()
    waiting.moved_by_hand(blue=80, green=20)
    waiting.ask("resume", drift="adopt")
    assert (waiting.phase, waiting.rollout.next_step) == (P.PROGRESSING, None)
    waiting.tick()
    waiting.tick(verdict("pass"), seconds=600)
    assert waiting.rollout.awaits_approval  # of the step that comes next


def test_a_retreat_of_an_adopted_share_goes_back_to_it_and_not_above() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=83, green=17)
    life.ask("resume", drift="adopt")
    life.tick()
    life.tick(verdict("retreat"))
    life.tick(seconds=40)
    life.tick(verdict("pass"))
    assert life.rollout.share == 17


def test_a_third_deployment_can_neither_be_adopted_nor_restored_over() -> None:
    life = at_step(1)
    life.deployments = {**(life.deployments or {}), "red": deployment("red")}
    life.moved_by_hand(blue=65, green=25, red=10)
    for drift in ("adopt", "restore"):
        assert "red also has traffic" in life.ask_in_vain("resume", drift=drift)
    assert life.traffic == {"blue": 65, "green": 25, "red": 10}
    life.moved_by_hand(blue=75, green=25)
    life.ask("resume")
    assert life.phase is P.PROGRESSING


def test_a_second_change_by_hand_is_told_too() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=60, green=40)
    life.moved_by_hand(blue=50, green=50)
    assert len(life.told("paused")) == 2
    life.ask("resume", drift="adopt")
    assert life.rollout.share == 50


def test_a_change_while_paused_for_another_reason_keeps_that_reason_s_terms() -> None:
    life = at_step(1, policy(when=When(regression="pause")))
    life.tick(FAIL)
    life.moved_by_hand(blue=60, green=40)
    assert (life.rollout.paused_because, life.rollout.fail_stands) == ("drift", True)
    assert "needs a reason" in life.ask_in_vain("resume", drift="adopt")
    life.ask("resume", drift="adopt", reason="we accept it")
    assert life.rollout.past_fail == 1


def test_an_abort_writes_over_a_person_s_split_because_a_person_said_so() -> None:
    life = at_step(1)
    life.moved_by_hand(blue=60, green=40)
    life.ask("abort", reason="enough")
    assert (life.writes[-1], overwritable(life.rollout)) == (ALL_BLUE, None)
    life.tick()
    assert (life.phase, life.traffic) == (P.ABORTED, {"blue": 100})


# --- rolling back


def test_a_conflict_is_retried_as_soon_as_the_endpoint_is_settled() -> None:
    life = at_step(1)
    life.state = "Updating"
    life.tick(FAIL, answer="conflict")
    assert life.writes[-1] == ALL_BLUE  # attempted without waiting
    for _ in range(4):
        life.tick(seconds=2.5)
    assert len(life.writes) == 3
    life.state = "Succeeded"
    life.tick(seconds=2.5)
    assert len(life.writes) == 4
    life.tick(seconds=25)
    assert life.phase is P.ROLLED_BACK


def test_a_roll_back_is_not_sent_without_a_look_at_stable_unless_there_is_none_for_long() -> None:
    life = at_step(1)
    assert life.tick(FAIL, blind=True).write is None
    assert life.phase is P.ROLLING_BACK
    assert life.tick(blind=True, seconds=5).write is None
    assert life.tick(blind=True, seconds=5).write == ALL_BLUE


def test_a_roll_back_is_asked_for_even_where_a_read_shows_stable_at_100_percent_already() -> None:
    life = at_step(1)
    life.slow = True
    life.ask("promote", full=True, reason="go", answer="conflict")
    life.traffic = {"blue": 100}  # a read that lags behind somebody's operation
    assert life.tick(FAIL, blind=True).write is None
    assert life.tick(seconds=3).write == ALL_BLUE
    assert life.phase is P.ROLLING_BACK
    life.slow = False
    life.tick(seconds=3)
    assert life.phase is P.ROLLED_BACK


def test_a_roll_back_is_sent_at_the_first_look() -> None:
    life = at_step(1)
    life.tick(FAIL, blind=True)
    assert life.tick(seconds=2).write == ALL_BLUE


def test_a_roll_back_that_is_not_confirmed_pages_once_with_the_command() -> None:
    life = at_step(1)
    life.slow = True
    life.tick(FAIL)
    for _ in range(11):
        life.tick(seconds=5)
    assert life.told("unconfirmed") == []
    life.tick(seconds=5)
    (page,) = life.told("unconfirmed")
    assert page.severity is Severity.PAGE
    assert page.sentence == (
        "Act now: the roll back of restaurant-recommender is not done. Azure has not confirmed it within 60 s; it is still "
        "being tried. By hand: az ml online-endpoint update --name restaurant-recommender --resource-group rg-food "
        '--workspace-name mlw-food --traffic "blue=100 green=0"'
    )
    assert page.details["by_hand"]
    for _ in range(100):
        life.tick(seconds=60)
    assert len(life.told("unconfirmed")) == 1
    assert (life.phase, len(life.writes) > 50) == (P.ROLLING_BACK, True)  # never given up
    life.slow = False
    life.tick()
    assert life.phase is P.ROLLED_BACK


def test_a_roll_back_that_is_refused_pages_and_is_still_tried() -> None:
    life = at_step(1)
    life.tick(FAIL, answer="refused")
    (page,) = life.told("unconfirmed")
    assert "It was refused: Azure said: you may not do that. It is still being tried." in page.sentence
    life.tick(seconds=10, answer="refused")
    assert len(life.writes) == 3
    life.tick(seconds=10, answer="refused")
    assert len(life.writes) == 4
    life.tick(seconds=20)
    life.tick()
    assert (life.phase, len(life.told("unconfirmed"))) == (P.ROLLED_BACK, 1)


@pytest.mark.parametrize("answer", ["unknown", "conflict", "refused"])
def test_a_roll_back_that_azure_did_not_accept_from_us_is_believed_at_the_second_look(answer: str) -> None:
    life = at_step(1)
    life.slow = True
    life.tick(FAIL, answer=answer)
    life.traffic = {"blue": 100}  # a person was asked, and did it by hand
    life.tick(seconds=3)
    assert life.phase is P.ROLLING_BACK
    life.tick(seconds=5)
    assert life.phase is P.ROLLED_BACK


def test_a_read_that_lags_behind_somebody_s_operation_does_not_end_a_roll_back() -> None:
    life = at_step(1)
    life.tick(FAIL, answer="refused")
    life.traffic = {"blue": 100}
    life.tick(seconds=3)
    life.traffic = {"blue": 75, "green": 25}
    life.tick(seconds=3)
    life.tick(seconds=15)
    assert (life.phase, life.writes[-1]) == (P.ROLLING_BACK, ALL_BLUE)
    life.tick(seconds=3)
    assert life.phase is P.ROLLED_BACK


def test_drift_is_not_judged_while_rolling_back() -> None:
    life = at_step(1)
    life.slow = True
    life.tick(FAIL)
    life.traffic = {"blue": 50, "green": 50}
    for _ in range(4):
        life.tick(seconds=10)
    assert life.phase is P.ROLLING_BACK
    assert life.writes[-1] == ALL_BLUE
    assert len(life.writes) > 3


# --- what the world is told


@pytest.mark.parametrize("phase", list(Phase))
def test_only_phases_that_hold_traffic_want_a_split(phase: Phase) -> None:
    rollout = at(phase).rollout
    wants = wanted_traffic(rollout) is not None
    assert wants is (phase in {P.PROGRESSING, P.RETREATED, P.WAITING, P.PROMOTING, P.ROLLING_BACK})


def test_the_studio_shows_people_that_a_rollout_runs() -> None:
    assert tag_note(at_step(1).rollout) == "25 % green; pause first"
    assert tag_note(at(P.ROLLING_BACK).rollout) is None
