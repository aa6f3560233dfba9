"""The daemon's parts, each by itself: threads, ticks, jobs, policies, secrets, what systemd hears."""

import asyncio
import io
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from rollout.clock import WallClock
from rollout.collector import SourceStatus
from rollout.daemon import logs, notify, token
from rollout.daemon.health import DaemonHealth
from rollout.daemon.jobs import Job, Jobs
from rollout.daemon.policies import PolicyBook
from rollout.daemon.pools import Pool
from rollout.daemon.site import read_site
from rollout.daemon.ticks import JUDGING, LANES, ROLLING_BACK, STARTING, Dispatcher, lane
from rollout.errors import PolicyError, SettingsError, UnavailableError
from rollout.lifecycle import Phase
from rollout.ports import Lease
from rollout.store import SqlStore, open_store
from rollout.world import EndpointRef
from tests.support.stories import a_rollout

LOG = structlog.stdlib.get_logger()
GUID = "11111111-2222-3333-4444-555555555555"
DEADLINE = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, not for a time."""
    pause = threading.Event()
    for _ in range(int(DEADLINE / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true in time")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(f"sqlite:///{tmp_path / 'rollout.db'}", exclusive=True)
    yield opened
    opened.close()


def a_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- threads and ticks


def test_a_pool_works_off_everything_and_survives_errors() -> None:
    pool, done = Pool("test", 2), []
    broken = pool.submit(lambda: done.append(1 / 0))
    for number in range(50):
        pool.submit(lambda number=number: done.append(number))
    assert pool.settle(DEADLINE) == 0
    assert sorted(done) == list(range(50))
    assert isinstance(broken.exception(), ZeroDivisionError)


def test_work_that_hangs_is_counted_and_left() -> None:
    pool, released = Pool("test", 1), threading.Event()
    pool.submit(lambda: released.wait(DEADLINE) and None)
    assert pool.settle(0.01) == 1
    released.set()
    assert pool.settle(DEADLINE) == 0


def test_a_roll_back_has_threads_of_its_own() -> None:
    assert lane(Phase.ROLLING_BACK) == ROLLING_BACK
    assert {lane(phase) for phase in (Phase.PENDING, Phase.PREPARING)} == {STARTING}
    others = set(Phase) - {Phase.ROLLING_BACK, Phase.PENDING, Phase.PREPARING}
    assert {lane(phase) for phase in others} == {JUDGING}
    assert min(LANES.values()) >= 2


def a_dispatcher(store: SqlStore, tick: Callable[[Lease], None]) -> Dispatcher:
    return Dispatcher(store=store, clock=WallClock(), tick=tick, ticked=lambda: None, owner="daemon", log=LOG)


def test_what_is_due_is_ticked_once_and_again_when_woken(store: SqlStore) -> None:
    rollout, seen, clock = a_rollout(), [], WallClock()
    store.create(rollout, (), ())

    def tick(lease: Lease) -> None:
        seen.append(lease.rollout_id)
        store.release(lease, due_at=clock.now() + timedelta(hours=1))

    dispatcher = a_dispatcher(store, tick)
    dispatcher.start()
    until(lambda: len(seen) == 1)
    store.wake([rollout.ref], now=clock.now())
    dispatcher.wake()
    until(lambda: len(seen) == 2)
    assert dispatcher.stop(DEADLINE) == 0
    assert dispatcher.silent_for() >= 0


def test_ticks_that_hang_do_not_hold_up_a_roll_back(store: SqlStore) -> None:
    """As many judging ticks as there are threads wait for Azure; the roll back is ticked all the same."""
    released, ticked = threading.Event(), []
    for number in range(LANES[JUDGING] + LANES[STARTING]):
        store.create(a_rollout(f"r{number}", EndpointRef(workspace="prod", name=f"endpoint-{number}")), (), ())

    def tick(lease: Lease) -> None:
        ticked.append(lease.rollout_id)
        if lease.rollout_id != "back":
            released.wait(DEADLINE)

    dispatcher = a_dispatcher(store, tick)
    dispatcher.start()
    until(lambda: len(ticked) == LANES[JUDGING])
    back = a_rollout("back", EndpointRef(workspace="prod", name="back"), phase=Phase.ROLLING_BACK)
    store.create(back, (), ())
    dispatcher.wake()
    until(lambda: "back" in ticked)
    released.set()
    dispatcher.stop(DEADLINE)


@pytest.mark.parametrize("error", [UnavailableError("The store is busy."), ZeroDivisionError("a bug")])
def test_a_tick_that_fails_gives_its_lease_back(store: SqlStore, error: Exception) -> None:
    store.create(a_rollout(), (), ())
    failed = threading.Event()

    def tick(lease: Lease) -> None:
        failed.set()
        raise error

    dispatcher = a_dispatcher(store, tick)
    dispatcher.start()
    assert failed.wait(DEADLINE)
    dispatcher.stop(DEADLINE)
    later = WallClock().now() + timedelta(minutes=5)
    assert [lease.rollout_id for lease in store.claim_due(now=later, owner="next", lease=timedelta(minutes=1))] == [
        "r1"
    ]


def test_leases_of_ticks_under_way_are_renewed_and_left_ones_handed_over(store: SqlStore) -> None:
    store.create(a_rollout(), (), ())
    begun, released = threading.Event(), threading.Event()

    def tick(_lease: Lease) -> None:
        begun.set()
        released.wait(DEADLINE)

    dispatcher = a_dispatcher(store, tick)
    dispatcher.start()
    assert begun.wait(DEADLINE)
    dispatcher.renew()
    soon = WallClock().now() + timedelta(seconds=55)  # without a renewal the lease would still run: 60 s
    assert store.claim_due(now=soon, owner="next", lease=timedelta(minutes=1)) == []
    assert dispatcher.stop(0.2) == 1  # it hangs: it is left
    found = store.claim_due(now=WallClock().now(), owner="next", lease=timedelta(minutes=1))
    assert [lease.rollout_id for lease in found] == ["r1"]
    released.set()


# --- jobs


def test_a_job_that_fails_is_told_once_and_comes_round_again() -> None:
    told: list[tuple[str, str]] = []

    class Log:
        def __getattr__(self, level: str) -> Callable[..., None]:
            return lambda event, **more: told.append((level, str(more.get("reason", event))))

    outcomes: list[Exception | None] = [
        UnavailableError("Azure is away."),
        UnavailableError("Azure is away."),
        UnavailableError("Azure is busy."),
        None,
        None,
        ZeroDivisionError("a bug"),
        None,
    ]

    def work() -> None:
        outcome = outcomes.pop(0)
        if outcome:
            raise outcome

    job = Job("Looking", work, every=1, pool=Pool("test", 1), log=Log())  # type: ignore[arg-type]
    while outcomes:
        job.run()
    assert told == [
        ("warning", "Azure is away."),
        ("warning", "Azure is busy."),
        ("info", "Looking works again."),
        ("error", "Looking failed in a way that nobody foresaw."),
        ("info", "Looking works again."),
    ]


def test_jobs_run_at_once_and_again_and_never_twice_at_a_time() -> None:
    running, most, runs = 0, 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most, runs
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1
            runs += 1

    job = Job("Counting", work, every=0.02, pool=Pool("test", 4), log=LOG)

    async def play() -> None:
        jobs = Jobs([job])
        jobs.start()
        for _ in range(int(DEADLINE / 0.01)):
            job.hurry()
            if runs >= 5:
                break
            await asyncio.sleep(0.01)
        jobs.stop()

    asyncio.run(play())
    assert runs >= 5
    assert most == 1


def test_a_job_under_way_when_the_daemon_stops_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(DEADLINE)

    async def play() -> None:
        job = Job("Waiting", work, every=0.02, pool=Pool("test", 1), log=LOG)
        scheduler = AsyncIOScheduler(timezone="UTC")
        scheduler.add_job(job.scheduled, "interval", seconds=job.every)
        scheduler.start()
        await asyncio.to_thread(begun.wait, DEADLINE)
        scheduler.shutdown(wait=False)
        go_on.set()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

    asyncio.run(play())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


# --- policies


def a_book(folder: Path, **changes: object) -> PolicyBook:
    told = {"defaults": {}, "channels": frozenset({"team-ml"}), "clock": WallClock(), "log": LOG}
    return PolicyBook(folder, **{**told, **changes})  # type: ignore[arg-type]


def test_a_bad_file_stops_neither_the_others_nor_its_last_good_version(tmp_path: Path) -> None:
    book = a_book(tmp_path)
    a_file(tmp_path, "one.yaml", "endpoint_name: one-endpoint\nholdback: 3%\n")
    a_file(tmp_path, "two.yml", "endpoint_name: two-endpoint\n")
    a_file(tmp_path, "notes.txt", "endpoint_name: three\n")
    book.reload()
    assert [found.name for found in book.listed()] == ["one-endpoint", "two-endpoint"]
    a_file(tmp_path, "one.yaml", "endpoint_name: one-endpoint\nholdbak: 4%\n")
    book.reload()
    assert book.find("one-endpoint").holdback == 3
    one, two = book.listed()
    assert "did you mean `holdback`?" in one.mistakes[0]
    assert two.mistakes == ()
    a_file(tmp_path, "one.yaml", "endpoint_name: one-endpoint\nholdback: 10%\n")
    book.reload()
    assert (book.find("one-endpoint").holdback, book.listed()[0].mistakes) == (10, ())
    (tmp_path / "one.yaml").unlink()
    book.reload()
    with pytest.raises(PolicyError, match="the daemon knows two-endpoint"):
        book.find("one-endpoint")


def test_two_files_may_not_share_a_name(tmp_path: Path) -> None:
    book = a_book(tmp_path)
    a_file(tmp_path, "a.yaml", "endpoint_name: one-endpoint\n")
    a_file(tmp_path, "b.yaml", "endpoint_name: one-endpoint\n")
    book.reload()
    assert "already the name of the policy in" in book.listed()[1].mistakes[0]
    (tmp_path / "a.yaml").unlink()
    book.reload()
    assert [(found.name, found.mistakes) for found in book.listed()] == [("one-endpoint", ())]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * 300_000, b"- 1\n", b""])
def test_a_file_that_is_no_policy_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    book = a_book(tmp_path)
    book.reload()
    (found,) = book.listed()
    assert found.name is None
    assert str(tmp_path / "x.yaml") in found.mistakes[0]


def test_a_policy_names_only_channels_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no channel team-x: they name team-ml\."):
        a_book(tmp_path).parse("endpoint_name: one-endpoint\nalerts: [team-x]\n", file="p.yaml")


def test_no_folder_is_no_policy(tmp_path: Path) -> None:
    book = a_book(tmp_path / "none")
    book.reload()
    assert book.listed() == []
    with pytest.raises(PolicyError, match="has loaded none"):
        book.find("x")


# --- settings and secrets

SETTINGS = f"""\
workspaces:
  prod: {{subscription_id: {GUID}, resource_group: rg, workspace_name: mlw, region: westeurope, log_workspace: {GUID}}}
