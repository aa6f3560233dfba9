"""Sizes of answers, from the log to people: read where a policy asks for them, told once a step, judged the same again."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rollout.analysis.cells import ANSWER_SIZE, Cell, bucket
from rollout.analysis.replay import replay
from rollout.lifecycle import Phase
from rollout.policy import Checks
from rollout.world import Severity
from tests.support.lives import REF, policy
from tests.support.local_azure import LocalLogs
from tests.support.local_fleet import LocalFleet
from tests.support.site import Site


@dataclass
class Sized(LocalLogs):
    """Stable answers with a kilobyte, the candidate with `{"error": "no model"}`, both with status 200."""

    def _cell(self, name: str, requests: int) -> Cell:
        size = {"blue": 1000.0, "green": 21.0}[name]
        return Cell(histograms={**super()._cell(name, requests).histograms, ANSWER_SIZE: {bucket(size): requests}})


class Served(Site):
    """A site with such a log."""

    def __post_init__(self) -> None:
        self.logs, self.fleet = Sized(self.azure), LocalFleet(self.azure)
        self.open()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path, policy=policy(20, 100, checks=Checks.model_validate({"answer_size": {}})))
    found.azure.begin()
    yield found
    found.store.close()


def test_an_error_that_is_sent_with_status_200_is_told_once_a_step_and_stops_nothing(site: Served) -> None:
    site.start()
    site.run(minutes=36)
    assert site.rollout.phase is Phase.SUCCEEDED
    told = site.told("noticed")
    assert [event.severity for event in told] == [Severity.ACTION] * 2  # two steps
    assert "Answers have another size: 22 B vs 981 B in the median" in told[0].sentence.replace("\u2009", " ")
    alerts = [one.alert.event.sentence for one in site.store.deliveries(rollout_id="r1")]
    assert [event.sentence in alerts for event in told] == [True, True]
    assert any(REF.name in one for read in site.logs.measured for one in read)  # asked for, as the policy wants it
    kept = [event.details["verdict"] for event in told]
    again = {look.at: look.verdict for look in replay(site.rollout.policy, site.store.exhibits("r1"))}
    for event, verdict in zip(told, kept, strict=True):
        sizes = next(one for one in again[event.at].findings if one.check == "answer_size")
        assert sizes.alert
        assert sizes.sentence == next(one for one in verdict["findings"] if one["check"] == "answer_size")["sentence"]
