"""The scoring front end with real model processes: the split, every status, crashes, and one row for each request."""

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from http.client import HTTPSConnection, RemoteDisconnected
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest
from scipy.stats import binomtest

from rollout.sandbox.channel import HELLO, READY, Reply, take_reply
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.faults import MonitorFault, ServingFault
from rollout.sandbox.load import LoadOptions, read_bodies, report, send
from rollout.sandbox.resources import Actor, Asset, State
from rollout.sandbox.seed import SAMPLES
from tests.support.sandbox import LocalSandbox, local_sandbox

ENDPOINT = "restaurant-recommender"
ACTOR = Actor(id="tests")
PATIENCE = 30.0  # real seconds until a process must be there, or gone

#: A model that does what the request says: every way in which a script can go wrong.
MODEL = """
import json, os, sys, time
from azureml.contrib.services.aml_response import AMLResponse

def init():
    print("ready to serve " + os.environ["FLAVOUR"])

def run(raw):
    wish = json.loads(raw)
    if "raise" in wish: raise ValueError(wish["raise"])
    if "wait" in wish:
        time.sleep(wish["wait"])
        print(f"waited {wish['wait']} s")
    if "exit" in wish: sys.exit(wish["exit"])
    if "abort" in wish: os.abort()
    if "odd" in wish: return {1, 2}
    if "status" in wish: return AMLResponse({"code": wish["status"]}, wish["status"], json_str=True)
    if "text" in wish: return AMLResponse(wish["text"], 200, {"Content-Type": "text/csv"})
    return wish
"""
BROKEN = "def init():\n    raise RuntimeError('no model file')\n\ndef run(raw):\n    return raw\n"


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer of the front end."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A sandbox with the sample endpoint: blue (the samples' v1) with all traffic, odd (the model above) with none."""

    local: LocalSandbox

    def connection(self) -> HTTPSConnection:
        port = int(self.local.address.rpartition(":")[2])
        context = ssl.create_default_context(cafile=self.local.ca_file)
        return HTTPSConnection("127.0.0.1", port, context=context, timeout=PATIENCE)

    @property
    def key(self) -> str:
        return self.local.call(lambda cloud: cloud.endpoint(ENDPOINT).primary_key)

    @property
    def pinned(self) -> dict[str, str]:
        """Headers of a request for odd, past the split."""
        return {"Authorization": f"Bearer {self.key}", "azureml-model-deployment": "odd"}

    def score(
        self, body: object, *, to: str | None = None, key: str | None = None, endpoint: str = ENDPOINT, **headers: str
    ) -> Answered:
        """One prediction."""
        given = {"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json", **headers}
        if to is not None:
            given["azureml-model-deployment"] = to
        connection = self.connection()
        try:
            connection.request("POST", f"/endpoints/{endpoint}/score", json.dumps(body), given)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answered(status=response.status, headers=named, body=response.read())
        finally:
            connection.close()

    def row(self, status: int, *, deployment: str = "odd") -> Any:
        """The newest row with this status."""
        waiting = self.local.call(lambda _: list(self.local.sandbox.log.logs))
        found = [each for each in waiting if (each.response_code, each.deployment_name) == (status, deployment)]
        return max(found, key=lambda each: each.time_generated, default=None)

    def statuses(self, deployment: str = "odd") -> dict[str, int]:
        """Answers so far, by status."""
        counts = self.local.call(lambda _: self.local.sandbox.log.statistics())
        return dict(counts.get(ENDPOINT, {}).get(deployment, {}).get("statuses", {}))

    def inject(self, kind: str, **changes: Any) -> None:
        """A fault of the serving plane, from now on."""
        given = {"deployment": "odd", **changes}
        self.local.call(lambda cloud: cloud.faults.add(ServingFault(kind=kind, since=cloud.now(), **given)))  # type: ignore[arg-type]

    def console(self, deployment: str = "odd") -> str:
        """What the deployment's process wrote."""
        return "\n".join(self.local.call(lambda cloud: cloud.logs(ENDPOINT, deployment, tail=500)))


def until(condition: Any, what: str) -> Any:
    """Wait until it holds; its value is returned."""
    deadline, pause = monotonic() + PATIENCE, Event()
    while not (value := condition()):
        assert monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        pause.wait(0.02)
    return value


