"""What became of the mutants, by module, and those that survived as differences to read."""

import json
from collections.abc import Iterable
from contextlib import chdir
from math import sqrt
from pathlib import Path

from mutmut.configuration import reset_config
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

from tests.mutation.workspace import COPY

KILLED = {"killed", "timeout", "segfault", "caught by type check"}


def show(asked: dict[Path, tuple[list[str], int]]) -> float:
    """Print it all; the part that was killed, each module weighed by how many mutants it has."""
    left, rows = [], []
    for file, (names, size) in asked.items():
        alive = survivors(file, names)
        rows.append((file, size, len(names), len(names) - len(alive)))
        left += [(file, name, how) for name, how in alive.items()]
    for file, name, how in left:
        print(f"\n--- {how}: {name}\n{_difference(file, name)}")
    print(f"\n{'module':44} {'mutants':>8} {'tried':>6} {'killed':>7}  rate (95 %)")
    for file, size, tried, killed in rows:
        print(f"{file!s:44} {size:8} {tried:6} {killed:7}  {_rated(size, tried, killed)}")
    return _total(rows)


def survivors(file: Path, names: Iterable[str]) -> dict[str, str]:
    """Those of these mutants that were not killed, and how they are called: survived, no tests, suspicious."""
    status = _status(file)
    return {name: status[name] for name in names if status[name] not in KILLED}


def _status(file: Path) -> dict[str, str]:
    meta = json.loads((COPY / "mutants" / f"{file}.meta").read_text(encoding="utf-8"))
    return {name: status_by_exit_code[code] for name, code in meta["exit_code_by_key"].items()}


def _difference(file: Path, name: str) -> str:
    with chdir(COPY):
        reset_config()
        lines = str(get_diff_for_mutant(name, path=file)).splitlines()
    return "\n".join(line for line in lines[2:] if line[:1] in "+-@" or line.strip())


def _rated(size: int, tried: int, killed: int) -> str:
    rate = f"{killed / tried:6.1%}"
    if tried == size:
        return rate
    low, high = _wilson(killed, tried)
    return f"{rate} ({low:.0%} to {high:.0%})"


def _wilson(killed: int, tried: int) -> tuple[float, float]:
    p, z = killed / tried, 1.96
    middle, spread = p + z * z / (2 * tried), z * sqrt(p * (1 - p) / tried + z * z / (4 * tried * tried))
    return (middle - spread) / (1 + z * z / tried), (middle + spread) / (1 + z * z / tried)


def _total(rows: Iterable[tuple[Path, int, int, int]]) -> float:
    """All modules together, as a stratified sample: each weighs what it has."""
    rows = list(rows)
    whole = sum(size for _, size, _, _ in rows)
    rate = sum(size * killed / tried for _, size, tried, killed in rows) / whole
    left = [(size, tried, (killed + 1) / (tried + 2)) for _, size, tried, killed in rows if tried < size]
    spread = 1.96 * sqrt(sum((size / whole) ** 2 * (1 - tried / size) * p * (1 - p) / tried for size, tried, p in left))
    sampled = f", 95 % interval {rate - spread:.1%} to {min(1.0, rate + spread):.1%}" if spread else ""
    tried, killed = sum(row[2] for row in rows), sum(row[3] for row in rows)
    print(f"\nkilled {killed} of {tried} tried; of all {whole} mutants {rate:.1%}{sampled}")
    return rate
