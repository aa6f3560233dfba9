"""`rollout demo`: two rollouts against a local Azure, one that is promoted and one that rolls back.

`scene.py` starts everything (sandbox, load, daemon, a receiver of alerts) and ends it; `acts.py` plays the two rollouts
and judges how they ended; `receiver.py` takes the alerts. The rule: only what a user could run is run: the same commands,
the same daemon, the unmodified SDKs.
"""