def deploy(
    cloud: Cloud, name: str, code: Path, *, instances: int = 1, concurrent: int = 1, timeout: str = "PT5S"
) -> None:
    """Begin to create a deployment whose code is in this folder."""
    cloud.assets.register(Asset(kind="codes", name=name, version="1", path=code), now=cloud.now())
    identity = cloud.identity
    body = {
        "location": identity.region,
        "sku": {"name": "Default", "capacity": instances},
        "properties": {
            "endpointComputeType": "Managed",
            "model": identity.asset_id("models", "recommender", "1"),
            "environmentId": identity.asset_id("environments", "recommender-env", "1"),
            "codeConfiguration": {"codeId": identity.asset_id("codes", name, "1"), "scoringScript": "score.py"},
            "environmentVariables": {"FLAVOUR": "vanilla"},
            "instanceType": "Standard_DS3_v2",
            "requestSettings": {"requestTimeout": timeout, "maxConcurrentRequestsPerInstance": concurrent},
            "scaleSettings": {"scaleType": "Default"},
        },
    }
    cloud.put_deployment(ENDPOINT, name, body, actor=ACTOR)


def ended(local: LocalSandbox, name: str) -> State | None:
    """The state of a deployment once its operation is over."""

    def look(cloud: Cloud) -> State | None:
        cloud.hurry()
        state = cloud.deployment(ENDPOINT, name).state
        return None if state.busy else state

    return local.call(look)


