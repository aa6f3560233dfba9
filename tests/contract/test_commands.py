"""The commands against a real API: what they print, what they exit with, and that a person's wish arrives as a fact."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from rollout.lifecycle import Phase
from rollout.lifecycle.rollout import Would
from rollout.world import Alert, Event, Severity, Split
from tests.support.api import POLICY, RUNNING, LocalApi, local_api

ROOT = Path(__file__).parents[2]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[LocalApi]:
    with local_api(tmp_path) as running:
        yield running


class Ran:
    """A command under way, and what it left. Ctrl-C reaches it also where the tests run in a shell's background."""

    def __init__(self, api: LocalApi, *words: str, **environ: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROLLOUT_")}
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what is ignored here, children ignore, too
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rollout.cli", *words],
                cwd=api.folder,
                env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **api.environ, **environ},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        self.out = self.err = ""

    def end(self) -> int:
        """Wait for it; its exit code."""
        self.out, self.err = self._process.communicate(timeout=60)
        assert "Traceback" not in self.err
        return self._process.returncode

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)


def run(api: LocalApi, *words: str, code: int = 0, **environ: str) -> Ran:
    ran = Ran(api, *words, **environ)
    assert ran.end() == code, ran.err
    return ran


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true in time")


def running(api: LocalApi) -> str:
    rollout = api.start()
    now = api.service.now()
    api.put(rollout.id, **RUNNING, started_at=now, step_since=now)
    api.show(rollout.ref, {"blue": 75, "green": 25})
    return rollout.id


# --- start


def test_start_sends_a_file_and_says_how_to_go_on(api: LocalApi) -> None:
    (api.folder / "canary.yaml").write_text(POLICY + "workspace: prod\n")
    ran = run(api, "start", "canary.yaml", "--candidate", "green")
    assert "○ Pending" in ran.out
    assert ran.out.endswith("Watch it: rollout watch recommender\n")
    (rollout,) = api.store.rollouts()
    assert (rollout.candidate, rollout.created_by) == ("green", "anna")


def test_start_takes_the_name_of_a_policy_that_the_daemon_knows(api: LocalApi) -> None:
    (api.folder / "policies" / "p.yaml").write_text(POLICY + "name: canary\nworkspace: prod\n")
    api.policies.reload()
    assert json.loads(run(api, "start", "canary", "-o", "json").out)["policy"] == "canary"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("missing.yaml", "There is no file missing.yaml."),
        ("nobody", "There is no policy nobody: the daemon has loaded none."),
        ("bad.yaml", "bad.yaml:2:1: step: there is no such field; did you mean `steps`?"),
    ],
)
def test_start_tells_what_is_wrong_with_the_policy(api: LocalApi, word: str, told: str) -> None:
    (api.folder / "bad.yaml").write_text("endpoint_name: recommender\nstep: 5\n")
    ran = run(api, "start", word, code=5)
    assert told in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("phase", "code"), [(Phase.SUCCEEDED, 0), (Phase.ROLLED_BACK, 2), (Phase.PAUSED, 3), (Phase.HALTED, 3)]
)
def test_start_wait_ends_as_the_rollout_does(api: LocalApi, phase: Phase, code: int) -> None:
    (api.folder / "canary.yaml").write_text(POLICY + "workspace: prod\n")
    ran = Ran(api, "start", "canary.yaml", "--wait")
    until(lambda: len(api.store.rollouts()) == 1)
    api.put(api.store.rollouts()[0].id, **{**RUNNING, "phase": phase})
    assert ran.end() == code
    assert "anna asked for a rollout of recommender" in ran.out


# --- observe


def observed(api: LocalApi, act: str | None, *, phase: Phase = Phase.OBSERVED) -> None:
    """The rollout that was started has come this far, and would have done this."""
    rollout, now = api.store.rollouts()[0], api.service.now()
    would = Would(act=act, at=now, sentence=f"Would {act}. The judge says so.") if act else None  # type: ignore[arg-type]
    missed = would if act == "roll_back" else None
    seen = {"stable": "blue", "candidate": "green", "started_at": now, "confirmed": Split.of({"blue": 90, "green": 10})}
    api.put(rollout.id, **{**seen, "phase": phase, "would": would, "missed": missed})


