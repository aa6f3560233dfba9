"""The tick: three reads, two thoughts, two writes, on a real store, a real collector and the sandbox's model of Azure."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from rollout.analysis.cells import Cell
from rollout.analysis.noise import learned, spread
from rollout.analysis.verdict import Judgement, Reason, Verdict
from rollout.collector import Collector
from rollout.errors import ConflictError, UnavailableError
from rollout.lifecycle import Phase
from rollout.lifecycle.errands import errand_answered, with_intents
from rollout.lifecycle.lessons import lessons_of
from rollout.policy import Probes
from rollout.ports import Ended
from rollout.reconciler import _serves, next_look
from rollout.sending import FleetFacts, fleet_facts
from rollout.store import open_store
from rollout.world import Scale, Severity, Split
from tests.support.lives import FAIL, T0, at, policy, verdict
from tests.support.local_azure import Killed
from tests.support.local_fleet import LocalFleet
from tests.support.site import LEASE, Site

P = Phase
SMALL, MIDDLE, ALL_BLUE = (
    Split.of({"blue": 95, "green": 5}),
    Split.of({"blue": 75, "green": 25}),
    Split.of({"blue": 100}),
)


class Said:
    """A judge who says what the test says."""

    def __init__(self) -> None:
        self.verdict: Verdict = verdict("hold")
        self.alphas: list[float] = []

    def __call__(self, judgement: Judgement, **_: object) -> tuple[Judgement, Verdict]:
        self.alphas.append(judgement.alpha)
        return judgement, self.verdict


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def site(tmp_path: Path, said: Said) -> Iterator[Site]:
    """An endpoint on blue, and a judge who waits for the test's word."""
    site = Site(tmp_path, judge=said)
    site.azure.begin()
    yield site
    site.store.close()


def in_first_step(site: Site) -> Site:
    site.start()
    site.run(minutes=2)
    assert (site.rollout.phase, site.rollout.confirmed) == (P.PROGRESSING, SMALL), site.rollout.sentence
    return site


def tick_now(site: Site) -> None:
    """Something changed: tick."""
    site.store.wake([site.rollout.ref], now=site.azure.clock.now())
    site.tick()


# --- the whole way, with the real judge


@pytest.fixture
def judged(tmp_path: Path) -> Iterator[Site]:
    """With the real judge."""
    site = Site(tmp_path)
    site.azure.begin()
    yield site
    site.store.close()


def test_a_good_candidate_is_promoted_step_by_step(judged: Site) -> None:
    judged.start()
    judged.run(minutes=90)
    assert judged.rollout.phase is P.SUCCEEDED
    assert judged.azure.traffic == {"green": 100}
    assert [split.share("green") for _, split in judged.azure.puts] == [5, 25, 95, 100]
    assert judged.azure.notes == ["5 % green; pause first", "25 % green; pause first", "95 % green; pause first", None]


def test_a_promoted_rollout_teaches_the_next_one_its_noise(judged: Site) -> None:
    judged.start()
    judged.run(minutes=90)
    first, taught = judged.rollout, judged.store.noise(judged.rollout.ref)
    assert first.judgement.taus["logs"].keys() == taught["logs"].keys() >= {"error_rate", "latency_p95"}
    assert taught["logs"]["latency_p95"] == [lessons_of(first)["logs"]["latency_p95"]]

    said = learned(judged.policy, taught, [])
    assert said["logs"]["latency_p95"] == spread(taught["logs"]["latency_p95"])


def test_a_bad_candidate_is_rolled_back_and_explained(judged: Site) -> None:
    judged.start()
    judged.run(minutes=5)
    judged.logs.bad["green"] = 0.6
    judged.run(minutes=30)
    assert judged.rollout.phase is P.ROLLED_BACK
    assert judged.azure.traffic == {"blue": 100}
    decided, ended = judged.told("rolling_back")[0], judged.told("rolled_back")[0]
    assert "judgement" in decided.details
    assert ended.sentence.startswith(
        "Rolled back, no action needed: restaurant-recommender back on blue 100 % since 02:"
    )
    assert "Errors 60 % vs 0 %" in ended.sentence or "Errors 60.0 % vs 0.00 %" in ended.sentence
    alerts = [delivery.alert for delivery in judged.store.deliveries("r1")]
    (last,) = [alert for alert in alerts if alert.event.kind == "rolled_back"]
    assert "judgement" not in last.event.details
    assert last.summary["now"] == "restaurant-recommender: blue 100 %"
    assert last.summary["reasons"][0][0] == "failed in the platform (5xx)"