def write_model(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "score.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("serving")
    code = write_model(folder / "odd", MODEL)
    with local_sandbox(folder / "state", speed=60, seed=True) as local:
        local.call(lambda cloud: deploy(cloud, "odd", code, concurrent=2, timeout="PT0.5S"))
        assert until(lambda: ended(local, "odd"), "the model process") is State.SUCCEEDED
        yield Site(local=local)


@pytest.fixture(autouse=True)
def _calm(request: pytest.FixtureRequest) -> Iterator[None]:
    """No fault outlives its test."""
    yield
    if "site" in request.fixturenames:
        request.getfixturevalue("site").local.call(lambda cloud: cloud.faults.clear())


def sample() -> Any:
    return json.loads((SAMPLES / "requests" / "sample.json").read_text())


# Answers


def test_a_good_answer_has_the_headers_of_azure(site: Site) -> None:
    answered = site.score({"a": 1}, to="odd", **{"x-ms-client-request-id": "abc-1", "User-Agent": "u" * 80})
    assert (answered.status, answered.json()) == (200, {"a": 1})
    assert answered.headers["azureml-model-deployment"] == "odd"
    assert answered.headers["server"] == "azureml-frontdoor"
    assert answered.headers["x-ms-client-request-id"] == "abc-1"
    assert answered.headers["x-ms-run-function-failed"] == "False"
    assert float(answered.headers["x-ms-run-fn-exec-ms"]) >= 0
    written = site.row(200)
    assert written.x_request_id == answered.headers["x-request-id"]
    assert (written.model_status_code, written.auth_type, written.path) == (200, "Key", "/score")
    assert (written.request_payload_size, written.response_payload_size) == (8, 8)
    assert (written.xms_client_request_id, written.user_agent) == ("abc-1", "u" * 70)


def test_a_script_may_say_status_and_type_itself(site: Site) -> None:
    plain = site.score({"text": "a,b"}, to="odd")
    assert (plain.status, plain.headers["content-type"], plain.body) == (200, "text/csv", b"a,b")
    refused = site.score({"status": 400}, to="odd")
    assert (refused.status, refused.json()) == (424, {"code": 400})
    assert refused.headers["ms-azureml-model-error-statuscode"] == "400"
    assert refused.headers["ms-azureml-model-error-reason"] == "model_error"
    written = site.row(424)
    assert (written.model_status_code, written.model_status_reason) == (400, "model_error")


@pytest.mark.parametrize("wish", [{"raise": "no"}, {"odd": True}])
def test_an_exception_and_an_answer_that_is_no_json_are_500_of_the_model(site: Site, wish: dict[str, Any]) -> None:
    answered = site.score(wish, to="odd")
    assert (answered.status, answered.headers["ms-azureml-model-error-statuscode"]) == (424, "500")
    assert answered.body == b"An unexpected error occurred in scoring script. Check the logs for more info."
    until(lambda: ("ValueError" if "raise" in wish else "not JSON serializable") in site.console(), "the traceback")


def test_what_the_process_writes_is_in_the_logs(site: Site) -> None:
    assert "ready to serve vanilla" in site.console()


def test_a_wrong_key_is_401_and_an_unknown_name_404(site: Site) -> None:
    assert site.score({}, key="wrong").status == 401
    assert site.score({}, to="nobody").status == 404
    assert site.score({}, endpoint="elsewhere").status == 404
    assert site.row(401, deployment="").endpoint_name == ENDPOINT
    assert site.statuses("") == {"401": 1, "404": 1}


def test_a_slow_answer_is_408_when_the_time_is_up(site: Site) -> None:
    assert site.score({"wait": 0.7}, to="odd").status == 408
    until(lambda: "waited 0.7 s" in site.console(), "the model, which goes on working")
    written = site.row(408)
    assert (written.model_status_code, written.response_duration_ms) == (0, 0)
    assert 500 <= written.total_duration_ms < 5_000


def test_a_client_that_leaves_is_written_as_0(site: Site) -> None:
    connection = site.connection()
    connection.request("POST", f"/endpoints/{ENDPOINT}/score", '{"wait": 0.4}', site.pinned)
    before = site.statuses().get("0", 0)
    connection.sock.close()
    connection.close()
    until(lambda: site.statuses().get("0", 0) == before + 1, "the row of a client that left")
    assert site.row(0).response_code_reason == "client disconnected"
    until(lambda: "waited 0.4 s" in site.console(), "the model, which goes on working")


def test_more_than_twice_what_runs_at_a_time_is_429(site: Site) -> None:
    """Two run, two wait; the fifth is refused. Those that wait are answered in time."""
    connections = [site.connection() for _ in range(5)]
    headers = site.pinned
    for connection in connections:
        connection.connect()
    for connection in connections:
        connection.request("POST", f"/endpoints/{ENDPOINT}/score", '{"wait": 0.1}', headers)
    answers = [connection.getresponse() for connection in connections]
    for answer, connection in zip(answers, connections, strict=True):
        answer.read()
        connection.close()
    (refused,) = [answer for answer in answers if answer.status != 200]
    assert (refused.status, refused.headers["ms-azureml-model-error-reason"]) == (429, "too_many_pending_request")


# Processes


@pytest.mark.parametrize("wish", [{"exit": 3}, {"abort": True}])
def test_a_process_that_ends_is_424_and_started_again(site: Site, wish: dict[str, Any]) -> None:
    crashed = site.score(wish, to="odd")
    assert (crashed.status, crashed.headers["ms-azureml-model-error-statuscode"]) == (424, "502")
    until(lambda: site.score({}, to="odd").status == 200, "the restarted process")
    assert "Back-off restarting failed container" in site.console()


def test_while_a_crash_lasts_the_model_is_not_ready(site: Site) -> None:
    site.inject("crash", minutes=60)
    down = until(
        lambda: (
            (found := site.score({}, to="odd")).headers.get("ms-azureml-model-error-reason") == "model_not_ready"
            and found
        ),
        "the crash",
    )
    assert (down.status, down.headers["ms-azureml-model-error-statuscode"]) == (424, "503")
    assert site.score(sample(), to="blue").status == 200
    site.local.call(lambda cloud: cloud.faults.clear())
    until(lambda: site.score({}, to="odd").status == 200, "the restarted process")


def test_a_deployment_whose_init_fails_ends_as_failed_with_the_reason(site: Site, tmp_path: Path) -> None:
    code = write_model(tmp_path / "broken", BROKEN)
    site.local.call(lambda cloud: deploy(cloud, "broken", code))
    assert until(lambda: ended(site.local, "broken"), "the end of the operation") is State.FAILED
    operation = site.local.call(lambda cloud: cloud.operation(cloud.deployment(ENDPOINT, "broken").operation or ""))
    assert operation.trouble is not None
    assert "init() failed with RuntimeError: no model file" in operation.trouble.message
    assert "RuntimeError: no model file" in site.console("broken")
    assert site.score({}, to="broken").status == 404


def test_no_process_outlives_the_sandbox(tmp_path: Path) -> None:
    """Its end of the socket closes with the sandbox, however that ends."""
    ours, theirs = socket.socketpair()
    code = write_model(tmp_path / "model", MODEL)
    command = [sys.executable, "-m", "rollout.sandbox.model_server", str(theirs.fileno()), str(code / "score.py")]
    environment = {**os.environ, "FLAVOUR": "plain"}
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, stdout=subprocess.DEVNULL)
    theirs.close()
    assert take_reply(bytearray(ours.recv(1024))) == Reply(id=HELLO, status=READY)
    ours.close()
    assert process.wait(PATIENCE) == 0


# Faults and the split


@pytest.mark.parametrize(("kind", "model_status"), [("errors", "500"), ("client_errors", "400"), ("cold_start", "503")])
def test_injected_errors_are_424_with_the_status_of_the_model(site: Site, kind: str, model_status: str) -> None:
    site.inject(kind, minutes=10_000)
    answered = site.score({}, to="odd")
    assert (answered.status, answered.headers["ms-azureml-model-error-statuscode"]) == (424, model_status)


