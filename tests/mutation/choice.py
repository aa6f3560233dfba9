"""Which tests a mutant meets, and in which order.

The rule: first a few (`FEW`), the quick ones that touch little else; what survives them meets every test that touches it,
as far as the budget goes. Only the second answer counts as survival.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FEW = 40
Stats = Mapping[str, Any]  # what mutmut keeps: tests by function, and how long each test takes


def in_order(tests: Iterable[str], stats: Stats) -> list[str]:
    """The quick ones that touch few functions first; what touches none comes last."""
    touched = Counter(test for known in stats["tests_by_mangled_function_name"].values() for test in known)
    took = stats["duration_by_test"]
    return sorted(tests, key=lambda test: (not touched[test], max(took.get(test, 0.0), 0.005) * touched[test], test))


def narrow(file: Path) -> Path:
    """Leave a few tests for each function; where what the file held before is kept."""
    kept = file.with_suffix(".whole.json")
    stats = json.loads(shutil.copy(file, kept).read_text(encoding="utf-8"))
    whole = {name: stats[name] for name in ("tests_by_mangled_function_name", "duration_by_test")}
    tests = whole["tests_by_mangled_function_name"]
    stats["tests_by_mangled_function_name"] = {
        function: in_order(known, whole)[:FEW] for function, known in tests.items()
    }
    file.write_text(json.dumps(stats), encoding="utf-8")
    return kept
