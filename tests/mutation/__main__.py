"""Mutation testing of the core: `python -m tests.mutation [MODULE…]`, or `./dev mutate [MODULE…]`.

Changes one thing at a time in a copy of the code and asks whether a test notices. Tells, by module, how many mutants were
killed, with the 95 % interval where they are a sample, and shows those that survived.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from tests.mutation import report, workspace
from tests.mutation.choice import narrow


def main() -> int:
    """Run it; 1 where fewer were killed than `--least` asks for."""
    given = _arguments()
    mutants = workspace.prepare(workspace.modules(given.modules))
    drawn = workspace.sample(mutants, most=given.sample, seed=given.seed)
    names = [name for some in drawn.values() for name in some]
    print(f"{len(names)} of {sum(map(len, mutants.values()))} mutants in {len(mutants)} modules", flush=True)
    _mutmut(names[:1], given.jobs)  # and with it, which test touches what
    stats = workspace.COPY / "mutants" / "mutmut-stats.json"
    whole = narrow(stats)
    _mutmut(names, given.jobs)
    shutil.copy(whole, stats)
    left = [name for file, some in drawn.items() for name in report.survivors(file, some)]
    if left:
        _mutmut(left, given.jobs)
    rate = report.show({file: (names, len(mutants[file])) for file, names in drawn.items()})
    return int(rate < given.least)


def _mutmut(names: Sequence[str], jobs: int) -> None:
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(jobs), *names]
    log = workspace.COPY / "mutmut.log"
    with log.open("w", encoding="utf-8") as out:
        environment = {**os.environ, "PYTHONPATH": "."}
        ran = subprocess.run(command, cwd=workspace.COPY, stdout=out, stderr=out, env=environment, check=False)
    if ran.returncode:
        lines = dict.fromkeys(
            line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line[1:2] != " "
        )
        raise SystemExit("\n".join([*list(lines)[-60:], f"mutmut: exit code {ran.returncode}"]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev mutate", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help="analysis, lifecycle.guards, policy.*; all without"
    )
    parser.add_argument(
        "--sample", type=int, default=40, help="mutants of each module, drawn by chance; 0: all (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of that chance (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (%(default)s)")
    parser.add_argument("--least", type=float, default=0.0, help="fail below this rate, 0 to 1")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
