"""The activity log of the sandbox: which writes were accepted, from whom and when. What was written is not kept, as on Azure."""

from dataclasses import dataclass
from datetime import datetime

from rollout.sandbox.resources import Actor

KEPT = 2_000


@dataclass(frozen=True, kw_only=True)
class Event:
    """One accepted write: its action and resource as roles and ids name them."""

    at: datetime
    actor: Actor
    action: str
    resource: str
