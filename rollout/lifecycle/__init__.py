"""The life of a rollout: what it is, what it wants, and what comes next.

`phases.py` holds the phases and the table of transitions; `rollout.py` the `Rollout` itself; `advance.py` the one place
that decides. The rule: `advance(rollout, facts, now)` is pure and idempotent: the same facts give the same decision,
and a decision is a new `Rollout`, the events that tell it, and at most one write.
"""
