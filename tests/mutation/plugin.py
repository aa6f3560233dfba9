"""How pytest runs for a mutant: the tests that know most of it first, chance as in every other run, no shrinking.

The rule: a mutant that no test notices within `BUDGET` seconds of tests survives; that is told, never hidden.
"""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.mutation.choice import in_order

BUDGET = 10.0  # seconds of tests for one mutant

settings.register_profile(
    "mutation",
    max_examples=40,  # where a test does not say how many
    phases=[Phase.explicit, Phase.generate],
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutation")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the order of `in_order`, as far as the budget goes."""
    stats = Path("mutmut-stats.json")
    if not stats.exists() or config.option.collectonly:
        return
    known = json.loads(stats.read_text(encoding="utf-8"))
    took: dict[str, float] = known["duration_by_test"]
    place = {name: at for at, name in enumerate(in_order(took, known))}
    items.sort(key=lambda item: place.get(item.nodeid, 0))
    kept, left = 0, BUDGET
    for item in items:
        left -= took.get(item.nodeid, 0.0)
        if kept and left < 0.0:
            break
        kept += 1
    config.hook.pytest_deselected(items=items[kept:])
    items[:] = items[:kept]