credential: {{type: client_secret, tenant_id: {GUID}, client_id: {GUID}, secret_file: az.secret}}
store: sqlite:///state/rollout.db
channels:
  team-ml: {{url_env: TEAM_URL, severity: [page]}}
  hook: {{webhook: "http://127.0.0.1:9/hook", secret_file: hook.secret}}
defaults: {{holdback: 7%}}
"""


def test_a_site_is_settings_with_paths_and_secrets_resolved(tmp_path: Path) -> None:
    config = a_file(tmp_path, "rollout.yaml", SETTINGS)
    a_file(tmp_path, "az.secret", "azure-secret\n")
    a_file(tmp_path, "hook.secret", "hook-secret\n")
    hidden = logs.Secrets()
    environ = {"TEAM_URL": "slack://token-a/token-b", "ROLLOUT_API": "http://127.0.0.1:1"}
    site = read_site(config, environ=environ, secrets=hidden)
    assert site.store_url == f"sqlite:///{tmp_path / 'state/rollout.db'}"
    assert site.client_secret == "azure-secret"
    assert [(channel.name, channel.url, channel.secret) for channel in site.channels] == [
        ("team-ml", "slack://token-a/token-b", None),
        ("hook", "http://127.0.0.1:9/hook", "hook-secret"),
    ]
    assert hidden.hide("x azure-secret y hook-secret slack://token-a/token-b") == "x *** y *** ***"
    assert "azure-secret" not in repr(site)
    assert "hook-secret" not in repr(site)


def test_every_missing_secret_is_told_at_once(tmp_path: Path) -> None:
    config = a_file(tmp_path, "rollout.yaml", SETTINGS.replace("holdback: 7%", "holdbak: 7%"))
    with pytest.raises(SettingsError) as caught:
        read_site(config, environ={}, secrets=logs.Secrets())
    lines = caught.value.message.splitlines()
    assert [line.removeprefix(f"{config}: ").split(":")[0] for line in lines] == [
        "credential",
        "channels",
        "channels",
        "defaults",
    ]
    assert "az.secret cannot be read: No such file or directory." in lines[0]
    assert "TEAM_URL is empty or missing" in lines[1]
    assert "did you mean `holdback`?" in lines[3]


def test_the_sandbox_lends_its_clock(tmp_path: Path) -> None:
    told = {
        "address": "https://127.0.0.1:1",
        "ca_file": "ca.pem",
        "epoch": 1_000_000.0,
        "speed": 60.0,
        "tenant_id": GUID,
        "client_id": GUID,
        "client_secret_file": str(a_file(tmp_path, "secret", "sandbox-secret")),
        "subscription_id": GUID,
        "resource_group": "rg",
        "workspace_name": "mlw",
        "region": "westeurope",
        "log_workspace": GUID,
    }
    a_file(tmp_path, "sandbox.json", json.dumps(told))
    config = a_file(tmp_path, "rollout.yaml", "cloud: {sandbox: sandbox.json}\n")
    site = read_site(config, environ={}, secrets=logs.Secrets())
    assert site.clock == WallClock(epoch=1_000_000.0, speed=60.0)
    assert list(site.settings.workspaces) == ["sandbox"]
    assert site.client_secret == "sandbox-secret"


@pytest.mark.parametrize("content", [None, "", "{}", '{"address": 1, "ca_file": 2, "epoch": "x", "speed": 1}'])
def test_a_sandbox_that_is_not_there_is_told(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        a_file(tmp_path, "sandbox.json", content)
    config = a_file(tmp_path, "rollout.yaml", "cloud: {sandbox: sandbox.json}\n")
    with pytest.raises(SettingsError, match="start"):
        read_site(config, environ={}, secrets=logs.Secrets())


def test_the_token_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    path = tmp_path / "state" / "token"
    made = token.read_or_make(path, make=lambda: "a-token-of-some-length")
    assert path.stat().st_mode & 0o777 == 0o600
    assert token.read_or_make(path, make=lambda: "another-token-of-length") == made
    path.chmod(0o644)
    with pytest.raises(SettingsError, match=r"others may read .*chmod 600"):
        token.read_or_make(path, make=lambda: "")
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(SettingsError, match="holds no token"):
        token.read_or_make(path, make=lambda: "")


def test_the_address_is_left_for_the_commands(tmp_path: Path) -> None:
    file = token.write_address(tmp_path, "http://127.0.0.1:7")
    assert json.loads(file.read_text()) == {"address": "http://127.0.0.1:7", "pid": os.getpid()}
    assert file.stat().st_mode & 0o777 == 0o600


# --- the log


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured)


@pytest.mark.usefixtures("logging_restored")
def test_no_secret_reaches_the_log_whatever_carries_it() -> None:
    hidden, out = logs.Secrets(), io.StringIO()
    hidden.add("the-secret-word")
    log = logs.set_up(hidden, now=lambda: datetime(2026, 11, 22, tzinfo=UTC), stream=out)
    error = ValueError("with the-secret-word inside")
    log.error("failed near the-secret-word", exc_info=error, token="abc", reason="the-secret-word")
    logging.getLogger("azure.core").warning("the-secret-word %s", "the-secret-word")
    logging.getLogger("azure.core").info("not told")
    assert "the-secret-word" not in out.getvalue()
    first, second = map(json.loads, out.getvalue().splitlines())
    assert list(first)[:3] == ["at", "level", "event"]
    assert (first["token"], first["reason"], first["at"]) == ("***", "***", "2026-11-22T00:00:00.000+00:00")
    assert "ValueError" in first["exception"]
    assert second["level"] == "warning"


# --- systemd


def test_systemd_hears_of_us(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.settimeout(DEADLINE)
        notify.tell("READY=1", {"NOTIFY_SOCKET": address})
        assert heard.recv(100) == b"READY=1"
    notify.tell("READY=1", {"NOTIFY_SOCKET": address})  # nobody listens any more: no reason to fail
    notify.tell("READY=1", {})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time(environ: dict[str, str], seconds: float | None) -> None:
    assert notify.watchdog_seconds(environ, pid=7) == seconds


# --- health


def a_health(store: SqlStore, *sources: SourceStatus, silent: float = 0.0) -> DaemonHealth:
    clock = WallClock()
    return DaemonHealth(
        store=store,
        clock=clock,
        loops=[("dispatcher", lambda: silent)],
        sources=lambda: sources,
        intervals=lambda source: timedelta(seconds=15),
        started_at=clock.now(),
    )


def a_source(source: str = "endpoints", *, ago: int | None = 0, error: str | None = None) -> SourceStatus:
    success = None if ago is None else WallClock().now() - timedelta(seconds=ago)
    return SourceStatus(source=source, key="prod", last_success=success, last_error=error)


def test_health_says_what_is_wrong(store: SqlStore) -> None:
    assert a_health(store, a_source()).alive() == []
    assert a_health(store, a_source()).ready() == []
    assert a_health(store, silent=31).alive() == ["The dispatcher has not turned for 31 s."]
    assert a_health(store).ready() == ["Azure has not been asked yet."]
    assert a_health(store, a_source(ago=30, error="403")).ready() == []  # one failure is no silence
    (old,) = a_health(store, a_source(ago=120, error="403")).ready()
    assert old.startswith("Azure has not answered for endpoints of prod since ")
    assert old.endswith(": 403")
    (never,) = a_health(store, a_source(ago=None, error="403")).ready()
    assert "since the start: 403" in never


def test_a_store_that_cannot_be_written_is_not_ready(store: SqlStore, tmp_path: Path) -> None:
    health = a_health(store, a_source())
    store.close()
    (tmp_path / "rollout.db").write_bytes(b"no database" * 1000)
    for leftover in tmp_path.glob("rollout.db-*"):
        leftover.unlink()
    (reason,) = health.ready()
    assert "rollout.db" in reason
