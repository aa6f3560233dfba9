"""What starts rollouts without being asked: deployments that appear, and schedules.

The rule: what was seen is written down under a key before anything follows from it, and a key starts one rollout, ever
(`store.starts`): so nothing is started twice, nor forgotten while a rollout runs or the daemon is down. A trigger only
starts; from there on the rollout is like any other.

`deployments.py` and `schedule.py` see (pure), `deciding.py` decides (pure), `watcher.py` looks and acts.
"""

from rollout.triggers.watcher import EVERY, Watched, Watcher

__all__ = ["EVERY", "Watched", "Watcher"]