def test_observe_needs_no_policy(api: LocalApi) -> None:
    words = ("-w", "prod", "--stable", "blue", "--candidate", "green", "--deadline", "3d", "--no-watch")
    ran = run(api, "observe", "recommender", *words)
    assert "○ Pending" in ran.out
    (rollout,) = api.store.rollouts()
    assert (rollout.observes, rollout.stable, rollout.candidate, rollout.created_by) == (True, "blue", "green", "anna")
    assert rollout.policy.deadline == timedelta(days=3)
    assert [step.traffic for step in rollout.policy.steps] == [5, 25, 50, 100]


def test_observe_by_a_policy_that_would_act(api: LocalApi) -> None:
    (api.folder / "canary.yaml").write_text(POLICY + "workspace: prod\n")
    view = json.loads(run(api, "observe", "-f", "canary.yaml", "--no-watch", "-o", "json").out)
    assert (view["mode"], view["endpoint"], view["would"], view["share"]) == ("observe", "recommender", None, 0)
    assert [step.traffic for step in api.store.rollouts()[0].policy.steps] == [5, 25, 100]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Which endpoint? Name it: rollout observe ENDPOINT."),
        (["-n", "other", "-f", "canary.yaml"], "The policy is about recommender, not about other"),
        (["-f", "canary.yaml", "--deadline", "3d"], "a policy names its workspace and its deadline itself"),
        (["recommender", "-w", "prod", "--deadline", "soon"], "rollout observe:4:11: deadline"),
    ],
)
def test_observe_refuses_what_does_not_fit(api: LocalApi, words: list[str], told: str) -> None:
    (api.folder / "canary.yaml").write_text(POLICY + "workspace: prod\n")
    ran = run(api, "observe", *words, code=5)
    assert told in " ".join(ran.err.split())
    assert api.store.rollouts() == []


@pytest.mark.parametrize(("act", "code"), [("promote", 0), ("roll_back", 2), ("go_on", 3), (None, 3)])
def test_observe_wait_ends_as_the_rollout_would_have(api: LocalApi, act: str | None, code: int) -> None:
    ran = Ran(api, "observe", "recommender", "-w", "prod", "--wait")
    until(lambda: len(api.store.rollouts()) == 1)
    observed(api, act)
    assert ran.end() == code
    assert "anna asked for a rollout of recommender" in ran.out


def test_status_of_an_observer_says_what_it_would_do(api: LocalApi) -> None:
    run(api, "observe", "recommender", "-w", "prod", "--no-watch")
    observed(api, "go_on", phase=Phase.OBSERVING)
    api.show(api.store.rollouts()[0].ref, {"blue": 90, "green": 10})
    ran = run(api, "status", "recommender")
    assert "◎ Observing  since" in ran.out
    assert "\nWould     go_on  since " in ran.out
    assert "Steps" not in ran.out
    assert "wanted" not in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "◎ Observing - " in run(api, "list").out
    assert json.loads(run(api, "status", "recommender", "-o", "json").out)["share"] == 10


def test_waiting_has_an_end(api: LocalApi) -> None:
    running(api)
    run(api, "status", "recommender", "--wait", "--timeout", "1s", code=4)


def test_ctrl_c_is_quiet(api: LocalApi) -> None:
    running(api)
    ran = Ran(api, "watch", "recommender", PYTHONUNBUFFERED="1")
    assert ran._process.stdout is not None
    first = ran._process.stdout.readline()
    ran.interrupt()
    assert ran.end() == 130
    assert "anna asked" in first
    assert ran.err == ""


# --- looking


@pytest.mark.parametrize("words", [["status", "recommender"], ["get", "-n", "recommender", "-w", "prod"]])
def test_status_shows_where_it_stands(api: LocalApi, words: list[str]) -> None:
    running(api)
    out = run(api, *words).out.replace("\u2009", " ")
    assert "▶ Progressing  step 2 of 3" in out
    assert "blue 75 % + green 25 %" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80


def test_every_read_speaks_json(api: LocalApi) -> None:
    running(api)
    reads = ["list", "get recommender", "status recommender", "history recommender", "alerts", "policies", "triggers"]
    for words in reads:
        assert json.loads(run(api, *words.split(), "-o", "json").out)


def test_a_terminal_without_utf_8_gets_what_it_can_show(api: LocalApi) -> None:
    running(api)
    out = run(api, "status", "recommender", PYTHONIOENCODING="ascii", LC_ALL="C").out
    assert "> Progressing" in out
    assert out.isascii()