def test_an_endpoint_without_rows_does_not_start(judged: Site) -> None:
    judged.logs.silent = True
    judged.start()
    judged.run(minutes=60)
    assert judged.rollout.phase is P.ABORTED
    assert judged.azure.puts == []
    assert "no fresh rows of blue" in judged.rollout.sentence


def test_a_pipe_that_falls_silent_holds_and_then_pauses(judged: Site) -> None:
    judged.start()
    judged.run(minutes=3)
    judged.logs.silent = True
    judged.run(minutes=80)
    assert (judged.rollout.phase, judged.rollout.paused_because) == (P.PAUSED, "no_data")
    assert judged.azure.traffic == {"blue": 95, "green": 5}


# --- save before act


@pytest.mark.parametrize("when", ["killed before", "killed after"])
def test_a_process_killed_around_its_put_is_healed_by_the_next_one(site: Site, said: Said, when: str) -> None:
    in_first_step(site)
    said.verdict = verdict("pass")
    site.azure.next_writes.append(when)
    with pytest.raises(Killed):
        tick_now(site)
    saved = site.rollout
    assert (saved.share, saved.writes[-1].split, saved.writes[-1].ended_at) == (25, MIDDLE, None)
    said.verdict = verdict("hold")
    site.restart()
    site.run(minutes=3)
    assert (site.rollout.phase, site.rollout.confirmed, site.azure.traffic) == (
        P.PROGRESSING,
        MIDDLE,
        {"blue": 75, "green": 25},
    )
    assert site.told("paused") == []
    assert len(site.told("progressing")) == 2


@pytest.mark.parametrize("when", ["killed before", "killed after"])
def test_a_roll_back_survives_a_kill(site: Site, said: Said, when: str) -> None:
    in_first_step(site)
    said.verdict = FAIL
    site.azure.next_writes.append(when)
    with pytest.raises(Killed):
        tick_now(site)
    assert site.rollout.phase is P.ROLLING_BACK
    site.restart()
    site.run(minutes=3)
    assert (site.rollout.phase, site.azure.traffic) == (P.ROLLED_BACK, {"blue": 100})
    assert len(site.told("rolling_back")) == len(site.told("rolled_back")) == 1


