"""The commands: how they find the daemon, what they refuse by themselves, how they end, how fast they load."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rollout.cli import client, options
from rollout.cli.client import Client, Target, find_daemon, rollout_path
from rollout.cli.linting import lint_files
from rollout.daemon.token import ADDRESS_FILE
from rollout.errors import PolicyError, RolloutError, SettingsError, UnavailableError
from rollout.settings import Api

GOOD = "endpoint_name: recommender\n"


def run(*words: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command as a person runs it, in a folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROLLOUT_")}
    return subprocess.run(
        [sys.executable, "-m", "rollout.cli", *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(Path(__file__).parents[2]), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- finding the daemon


def test_the_environment_names_a_daemon(tmp_path: Path) -> None:
    found = find_daemon(None, {"ROLLOUT_API": "http://127.0.0.1:9/", "ROLLOUT_TOKEN_FILE": str(tmp_path / "t")})
    assert found == Target(address="http://127.0.0.1:9", token_file=tmp_path / "t")


@pytest.mark.parametrize("address", ["127.0.0.1:8123", "https://127.0.0.1", "http://"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(SettingsError, match=r"write it as http://127\.0\.0\.1:8123"):
        find_daemon(None, {"ROLLOUT_API": address})


def test_the_settings_name_a_daemon(tmp_path: Path) -> None:
    config = tmp_path / "rollout.yaml"
    config.write_text("api: {listen: '127.0.0.1:9000', token_file: state/token}\n")
    expected = Target(address="http://127.0.0.1:9000", token_file=tmp_path / "state/token")
    assert find_daemon(config, {}) == expected
    assert find_daemon(None, {"ROLLOUT_CONFIG": str(config)}) == expected
    assert find_daemon(config, {"ROLLOUT_API": "http://127.0.0.1:1"}) == expected  # what is typed wins
    other = find_daemon(config, {"ROLLOUT_API__LISTEN": "127.0.0.1:9001"})
    assert other.address == "http://127.0.0.1:9001"


def test_settings_without_an_api_mean_the_daemons_own_defaults(tmp_path: Path) -> None:
    config = tmp_path / "rollout.yaml"
    config.write_text("store: sqlite:///x.db\n")
    assert find_daemon(config, {}).token_file == tmp_path / Api().token_file
    assert (Api().listen, Api().token_file) == (client.DEFAULT_LISTEN, client.DEFAULT_TOKEN_FILE)
    assert client.ADDRESS_FILE == ADDRESS_FILE


def test_a_daemon_on_a_free_port_leaves_its_address(tmp_path: Path) -> None:
    config = tmp_path / "rollout.yaml"
    config.write_text("api: {listen: '127.0.0.1:0', token_file: token}\n")
    with pytest.raises(UnavailableError, match=r"rollout daemon --config"):
        find_daemon(config, {})
    (tmp_path / ADDRESS_FILE).write_text(json.dumps({"address": "http://127.0.0.1:7", "pid": 1}))
    assert find_daemon(config, {}).address == "http://127.0.0.1:7"


@pytest.mark.parametrize("text", ["api: [", "\x00"])
def test_settings_that_are_no_yaml_are_told(tmp_path: Path, text: str) -> None:
    config = tmp_path / "rollout.yaml"
    config.write_text(text)
    with pytest.raises(SettingsError, match=r"cannot be read"):
        find_daemon(config, {})


def test_no_daemon_is_told_with_what_to_do(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    caller = Client(Target(address="http://127.0.0.1:9", token_file=token_file))
    with pytest.raises(UnavailableError, match=r"has left its token in .*token\. Start one with"):
        caller.get("/v1/rollouts")
    token_file.write_text("a-token")
    with pytest.raises(UnavailableError, match=r"No daemon answers at http://127\.0\.0\.1:9\. Start one with"):
        caller.get("/v1/rollouts")


class Daemon(BaseHTTPRequestHandler):
    """Answers every read with the port that it listens on."""

    def do_GET(self) -> None:
        body = json.dumps({"port": self.server.server_address[1]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def daemon_in(folder: Path) -> Iterator[int]:
    """A daemon on a free port, which it leaves in the folder while it runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Daemon) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        (folder / ADDRESS_FILE).write_text(json.dumps({"address": f"http://127.0.0.1:{server.server_port}"}))
        try:
            yield server.server_port
        finally:
            (folder / ADDRESS_FILE).unlink()
            server.shutdown()
            thread.join()


def test_a_daemon_that_restarts_on_another_port_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "rollout.yaml").write_text("api: {listen: '127.0.0.1:0', token_file: token}\n")
    (tmp_path / "token").write_text("a-token")
    with daemon_in(tmp_path) as first:
        caller = Client(find_daemon(tmp_path / "rollout.yaml", {}))
        assert caller.get("/v1/rollouts") == {"port": first}
    with pytest.raises(UnavailableError, match="rollout daemon --config"):
        caller.get("/v1/rollouts")
    with daemon_in(tmp_path) as second:
        assert caller.get("/v1/rollouts") == {"port": second}


