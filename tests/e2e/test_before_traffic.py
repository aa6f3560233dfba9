"""What happens before the candidate gets its first live request: nobody is hurt by what goes wrong here."""

from rollout.sandbox.seed import SAMPLES
from tests.support.side_by_side import side_by_side
from tests.support.stage import Stage

REQUEST = (SAMPLES / "requests" / "sample.json").read_text(encoding="utf-8")
#: Judged by probes alone: no live request is needed.
PROBED = (
    "steps: [{traffic: 50%, bake: 3m}, {traffic: 100%, bake: 3m}]",
    "min_requests: 20",
    "checks: {latency_p95: off}",
    "expert: {evidence: [probes]}",
    "probes: {request_file: sample.json, per_minute: 240}",
)
SMOKE_TEST = "smoke_test: {request_file: sample.json, max_latency: 500ms}"


def _start(stage: Stage, *more: str) -> None:
    (stage.home / "sample.json").write_text(REQUEST, encoding="utf-8")
    stage.start(*PROBED, *more)


@side_by_side(rps=0)
def test_smoke_test_passed(stage: Stage) -> None:
    """The first step says how it went."""
    stage.serve()
    _start(stage, SMOKE_TEST)
    stage.until_confirmed(50)
    began = stage.happened("progressing")[0]["sentence"]
    assert "green answered 20 of 20 requests of the smoke test, in the shape of blue's: 95th percentile" in began
    stage.ask("abort", "--reason", "seen enough")
    stage.ending().check(code=2, phase="aborted", traffic={"blue": 100})


@side_by_side(rps=0)
def test_smoke_test_failed(stage: Stage) -> None:
    """A candidate that is too slow never gets a live request."""
    stage.serve()
    stage.inject("latency", deployment="green", extra_ms=900.0)
    _start(stage, SMOKE_TEST)
    end = stage.ending()
    end.check(code=5, phase="aborted", traffic={"blue": 100})
    assert end.sentence.startswith("Not started: green answered the smoke test's requests with a 95th percentile of")
    assert "above `max_latency` 500 ms (blue:" in end.sentence
    assert "confirmed" not in end.kinds
    assert stage.alert("aborted")["sentence"] == end.sentence