def test_history_and_list_read_as_lines(api: LocalApi) -> None:
    running(api)
    assert "anna asked for a rollout of recommender" in run(api, "history", "recommender").out
    listed = run(api, "list", "--active").out
    assert "recommender" in listed.splitlines()[1]
    assert run(api, "list", "-w", "test").out == "No rollouts yet. Start one with: rollout start POLICY\n"


def test_alerts_show_what_was_given_up(api: LocalApi) -> None:
    rollout = api.start()
    event = Event(at=api.service.now(), kind="rolled_back", sentence="Rolled back.", severity=Severity.ACTION)
    alert = Alert(id="a1", rollout_id=rollout.id, endpoint=rollout.ref, event=event, channels=("team-ml",))
    lease = api.store.claim_due(now=api.service.now(), owner="test", lease=api.world.lag(rollout.ref))[0]
    api.store.save(lease, replace(rollout, sentence="Rolled back."), events=[event], alerts=[alert])
    (delivery,) = api.store.due_deliveries(now=api.service.now())
    api.store.delivery_failed(delivery, error="410 Gone", next_at=None)
    out = run(api, "alerts", "recommender", "--state", "dead").out
    assert "team-ml  dead  action, 1 attempt" in out
    assert "410 Gone" in out
    assert run(api, "alerts", "--state", "waiting").out == "No alerts were sent.\n"


def test_what_is_not_there_is_told(api: LocalApi) -> None:
    assert "nobody has no rollout" in run(api, "status", "nobody", code=5).err
    api.start(workspace="prod")
    api.start(workspace="test")
    assert "say which with --workspace" in run(api, "status", "recommender", code=5).err
    run(api, "status", "recommender", "-w", "test")


def test_a_wrong_token_is_told(api: LocalApi) -> None:
    (api.folder / "other").write_text("another-token-altogether")
    ran = run(api, "list", code=5, ROLLOUT_TOKEN_FILE=str(api.folder / "other"))
    assert "does not accept the token in" in ran.err
    assert "another-token-altogether" not in ran.err


# --- commands


@pytest.mark.parametrize(
    ("words", "phase", "told"),
    [
        (["pause", "--reason", "lunch"], Phase.PAUSED, "Paused by anna: lunch"),
        (["abort", "--reason", "wrong model"], Phase.ROLLING_BACK, "wrong model"),
        (["promote", "--full", "--reason", "hotfix"], Phase.PROMOTING, "hotfix"),
    ],
)
def test_a_wish_is_carried_out_by_the_next_tick(api: LocalApi, words: list[str], phase: Phase, told: str) -> None:
    rollout_id = running(api)
    ran = Ran(api, words[0], "recommender", *words[1:])
    until(lambda: len(api.store.pending_commands(rollout_id)) == 1)
    (command,) = api.store.pending_commands(rollout_id)
    assert (command.by, command.origin.startswith("cli@")) == ("anna", True)
    api.tick(rollout_id)
    assert ran.end() == 0
    assert told in ran.out
    assert api.store.load(rollout_id).phase is phase


def test_a_wish_that_does_not_fit_is_refused_with_a_sentence(api: LocalApi) -> None:
    rollout_id = running(api)
    ran = Ran(api, "approve", "recommender", "-o", "json")
    until(lambda: len(api.store.pending_commands(rollout_id)) == 1)
    api.tick(rollout_id)
    assert ran.end() == 5
    answer = json.loads(ran.out)
    assert (answer["state"], "approval" in answer["sentence"]) == ("refused", True)


def test_paused_on_drift_resume_says_whose_split_holds(api: LocalApi) -> None:
    rollout_id = running(api)
    api.put(rollout_id, phase=Phase.PAUSED, paused_because="drift", resume_phase=Phase.PROGRESSING)
    ran = Ran(api, "resume", "recommender", "--restore", "--reason", "mine")
    until(lambda: len(api.store.pending_commands(rollout_id)) == 1)
    (command,) = api.store.pending_commands(rollout_id)
    assert (command.drift, command.reason) == ("restore", "mine")
    api.tick(rollout_id)
    ran.end()


def test_an_ended_rollout_is_told_at_once(api: LocalApi) -> None:
    rollout_id = running(api)
    api.put(rollout_id, phase=Phase.SUCCEEDED, sentence="Promoted.")
    assert "has ended: Promoted." in run(api, "pause", "recommender", code=5).err