def test_nothing_is_sent_that_is_not_saved(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = verdict("pass")
    seen: list[Split] = []
    site.azure.before_put = lambda split: seen.append(site.rollout.writes[-1].split)
    tick_now(site)
    assert seen == [MIDDLE]


def test_a_lease_that_was_lost_saves_nothing_and_writes_nothing(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = verdict("pass")
    site.store.wake([site.rollout.ref], now=site.azure.clock.now())
    (lease,) = site.claim()
    site.azure.clock.move(LEASE.total_seconds() + 1)
    (other,) = site.store.claim_due(now=site.azure.clock.now(), owner="d2", lease=LEASE)
    before, puts = site.rollout, len(site.azure.puts)
    with pytest.raises(ConflictError):
        site.reconciler.tick(lease)
    assert (site.rollout, len(site.azure.puts)) == (before, puts)
    site.reconciler.tick(other)
    assert len(site.azure.puts) == puts + 1


def test_a_process_that_stood_still_past_its_lease_does_not_put(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = verdict("pass")
    site.azure.before_put = lambda split: site.azure.clock.pause(LEASE.total_seconds())
    puts = len(site.azure.puts)
    tick_now(site)
    assert len(site.azure.puts) == puts
    assert site.rollout.writes[-1].outcome == "conflict"
    site.azure.before_put = lambda split: None
    said.verdict = verdict("hold")
    site.run(minutes=2)
    assert site.azure.traffic == {"blue": 75, "green": 25}


def test_a_put_that_comes_late_is_undone_and_not_called_drift(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = verdict("pass")
    site.azure.next_writes.append("unanswered")
    tick_now(site)
    said.verdict = FAIL
    tick_now(site)
    site.run(seconds=32)
    assert site.rollout.phase is P.ROLLING_BACK
    site.azure.by_hand(blue=75, green=25)  # what our unanswered request asked for takes effect now
    site.run(minutes=3)
    assert (site.rollout.phase, site.azure.traffic) == (P.ROLLED_BACK, {"blue": 100})


# --- the deciding tick


def test_the_put_of_a_roll_back_is_in_the_tick_that_decides_it(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = FAIL
    decided = site.azure.clock.now()
    tick_now(site)
    sent, split = site.azure.puts[-1]
    assert split == ALL_BLUE
    assert sent - decided < timedelta(seconds=2)
    assert site.rollout.sent_at is not None
    assert site.rollout.decided_at is not None


def test_before_a_put_the_world_is_looked_at_once_more_with_its_deployments(site: Site, said: Said) -> None:
    in_first_step(site)
    site.azure.deploy("green", 3)  # nobody has looked since
    said.verdict = verdict("pass")
    tick_now(site)
    assert (site.rollout.phase, site.rollout.paused_because) == (P.PAUSED, "changed")
    assert len(site.azure.puts) == 1


def test_a_stable_that_has_gone_unseen_is_not_rolled_back_onto(site: Site, said: Said) -> None:
    in_first_step(site)
    site.azure.by_hand(green=100)
    site.azure.settle()
    assert site.azure.delete("blue")
    said.verdict = FAIL
    tick_now(site)
    assert site.rollout.phase is P.HALTED
    assert site.azure.traffic == {"green": 100}


def test_a_split_that_changed_since_the_last_look_is_not_written_over(site: Site, said: Said) -> None:
    in_first_step(site)
    assert site.azure.by_hand(blue=60, green=40)
    site.azure.settle()
    said.verdict = verdict("pass")
    tick_now(site)
    assert site.azure.traffic == {"blue": 60, "green": 40}
    said.verdict = verdict("hold")
    site.run(minutes=1)
    assert (site.rollout.phase, site.rollout.paused_because) == (P.PAUSED, "drift")
    assert "bob@example.com" in site.rollout.sentence


@pytest.mark.parametrize("one", [verdict("pass"), FAIL])
def test_an_azure_that_cannot_be_read_is_not_written_to(site: Site, said: Said, one: Verdict) -> None:
    in_first_step(site)
    said.verdict = one
    site.azure.next_reads.append(UnavailableError("Azure did not answer."))
    tick_now(site)
    assert len(site.azure.puts) == 1
    assert site.rollout.share == (25 if one.action == "pass" else 0)  # decided, and saved
    tick_now(site)
    assert len(site.azure.puts) == 2


def test_a_roll_back_is_sent_blindly_in_the_end(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = FAIL
    site.azure.next_reads.extend(UnavailableError("Azure did not answer.") for _ in range(100))
    tick_now(site)
    decided = site.azure.clock.now()
    site.run(seconds=20)
    assert site.azure.puts[-1][1] == ALL_BLUE
    assert timedelta(seconds=8) < site.azure.puts[-1][0] - decided < timedelta(seconds=14)


def test_the_put_is_tried_again_as_soon_as_the_endpoint_is_at_rest(site: Site, said: Said) -> None:
    in_first_step(site)
    site.azure.by_hand(blue=95, green=5)  # somebody's operation, which changes nothing
    said.verdict = FAIL
    tick_now(site)
    assert site.rollout.writes[-1].outcome == "conflict"
    began = site.azure.clock.now()
    while site.azure.updating:
        site.run(seconds=1)
    rested = site.azure.clock.now()
    site.run(seconds=5)
    assert site.azure.puts[-1][1] == ALL_BLUE
    assert site.azure.puts[-1][0] - rested <= timedelta(seconds=3.5)
    reads = site.azure.calls[-30:].count("get")
    assert rested - began > timedelta(seconds=10)
    assert reads > 3  # looked at every few seconds, and asked for nothing in between
    site.run(minutes=1)
    assert site.rollout.phase is P.ROLLED_BACK


def test_a_roll_back_that_azure_refuses_pages_and_goes_on(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = FAIL
    site.azure.next_writes.extend(["refused", "refused"])
    tick_now(site)
    site.run(minutes=2)
    assert site.rollout.phase is P.ROLLED_BACK
    (page,) = site.told("unconfirmed")
    assert page.severity is Severity.PAGE


def test_a_third_deployment_stands_in_the_way_of_a_roll_back_and_is_left_alone(site: Site, said: Said) -> None:
    in_first_step(site)
    site.azure.deploy("red", 3)
    site.azure.by_hand(blue=85, green=5, red=10)
    site.azure.settle()
    said.verdict = FAIL
    tick_now(site)
    site.run(minutes=2)
    assert site.azure.traffic == {"blue": 85, "green": 5, "red": 10}
    assert site.rollout.phase is P.ROLLING_BACK
    assert "red has traffic" in site.told("unconfirmed")[0].sentence
    site.azure.by_hand(blue=95, green=5)
    site.run(minutes=2)
    assert (site.rollout.phase, site.azure.traffic) == (P.ROLLED_BACK, {"blue": 100})


# --- leases, timers, errors


def test_the_next_look_is_sooner_while_something_is_on_its_way(site: Site) -> None:
    in_first_step(site)
    now = site.azure.clock.now()
    assert next_look(site.rollout, now) == timedelta(seconds=60)
    for phase, seconds in ((P.PENDING, 0), (P.PREPARING, 10), (P.ROLLING_BACK, 2.5), (P.PROMOTING, 5), (P.PAUSED, 60)):
        assert next_look(at(phase).rollout, now) == timedelta(seconds=seconds)
    fresh = at(P.PROGRESSING)
    fresh.tick(verdict("pass"))
    assert next_look(fresh.rollout, now) == timedelta(seconds=15)


def test_azure_s_wish_to_be_left_alone_is_honoured(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = FAIL
    site.azure.next_writes.append("throttled")
    tick_now(site)
    asked = site.azure.clock.now()
    site.run(seconds=6)
    assert len(site.azure.puts) == 1
    site.run(seconds=3)
    assert len(site.azure.puts) == 2
    assert site.azure.puts[-1][0] - asked >= timedelta(seconds=7)


def test_a_rollout_whose_workspace_left_the_settings_is_not_lost(site: Site, said: Said) -> None:
    in_first_step(site)
    said.verdict = FAIL
    nowhere = Collector(store=site.store, clock=site.azure.clock, sources=[], on_change=lambda refs: None)
    site.reconciler = replace(site.reconciler, endpoints={}, snapshots=nowhere)
    site.run(seconds=75)
    assert site.rollout.phase is P.ROLLING_BACK
    assert "workspace prod is not in the settings any more: add it" in site.told("unconfirmed")[0].sentence


def test_a_tick_gives_its_lease_back(site: Site) -> None:
    in_first_step(site)
    tick_now(site)
    site.store.wake([site.rollout.ref], now=site.azure.clock.now())
    assert len(site.claim()) == 1


def test_a_tick_that_changes_nothing_saves_nothing(site: Site) -> None:
    in_first_step(site)
    tick_now(site)
    file = site.folder / "rollout.db"
    before, history = site.rollout, site.history
    tick_now(site)
    assert (site.rollout, site.history) == (before, history)
    site.store.close()
    again = open_store(f"sqlite:///{file}", exclusive=True)
    assert again.load("r1") == before
    again.close()


def test_commands_are_answered_once_and_kept(site: Site) -> None:
    in_first_step(site)
    asked = site.ask("pause", reason="lunch")
    site.run(seconds=2)
    answer = site.store.command_result(asked)
    assert answer is not None
    assert (answer.accepted, site.rollout.phase) == (True, P.PAUSED)
    assert site.store.pending_commands("r1") == []
    again = site.ask("pause")
    site.run(seconds=2)
    refused = site.store.command_result(again)
    assert refused is not None
    assert not refused.accepted
    assert len(site.told("paused")) == 1


def test_going_on_past_a_fail_is_judged_with_half_the_budget(site: Site, said: Said) -> None:
    site.policy = policy(when={"regression": "pause"})
    in_first_step(site)
    said.verdict = FAIL
    tick_now(site)
    assert site.rollout.paused_because == "regression"
    said.verdict = verdict("hold")
    site.ask("resume", reason="known")
    site.run(minutes=2)
    assert (site.rollout.phase, said.alphas[0], said.alphas[-1]) == (P.PROGRESSING, 0.05, 0.025)


def test_two_alerts_of_one_tick_have_two_ids(site: Site, said: Said) -> None:
    in_first_step(site)
    site.ask("pause")
    site.ask("resume")
    said.verdict = verdict("hold", Reason.SHARED_INCIDENT)
    site.run(seconds=2)
    ids = [delivery.alert.id for delivery in site.store.deliveries("r1")]
    assert len(ids) == len(set(ids)) >= 3


def test_a_drift_is_looked_at_again_within_seconds(site: Site) -> None:
    in_first_step(site)
    site.azure.by_hand(blue=60, green=40)
    site.azure.settle()
    changed = site.azure.clock.now()
    while site.rollout.phase is not P.PAUSED:
        site.run(seconds=1)
        assert site.azure.clock.now() - changed < timedelta(seconds=30)


# --- does stable serve?


def cells(*minutes: tuple[int, int, int]) -> dict[int, Cell]:
    return {minute: Cell(histograms={"ok": {50: ok}, "5xx": {50: bad}}) for minute, ok, bad in minutes}


@pytest.mark.parametrize(
    ("live", "probes", "serves"),
    [
        ([{}, {}], {}, None),
        ([cells((100, 90, 10))], {}, True),
        ([cells((100, 10, 90))], {}, False),
        ([cells((100, 4, 5))], {}, None),  # too few to say
        ([cells((60, 10, 90))], {}, None),  # too old to say
        ([cells((90, 100, 0), (91, 0, 10), (92, 0, 10), (93, 0, 10), (94, 0, 10), (95, 0, 10))], {}, False),
        ([cells((95, 100, 0)), cells((98, 0, 100))], {}, False),  # the source that saw it last
        ([cells((95, 100, 0)), cells((98, 0, 3))], {}, True),  # … and saw enough of it
        ([cells((95, 100, 0)), {}], cells((100, 0, 60)), True),  # callers are served, whatever a sample request gets
        ([{}, cells((95, 100, 0))], cells((100, 0, 60)), True),
        ([cells((95, 0, 100))], cells((100, 60, 0)), False),
        ([cells((60, 100, 0)), cells((99, 2, 0))], cells((100, 0, 60)), False),  # nothing else tells
        ([{}, {}], cells((100, 60, 0)), True),
    ],
)
def test_whether_stable_serves_is_told_from_its_last_answers(
    live: list[dict[int, Cell]], probes: dict[int, Cell], serves: bool | None
) -> None:
    assert _serves(live, probes=probes, oldest=70) is serves


def test_a_sample_request_that_only_stable_fails_does_not_make_it_unfit_to_roll_back_to(site: Site) -> None:
    in_first_step(site)
    now = site.azure.clock.now()
    probed = replace(site.rollout, policy=policy(probes=Probes(requests=("{}",))))
    minute = int(now.timestamp() // 60)
    failed = {"blue": cells((minute - 1, 0, 60)), "green": cells((minute - 1, 60, 0))}
    window = (minute - 1, minute)
    site.store.put_cells("probes", site.rollout.ref, failed, window=window, closed_before=minute, read_at=now)
    assert site.reconciler._facts(probed, now).stable_serves is True


def test_a_tick_of_moving_traffic_waits_for_no_answer_about_an_errand(site: Site) -> None:
    class Asked(LocalFleet):
        def ended(self, operation: str) -> Ended | None:
            raise AssertionError(f"asked for {operation}")

    errand = Scale(deployment="green", instances=4)
    running = errand_answered(
        with_intents(at(Phase.PROGRESSING).rollout, [errand], T0), errand, outcome="accepted", now=T0, operation="op"
    )
    for phase in (Phase.PROGRESSING, Phase.PAUSED, Phase.ROLLING_BACK, Phase.GUARDING):
        assert fleet_facts(replace(running, phase=phase), None, Asked(site.azure)) == FleetFacts()
    assert next_look(replace(running, writes=()), T0) == timedelta(seconds=60)
