"""Observing: a rollout that judges the traffic that people move, says what it would have done, and never writes.

`pair.py` finds the two deployments, `follow.py` follows what people do, `would.py` turns verdicts into what would follow,
`summary.py` tells the end. The rule: nothing in here knows a write; a decision of an observing rollout has none.
"""
