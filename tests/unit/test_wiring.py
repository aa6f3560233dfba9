"""Who knows whom: what the daemon's parts do together, over a local Azure's ports."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import structlog

from rollout.alerts import Courier
from rollout.azure.cloud import CLOUDS
from rollout.azure.connection import Azure
from rollout.daemon import logs, wiring
from rollout.daemon.site import read_site
from rollout.lifecycle import Rollout
from rollout.ports import Listing
from rollout.store import open_store
from tests.support.local_azure import LocalAzure, LocalLogs
from tests.support.receivers import until

LOG = structlog.stdlib.get_logger()
GUID = "11111111-2222-3333-4444-555555555555"
SETTINGS = f"""\
workspaces:
  prod: {{subscription_id: {GUID}, resource_group: rg, workspace_name: mlw, region: westeurope, log_workspace: {GUID}}}
store: sqlite:///rollout.db
"""
STARTS = 50


class SlowAzure(LocalAzure):
    """Its lists wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.lists = 0
        self.gate = threading.Event()

    def list(self) -> Listing:
        """One look, counted when it begins."""
        self.lists += 1
        self.gate.wait(20)
        return super().list()


@pytest.fixture
def azure() -> SlowAzure:
    return SlowAzure()


@pytest.fixture
def builder(tmp_path: Path, azure: SlowAzure) -> Iterator[wiring._Builder]:
    """What makes a daemon's parts, none of them at work."""
    config = tmp_path / "rollout.yaml"
    config.write_text(SETTINGS)
    site = read_site(config, environ={}, secrets=logs.Secrets())
    with ExitStack() as closing:
        store = open_store(site.store_url, exclusive=True)
        closing.callback(store.close)
        door = Azure(CLOUDS["AzureCloud"], ExitStack())
        door.endpoints = {"prod": azure}
        door.logs, door.metrics = {GUID: LocalLogs(azure)}, {(GUID, "westeurope"): LocalLogs(azure)}
        courier = Courier(store=store, channels=(), clock=site.clock, log=LOG)
        yield wiring._Builder(site, store, door, courier, LOG)


def test_many_starts_share_their_looks(builder: wiring._Builder, azure: SlowAzure) -> None:
    service = builder.parts(lambda: uuid4().hex, ExitStack()).service
    started: list[Rollout] = []

    def start(number: int) -> None:
        policy = service.policies.parse(f"endpoint_name: menu-{number}\n", file="policy.yaml")
        started.append(service.start(policy, candidate=None, by="ana"))

    start(0)
    until(lambda: azure.lists)
    for number in range(1, STARTS):
        start(number)
    azure.gate.set()
    assert builder._readers.settle(20) == 0
    assert azure.lists == 2  # the one that was under way, and one for all that began meanwhile
    assert all(service.world.latest(rollout.ref) for rollout in started)


def test_no_read_waits_for_a_thread_of_another(builder: wiring._Builder) -> None:
    """A policy's own slow query does not hold up the logs."""
    polls = [job for job in builder.parts(lambda: uuid4().hex, ExitStack()).jobs if job._pool is builder._readers]
    assert len(polls) == 5
    all_at_once = threading.Barrier(len(polls) + 1)
    for _ in polls:
        builder._readers.submit(lambda: assert_met(all_at_once))
    assert_met(all_at_once)
    assert builder._readers.settle(20) == 0


def assert_met(barrier: threading.Barrier) -> None:
    """All have come."""
    barrier.wait(20)
