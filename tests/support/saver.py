"""A process that saves a rollout again and again, and says so after each save: to be killed in the middle.

Usage: python -m tests.support.saver FILE COUNT
"""

import sys
from dataclasses import replace
from datetime import timedelta

from rollout.store import open_store
from tests.support.stories import NOON, a_rollout, an_alert, an_event


def main(file: str, count: int) -> None:
    store = open_store(f"sqlite:///{file}", exclusive=True)
    rollout = a_rollout()
    store.create(rollout, [], [])
    (lease,) = store.claim_due(now=NOON, owner="saver", lease=timedelta(hours=1))
    for number in range(1, count + 1):
        told = an_event(f"Save {number}.")
        store.save(
            lease,
            replace(rollout, step=number),
            events=[told],
            alerts=[an_alert(f"a{number}", sentence=told.sentence)],
        )
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
