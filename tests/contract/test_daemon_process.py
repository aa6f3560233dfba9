"""The daemon as a process: it starts, answers, hands over on SIGTERM, and says what keeps it from starting.

Azure is not reached here (a port of this machine that refuses); rollouts against a sandbox are in `tests/e2e`.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
GUID = "11111111-2222-3333-4444-555555555555"
STARTS_WITHIN, STOPS_WITHIN = 90.0, 5.0
SETTINGS = "cloud: {sandbox: sandbox.json}\napi: {listen: '127.0.0.1:0'}\nstore: sqlite:///state/rollout.db\n"


class Daemon:
    """One daemon in a folder of its own."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.log = (folder / "daemon.log").open("wb")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLOUT_", "NOTIFY_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rollout.cli", "daemon", "--config", str(folder / "rollout.yaml")],
            env={**kept, "PYTHONPATH": str(ROOT), **environ},
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    @property
    def address(self) -> str:
        return str(json.loads((self.folder / ".rollout" / "daemon.json").read_text())["address"])

    def get(self, path: str) -> httpx.Response:
        token = (self.folder / ".rollout" / "api-token").read_text().strip()
        return httpx.get(self.address + path, headers={"Authorization": f"Bearer {token}"}, trust_env=False)

    def answers(self) -> bool:
        with contextlib.suppress(OSError, KeyError, ValueError, httpx.HTTPError):
            return self.get("/v1/policies").json()["policies"] != [] or not (self.folder / "policies").exists()
        return False

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Its exit code, and how many seconds it took."""
        begun = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        return code, time.monotonic() - begun

    def told(self) -> str:
        return (self.folder / "daemon.log").read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()


def until(condition: Callable[[], bool], seconds: float = STARTS_WITHIN) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come true in time")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Settings of a daemon whose cloud refuses every connection."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    import trustme

    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "secret").write_text("the-secret-of-the-sandbox")
    ids = dict.fromkeys(("tenant_id", "client_id", "subscription_id", "log_workspace"), GUID)
    told = {
        **ids,
        "address": f"https://127.0.0.1:{port}",
        "ca_file": str(tmp_path / "ca.pem"),
        "epoch": 0.0,
        "speed": 1.0,
        "client_secret_file": str(tmp_path / "secret"),
        "resource_group": "rg",
        "workspace_name": "mlw",
        "region": "westeurope",
    }
    (tmp_path / "sandbox.json").write_text(json.dumps(told))
    (tmp_path / "rollout.yaml").write_text(SETTINGS)
    return tmp_path


@pytest.fixture
def started(folder: Path) -> Iterator[Callable[..., Daemon]]:
    running: list[Daemon] = []

    def start(**environ: str) -> Daemon:
        running.append(Daemon(folder, **environ))
        return running[-1]

    yield start
    for daemon in running:
        daemon.close()


def test_a_daemon_lives_and_hands_over(folder: Path, started: Callable[..., Daemon]) -> None:
    """One long story, because a start costs seconds: the SDK is imported."""
    (folder / "policies").mkdir()
    (folder / "policies" / "good.yaml").write_text("endpoint_name: recommender\n")
    (folder / "policies" / "bad.yaml").write_text("endpoint_name: other\nstep: [5%]\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(STARTS_WITHIN)
        daemon = started(NOTIFY_SOCKET=str(folder / "notify"), WATCHDOG_USEC="400000")
        assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(100) == b"WATCHDOG=1"  # from here on nobody reads: the daemon goes on
        until(daemon.answers)

        # a bad policy file stops neither the daemon nor the good one
        bad, good = daemon.get("/v1/policies").json()["policies"]
        assert (bad["name"], good["name"]) == (None, "recommender")
        assert "did you mean `steps`?" in daemon.told()

        # a file that is written while it runs is read
        (folder / "policies" / "bad.yaml").write_text("endpoint_name: other-endpoint\n")
        until(lambda: daemon.get("/v1/policies").json()["policies"][0]["name"] == "other-endpoint", 30)

        # alive, but not ready: the cloud refuses
        assert daemon.get("/healthz").json() == {"status": "ok", "reasons": []}
        until(lambda: daemon.get("/readyz").status_code == 503, 30)
        assert "Azure has not answered for endpoints of sandbox" in daemon.get("/readyz").json()["reasons"][0]

        # the token is made, and kept from others; the address is left
        token_file = folder / ".rollout" / "api-token"
        assert token_file.stat().st_mode & 0o777 == 0o600
        assert (folder / ".rollout" / "daemon.json").stat().st_mode & 0o777 == 0o600

        # a second daemon is refused by the store
        second = subprocess.run(
            [sys.executable, "-m", "rollout.cli", "daemon", "--config", str(folder / "rollout.yaml")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=STARTS_WITHIN,
            check=False,
        )
        assert second.returncode == 1
        assert str(daemon.process.pid) in second.stderr
        assert "Traceback" not in second.stderr
        assert daemon.answers()  # and has not taken the first one's address away

        for _ in range(10):  # what has piled up, so that there is room for the last word
            systemd.recv(100)
        code, took = daemon.end()
        assert code == 0
        assert took < STOPS_WITHIN
        heard: set[bytes] = set()
        while b"STOPPING=1" not in heard:
            heard.add(systemd.recv(100))
    assert not (folder / ".rollout" / "daemon.json").exists()
    lines = [json.loads(line) for line in daemon.told().splitlines()]
    assert lines[-1]["event"] == "The daemon has stopped."
    secrets = [token_file.read_text().strip(), "the-secret-of-the-sandbox"]
    assert not [secret for secret in secrets if secret in daemon.told()]
    assert daemon.process.stdout is not None
    assert daemon.process.stdout.read() == b""


def test_ctrl_c_ends_it_quietly(folder: Path, started: Callable[..., Daemon]) -> None:
    daemon = started()
    until(daemon.answers)
    code, took = daemon.end(signal.SIGINT)
    assert code == 0
    assert took < STOPS_WITHIN
    assert "Traceback" not in daemon.told()


def test_whoever_stops_it_while_it_starts_need_not_wait(folder: Path, started: Callable[..., Daemon]) -> None:
    daemon = started()
    until((folder / ".rollout" / "api-token").exists)
    code, took = daemon.end()
    assert code == 0
    assert took < STOPS_WITHIN
    assert "Traceback" not in daemon.told()


def test_settings_with_mistakes_are_told_all_at_once(folder: Path, started: Callable[..., Daemon]) -> None:
    (folder / "rollout.yaml").write_text("cloud: AzurCloud\nstor: x\napi: {listen: '0.0.0.0:80'}\n")
    daemon = started()
    assert daemon.process.wait(STARTS_WITHIN) == 2
    lines = daemon.told().splitlines()
    assert [line.split(":")[1] for line in lines if line.startswith(str(folder))][:3] == ["1", "2", "3"]
    assert "did you mean" in daemon.told()
    assert "Traceback" not in daemon.told()
    assert not (folder / "state").exists()


def test_an_address_in_use_is_told(folder: Path, started: Callable[..., Daemon]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = started(ROLLOUT_API__LISTEN=listen)
        assert daemon.process.wait(STARTS_WITHIN) == 2
    assert f"api: listen: {listen} cannot be used" in daemon.told()


def test_the_unit_for_systemd_is_sound(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = (ROOT / "deploy" / "rollout.service").read_text().replace("/opt/rollout/bin/rollout", "/bin/true")
    (tmp_path / "rollout.service").write_text(unit)
    checked = subprocess.run(
        [tool, "verify", str(tmp_path / "rollout.service")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
