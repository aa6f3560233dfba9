"""The ports: what the reconciler, the collector and the daemon ask of the outer world.

The rule: only values of `rollout.world`, `rollout.lifecycle` and `rollout.analysis` cross a port, and only errors of
`rollout.errors` come back. Every implementation passes the contract suite of its port (`tests/contract`).
"""

from rollout.ports.azure import (
    Answer,
    Counted,
    CountQuery,
    Ended,
    Endpoints,
    Fleet,
    Listing,
    Logs,
    Models,
    ModelVersion,
    Probes,
    Reading,
    Scoring,
    Snapshots,
    Telemetry,
)
from rollout.ports.clock import (
    Clock,
)
from rollout.ports.store import (
    NO_SUBJECT,
    Delivery,
    KeptRelease,
    Lease,
    Releases,
    ReleasingStore,
    Start,
    StartState,
    Store,
    StoredCells,
)

__all__ = [
    "NO_SUBJECT",
    "Answer",
    "Clock",
    "CountQuery",
    "Counted",
    "Delivery",
    "Ended",
    "Endpoints",
    "Fleet",
    "KeptRelease",
    "Lease",
    "Listing",
    "Logs",
    "ModelVersion",
    "Models",
    "Probes",
    "Reading",
    "Releases",
    "ReleasingStore",
    "Scoring",
    "Snapshots",
    "Start",
    "StartState",
    "Store",
    "StoredCells",
    "Telemetry",
]
