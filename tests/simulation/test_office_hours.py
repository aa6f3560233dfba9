"""The worked example with windows and approvals, run through as it stands: days of its clock, on an Azure in process."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rollout.beside import Beside
from rollout.lifecycle import Phase
from rollout.policy import Policy, parse_policy
from rollout.world import Freeze
from tests.support.lives import REF
from tests.support.site import Site

POLICIES = Path(__file__).parents[2] / "policies"
#: Winter in Paris. On Friday the morning's window has just closed.
FRIDAY = datetime(2026, 11, 27, 11, 0, tzinfo=UTC)
MONDAY = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)


def example() -> Policy:
    """The file as it stands."""
    file = POLICIES / "approvals-and-windows.yaml"
    return parse_policy(file.read_text(encoding="utf-8"), file=file.name, files=Beside(POLICIES))


def started(folder: Path, at: datetime) -> Site:
    """Started at this moment."""
    site = Site(folder)
    move_to(site, at)
    site.azure.begin()
    site.start(example())
    site.run(seconds=60, step=15)
    return site


def move_to(site: Site, moment: datetime) -> None:
    """Nothing happens until this moment."""
    site.azure.clock.move((moment - site.azure.clock.now()).total_seconds())


def run_until(site: Site, moment: datetime) -> None:
    """Half a minute after the other."""
    site.run(seconds=int((moment - site.azure.clock.now()).total_seconds()), step=30)


def shares(site: Site) -> list[str]:
    """The splits that Azure has confirmed."""
    return [event.sentence.removeprefix("Azure confirmed ").rstrip(".") for event in site.told("confirmed")]


@pytest.mark.timeout(240)
def test_it_begins_on_monday_and_goes_on_with_an_approval_of_a_lead(tmp_path: Path) -> None:
    site = started(tmp_path, FRIDAY)
    told = site.told("preparing")[-1].sentence
    assert told.startswith(
        "Not started yet: outside the allowed times (mon-thu 09:00-17:00 Europe/Paris, fri 09:00-12:00"
    )
    assert told.endswith("until Mon 08:00 UTC. It begins by itself then.")
    run_until(site, FRIDAY + timedelta(hours=1))
    assert site.rollout.phase is Phase.PREPARING
    move_to(site, MONDAY - timedelta(hours=1))  # the weekend
    run_until(site, MONDAY + timedelta(hours=2))
    assert shares(site) == ["blue 95 % + green 5 %", "blue 75 % + green 25 %"]
    assert site.rollout.awaits_approval
    assert "waits for an approval of ml-leads until Mon 1" in site.told("waiting")[-1].sentence

    site.ask("approve", groups=("ops",))
    run_until(site, MONDAY + timedelta(hours=2, minutes=5))
    assert site.rollout.awaits_approval
    site.ask("approve", groups=("ml-leads",))
    run_until(site, MONDAY + timedelta(hours=2, minutes=10))
    assert shares(site)[-1] == "blue 50 % + green 50 %"
    run_until(site, MONDAY + timedelta(hours=5))
    assert site.rollout.phase is Phase.SUCCEEDED
    site.store.close()


@pytest.mark.timeout(240)
def test_late_in_the_day_it_holds_its_share_and_a_fail_at_night_goes_back(tmp_path: Path) -> None:
    site = started(tmp_path, MONDAY + timedelta(hours=7, minutes=10))  # 16:10 in Paris
    run_until(site, MONDAY + timedelta(hours=8, minutes=30))
    assert shares(site) == ["blue 95 % + green 5 %"]
    assert "until Tue 08:00 UTC" in site.rollout.sentence
    site.store.freeze(Freeze(id="f1", endpoint=REF, reason="peak", by="anna", at=site.azure.clock.now()))
    site.logs.bad["green"] = 0.5
    run_until(site, MONDAY + timedelta(hours=9, minutes=30))
    assert site.rollout.phase is Phase.ROLLED_BACK
    assert site.azure.traffic == {"blue": 100}
    site.store.close()
