"""The collector: one shared look at the world, for all rollouts.

`collector.py` looks at endpoints and reads cells, `sources.py` knows how each source has been doing.
"""

from rollout.collector.collector import Collector
from rollout.collector.sources import SourceStatus, WorkspaceSources

__all__ = ["Collector", "SourceStatus", "WorkspaceSources"]
