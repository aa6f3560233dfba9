"""`rollout sandbox` as a person uses it: the server as its own process, the other commands beside it."""

import json
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rollout import sandbox
from rollout.errors import RefusedError, SettingsError, UnavailableError
from rollout.sandbox.commands import app
from rollout.sandbox.local import read_values
from rollout.sandbox.server import without_proxy

START = [sys.executable, "-m", "rollout.cli", "sandbox"]
SECONDS = 60.0
SAMPLES = Path(sandbox.__file__).parent / "samples"
GREEN = (SAMPLES / "green-v2.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The state folder of a running sandbox, and what it printed."""
    state = tmp_path_factory.mktemp("state")
    command = [*START, "--speed", "60", "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline()]
            while lines[-1] and "Ctrl-C" not in lines[-1]:
                lines.append(process.stdout.readline())
            yield state, "".join(lines)
        finally:
            process.terminate()
            process.wait(20)


def run(state: Path, *words: str) -> str:
    """What a command prints; its error is raised."""
    result = CliRunner().invoke(app, [words[0], "--state", str(state), *words[1:]])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def told(state: Path, *words: str) -> Any:
    return json.loads(run(state, *words, "-o", "json"))


def test_it_says_how_to_point_settings_at_it(started: tuple[Path, str]) -> None:
    state, printed = started
    assert f"cloud: {{sandbox: {state}/sandbox.json}}" in printed
    assert "speed 60: a minute of its clock takes 1 s" in printed
    assert "traffic blue 100 %" in printed
    assert len(printed.splitlines()) <= 10


def test_its_files_are_private(started: tuple[Path, str]) -> None:
    for name in ("sandbox.json", "client-secret", "ca.pem"):
        assert stat.S_IMODE((started[0] / name).stat().st_mode) == 0o600


def test_load_is_answered_and_counted(started: tuple[Path, str]) -> None:
    seen = told(started[0], "load", "--rps", "50", "--duration", "1s", "--spacing", "even")
    assert seen["deployments"]["blue"]["statuses"] == {"200": 50}
    status = told(started[0], "status")
    assert status["requests"]["restaurant-recommender"]["blue"]["requests"] >= 50
    assert "restaurant-recommender: Succeeded, traffic blue 100 %" in run(started[0], "status")


def deploy(state: Path, file: Path) -> "subprocess.CompletedProcess[str]":
    """`rollout sandbox deploy` in a process of its own: the SDK prints as it likes, and keeps its clouds to itself."""
    command = [*START, "deploy", "--state", str(state), str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_a_deployment_file_is_deployed_with_the_sdk(started: tuple[Path, str]) -> None:
    done = deploy(started[0], SAMPLES / "green-v2.yml")
    assert (done.returncode, done.stdout) == (0, "green is ready.\n"), done.stderr
    assert " green Succeeded 0 requests, " in " ".join(run(started[0], "status").split())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "could not be deployed: Error while parsing yaml file"),
        (
            "name: green",
            "is no deployment: endpoint_name: Missing data for required field; instance_type: Missing data",
        ),
        (GREEN.replace("instance_count: 2", "instance_count: many"), "instance_count: Not a valid integer."),
        (GREEN.replace("restaurant-recommender", "nowhere"), "Online endpoint nowhere was not found."),
    ],
)
def test_a_file_that_cannot_be_deployed_is_told_in_a_sentence(
    started: tuple[Path, str], tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "wrong.yml"
    file.write_text(text)
    done = deploy(started[0], file)
    assert (done.returncode, done.stdout) == (5, "")
    assert told in " ".join(done.stderr.split())
    assert len(done.stderr.splitlines()) < 5
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["errors", "-d", "green", "--share", "7%"], "errors, deployment green, share 7 %"),
        (["latency", "--factor", "2.5"], "latency, every deployment, 2.5 times as slow"),
        (["crash", "-d", "blue", "-n", "cafe", "--minutes", "2"], "crash, endpoint cafe, deployment blue, 2 minutes"),
        (["arm-throttle", "--retry-after", "17", "--count", "3"], "arm-throttle, on writes, Retry-After 17 s, 3 times"),
        (["arm-error", "--on", "polls", "--status", "502", "--count", "1"], "arm-error, on polls, status 502"),
        (["monitor-gap", "--for", "1h30m", "--on", "logs"], "monitor-gap, on logs, until"),
    ],
)
def test_a_fault_is_injected_listed_and_cleared(started: tuple[Path, str], words: list[str], line: str) -> None:
    injected = run(started[0], "inject", *words)
    assert line in injected
    number = injected.split(":")[1].strip()
    assert injected.removeprefix("Injected: ").strip() in run(started[0], "faults")
    assert run(started[0], "clear", number) == "Ended 1 fault.\n"
    assert run(started[0], "faults") == "No fault is active.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inject", "eror"], "Fault eror is unknown: did you mean errors?"),
        (["inject", "arm"], "is unknown"),
        (["inject", "errors", "--share", "lots"], "--share lots: write a percentage such as 7%"),
        (["inject", "errors", "--for", "soon"], "--for soon: write a time such as 90s, 10m or 1h30m"),
        (["load", "--duration", "0"], "--duration 0: write a time"),
        (["load", "--key-file", "/nowhere/key"], "/nowhere/key: the key cannot be read"),
    ],
)
def test_what_was_written_wrong_is_named(started: tuple[Path, str], words: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        run(started[0], *words)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inject", "leak"], "extra_ms: a leak needs it"),
        (["inject", "crash"], "minutes: crash needs them"),
        (["inject", "latency"], "factor: latency needs it"),
        (["inject", "arm-conflict", "--on", "logs"], "on: 'logs' is not one of reads, writes"),
        (["clear", "999"], "There is no active fault 999"),
    ],
)
def test_what_the_sandbox_refuses_is_told(started: tuple[Path, str], words: list[str], message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        run(started[0], *words)
    assert message in caught.value.message


def test_a_second_sandbox_in_the_same_folder_is_refused(started: tuple[Path, str]) -> None:
    second = subprocess.run(
        [*START, "start", "--state", str(started[0])], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert second.returncode != 0
    assert "A sandbox runs already with its state in" in second.stderr
    assert "Traceback" not in second.stderr
    assert told(started[0], "status")["speed"] == 60


def test_a_taken_port_is_refused(started: tuple[Path, str], tmp_path: Path) -> None:
    port = read_values(started[0])["address"].rpartition(":")[2]
    with pytest.raises(SettingsError) as caught:
        run(tmp_path, "start", "--port", port)
    assert f"cannot listen on 127.0.0.1:{port}" in caught.value.message


def test_without_a_sandbox_the_commands_say_so(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="start one with `rollout sandbox`"):
        run(tmp_path, "status")
    gone = dict.fromkeys(("epoch", "speed", "client_id", "client_secret_file", "workspace_name", "pid"), "x")
    (tmp_path / "ca.pem").write_bytes(b"")
    values = {**gone, "address": "https://127.0.0.1:9", "ca_file": None}
    (tmp_path / "sandbox.json").write_text(json.dumps(values))
    with pytest.raises(UnavailableError, match="start it anew"):
        run(tmp_path, "status")
    (tmp_path / "sandbox.json").write_text("{}")
    with pytest.raises(SettingsError, match="lacks address"):
        run(tmp_path, "status")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_children_and_its_file(tmp_path: Path, number: signal.Signals) -> None:
    command = [*START, "start", "--state", str(tmp_path), "--speed", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Sandbox at https://127.0.0.1:")
        children = _children(process.pid)
        assert children, "blue has a process of its own"
        process.send_signal(number)
        assert process.wait(20) == 0
    deadline = time.monotonic() + 10
    while any(_alive(child) for child in children):
        assert time.monotonic() < deadline, "a model process outlived the sandbox"
    assert not (tmp_path / "sandbox.json").exists()


def test_loopback_is_never_asked_through_a_proxy() -> None:
    assert without_proxy("") == "127.0.0.1,localhost"
    assert without_proxy("example.org,127.0.0.1") == "example.org,127.0.0.1,localhost"


def _children(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def _alive(process: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