def test_names_are_quoted_in_addresses() -> None:
    assert rollout_path("a/../b c", "history") == "/v1/rollouts/a%2F..%2Fb%20c/history"


# --- what is refused before anything is asked


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["promote", "recommender", "--full"], "say why with --reason"),
        (["abort", "recommender"], "say why with --reason"),
        (["resume", "recommender", "--adopt", "--restore"], "choose one"),
        (["status"], "No settings at rollout.yaml"),
        (["frobnicate"], "No such command"),
        (["status", "x", "--wobble"], "No such option"),
        (["start"], "Missing argument"),
        (["lint", "x.yaml", "--config", "none.yaml"], "No settings at none.yaml"),
    ],
)
def test_a_command_that_cannot_be_carried_out_exits_5_and_says_why(tmp_path: Path, words: list[str], told: str) -> None:
    """5, never 2: with --wait 2 means rolled back."""
    done = run(*words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (5, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("group", [[], ["sandbox"], ["endpoint"], ["deployment"], ["check"]])
def test_the_list_of_commands_fits_80_columns_in_full(tmp_path: Path, group: list[str]) -> None:
    done = run(*group, "--help", folder=tmp_path, COLUMNS="80")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "..." not in done.stdout.split("Commands:")[1]


def test_an_endpoint_is_named_once() -> None:
    assert options.handle("a", None, verb="get") == options.handle(None, "a", verb="get") == "a"
    assert options.handle("a", "a", verb="get") == "a"
    with pytest.raises(PolicyError, match="name one"):
        options.handle("a", "b", verb="get")
    with pytest.raises(PolicyError, match="rollout get ENDPOINT"):
        options.handle(None, None, verb="get")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2d", 172800), ("45", 45), ("1.5m", 90)]
)
def test_times_to_wait(text: str, seconds: float) -> None:
    assert options.seconds(text) == seconds


@pytest.mark.parametrize("text", ["soon", "5 minutes", "m", "1.2.3s", ""])
def test_times_that_are_none_are_told(text: str) -> None:
    with pytest.raises(PolicyError, match="write 90s, 30m, 1h30m or 8h"):
        options.seconds(text)


# --- lint and schema, without a daemon


def test_lint_tells_every_mistake_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text("endpoint_name: recommender\nstep: [5%]\nholdback: 50%\n")
    done = run("lint", "good.yaml", "bad.yaml", "missing.yaml", folder=tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0].startswith("bad.yaml:2:1: step:")
    assert lines[1].startswith("bad.yaml:3:11: holdback:")
    assert lines[2] == "missing.yaml: it cannot be read: No such file or directory."
    assert done.stderr == ""


def test_lint_counts_what_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    assert lint_files([file], effective=False, config=None) == 0
    assert capsys.readouterr().out == "1 policy without mistakes.\n"


def test_lint_takes_the_defaults_of_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, config = tmp_path / "good.yaml", tmp_path / "rollout.yaml"
    file.write_text(GOOD)
    config.write_text("defaults: {holdback: 7%}\n")
    assert lint_files([file], effective=True, config=config) == 0
    assert "holdback: 7%" in capsys.readouterr().out


def test_the_schema_is_printed(tmp_path: Path) -> None:
    done = run("schema", folder=tmp_path)
    assert done.returncode == 0
    assert "endpoint_name" in json.loads(done.stdout)["properties"]


# --- the rest


def test_help_lists_every_command_in_80_columns(tmp_path: Path) -> None:
    done = run("--help", folder=tmp_path, COLUMNS="80")
    assert done.returncode == 0
    verbs = (
        "start list get status watch approve reject promote pause"
        " resume abort history observe alerts policies triggers lint schema"
    )
    for verb in [*verbs.split(), "daemon", "demo", "sandbox"]:
        assert f"\n  {verb} " in done.stdout
    lines = done.stdout.splitlines()[1:]  # the first is the usage, which ends in "[ARGS]..."
    assert [line for line in lines if len(line) > 80 or line.endswith("...")] == []


@pytest.mark.parametrize("words", [["--help"], ["lint", "good.yaml"], ["status", "recommender"]])
def test_quick_commands_import_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    """How long they take is measured by tests/benchmarks/bench_startup.py; here is what makes them slow."""
    (tmp_path / "good.yaml").write_text(GOOD)
    script = (
        "import sys\n"
        "from rollout.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "rollout" in loaded
    heavy = {
        "azure",
        "fastapi",
        "sqlalchemy",
        "apscheduler",
        "numpy",
        "httpx",
        "aiohttp",
        "apprise",
        "rich",
        "structlog",
    }
    assert not loaded & heavy


@pytest.mark.parametrize("kind", RolloutError.__subclasses__())
def test_errors_of_the_daemon_keep_their_sentence(kind: type[RolloutError]) -> None:
    assert kind("A sentence.").message == "A sentence."
