"""The prober: real predictions to both deployments by name, in pairs, as evidence without a lag.

`pairs.py` says what a pair tells and keeps its minutes, `stream.py` when a rollout's next pair is due, `prober.py` sends.
The rule: bounded in everything, and never in anybody's way: what cannot be sent now is not sent later.
"""

from rollout.prober.prober import AT_ONCE, Prober

__all__ = ["AT_ONCE", "Prober"]
