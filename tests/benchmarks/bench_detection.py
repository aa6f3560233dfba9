"""Detection: false roll backs and bad requests served, against the rules of Flagger, Argo, CloudWatch and Kayenta.

    ./dev bench detection            2,000 healthy rollouts a cell, as in docs/benchmarks.md
    ./dev bench detection --quick    a tenth of them

Prints Markdown tables; progress goes to standard error. Fails (exit 1) where a goal is missed in the whole run; a tenth
of the rollouts is too few to tell.
"""

import argparse
import sys

from tests.benchmarks.detection.report import Report

HEALTHY, FAULTS, QUICK = 2_000, 2_000, 10


def main() -> int:
    """Run it and say which goals were missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rollouts")
    part = QUICK if parser.parse_args().quick else 1
    missed = Report(healthy=HEALTHY // part, faults=FAULTS // part).write()
    print("\n" + ("\n".join(f"Missed: {goal}." for goal in missed) or "All goals are met."))
    return int(bool(missed) and part == 1)


if __name__ == "__main__":
    sys.exit(main())