def test_injected_latency_is_really_waited_and_may_time_out(site: Site) -> None:
    site.inject("latency", extra_ms=150)
    assert site.score({}, to="odd").status == 200
    assert site.row(200).total_duration_ms >= 150
    site.inject("latency", extra_ms=2_000)
    assert site.score({}, to="odd").status == 408


def test_an_injected_disconnect_breaks_the_connection(site: Site) -> None:
    site.inject("disconnects")
    with pytest.raises((RemoteDisconnected, ConnectionError)):
        site.score({}, to="odd")
    assert site.row(0).response_code_reason == "connection reset"


def test_rows_of_a_gap_never_arrive_and_delayed_ones_arrive_later(site: Site) -> None:
    log = site.local.sandbox.log
    for kind in ("gap", "delay"):
        fault = {"kind": kind, "on": "logs", "minutes": 30}
        site.local.call(lambda cloud, fault=fault: cloud.faults.add(MonitorFault(since=cloud.now(), **fault)))
        marked = {"x-ms-client-request-id": kind}
        assert site.score({}, to="odd", **marked).status == 200
        site.local.call(lambda cloud: cloud.faults.clear())
    waiting = site.local.call(lambda cloud: [each.xms_client_request_id for each in log.logs])
    told = site.local.call(lambda cloud: [each.xms_client_request_id for each in log.metrics])
    early = site.local.call(lambda cloud: log.logs.arrived(cloud.now() + timedelta(minutes=20)))
    assert ("gap" in waiting, "delay" in waiting) == (False, True)
    assert {"gap", "delay"} <= set(told)
    assert "delay" not in [row.xms_client_request_id for _, row in early]


def test_requests_are_split_by_weight_at_random(site: Site) -> None:
    total, share = 600, 30

    def split(cloud: Cloud) -> None:
        endpoint = cloud.endpoint(ENDPOINT)
        body = {
            "location": endpoint.spec.location,
            "properties": {"authMode": "Key", "traffic": {"blue": 100 - share, "odd": share}},
        }
        cloud.put_endpoint(ENDPOINT, body, actor=ACTOR)
        cloud.hurry()

    site.local.call(split)
    before = site.statuses().get("200", 0)
    options = LoadOptions(sandbox=site.local.values, rps=400, seconds=10, bodies=[b"{}"], spacing="even", seed=1)
    seen = send(replace(options, seconds=total / 400))
    assert seen.sent == total
    served = seen.dump()["deployments"]
    assert sum(each["requests"] for each in served.values()) == total
    assert binomtest(served["odd"]["requests"], total, share / 100).pvalue > 1e-4
    assert site.statuses().get("200", 0) - before == served["odd"]["statuses"]["200"]


# The samples and the load


def test_version_3_fails_only_for_diners_who_have_never_been_anywhere(site: Site) -> None:
    for version in ("2", "3"):
        code = SAMPLES / f"v{version}"
        site.local.call(
            lambda cloud, code=code, version=version: deploy(cloud, f"version-{version}", code, concurrent=8)
        )
        assert until(lambda version=version: ended(site.local, f"version-{version}"), "the model") is State.SUCCEEDED
    live = [json.loads(body) for body in read_bodies()]
    strangers = [body for body in live if not body["visits"]]
    assert 0.06 <= len(strangers) / len(live) <= 0.08
    for name, failing in (("blue", []), ("version-2", []), ("version-3", strangers)):
        assert site.score(sample(), to=name).status == 200
        statuses = [site.score(body, to=name).status for body in live]
        assert [body for body, status in zip(live, statuses, strict=True) if status != 200] == failing
    assert len(site.score(sample(), to="blue").json()["recommendations"]) == 3


def test_the_load_is_bounded_and_tells_what_it_saw(site: Site) -> None:
    options = LoadOptions(sandbox=site.local.values, rps=100, seconds=0.5, deployment="blue", seed=2)
    seen = send(options)
    assert 0 < seen.sent <= 50
    told = seen.dump()["deployments"]["blue"]
    assert told["statuses"] == {"200": seen.sent}
    assert 0 < told["p50_ms"] <= told["p95_ms"] <= told["p99_ms"]
    assert report(seen).splitlines()[1].split()[:2] == ["blue", str(seen.sent)]


def test_replies_are_cut_from_a_stream_at_any_place() -> None:
    replies = [Reply(id=1, status=200, run_ms=1.5, body=b"{}"), Reply(id=2, status=500, failed=True, body=b"x" * 99)]
    stream, buffer, found = b"".join(each.frame() for each in replies), bytearray(), []
    for byte in stream:
        buffer.append(byte)
        while (reply := take_reply(buffer)) is not None:
            found.append(reply)
    assert found == replies
