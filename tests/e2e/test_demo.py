"""`./dev demo` as a machine runs it: one rollout is promoted, one rolls back, and everything is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scene import NOT_INHERITED

ROOT = Path(__file__).parents[2]
WITHIN = 420  # seconds; on a machine of its own it takes less than 240


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The environment that the tests run in, as `./dev` leaves it: with what the lock file names."""
    venv = tmp_path / "venv"
    venv.mkdir()
    for part in Path(sys.prefix).iterdir():
        (venv / part.name).symlink_to(part)
    stamp = venv / ".installed-requirements.lock"
    stamp.unlink(missing_ok=True)
    stamp.write_bytes((ROOT / "requirements.lock").read_bytes())
    return venv


@pytest.mark.slow
@pytest.mark.timeout(WITHIN + 30)
def test_the_demo_promotes_the_good_version_and_rolls_the_bad_one_back(installed: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    done = subprocess.run(
        [ROOT / "dev", "demo", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
        env={**kept, "ROLLOUT_VENV": str(installed)},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    told = json.loads(done.stdout)
    good, bad = told["rollouts"]
    assert told["ok"] is True
    assert (good["outcome"], bad["outcome"]) == ("promoted", "rolled_back")
    assert good["candidate"]["requests"] > 0
    assert good["candidate"]["bad"] == 0
    assert bad["candidate"]["bad"] > 0
    assert bad["sentence"].startswith("Rolled back, no action needed: restaurant-recommender back on green 100 %")
    assert [alert["data"]["kind"] for alert in good["alerts"]][-1] == "succeeded"
    assert {"rolling_back", "rolled_back"} <= {alert["data"]["kind"] for alert in bad["alerts"]}
    assert "Traceback" not in done.stderr
