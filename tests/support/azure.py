"""What tests of `rollout.azure` share: recorded answers, a token that needs no one, and a connection to a sandbox."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from azure.core.credentials import AccessToken

from rollout.azure.calls import Calls
from rollout.azure.cloud import cloud_of
from rollout.azure.connection import Azure, connect
from rollout.clock import WallClock
from rollout.settings import Cloud, Settings, with_sandbox
from tests.support.sandbox import LocalSandbox
from tests.support.scripted import Answer

FIXTURES = Path(__file__).parent.parent / "contract" / "fixtures"
ENDPOINT = (
    "/subscriptions/s1/resourcegroups/rg/providers/microsoft.machinelearningservices/workspaces/ws/onlineendpoints/menu"
)


class AnyToken:
    """A credential for scripted servers, which believe everything."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken("any-token", int(time.time()) + 3600)


def recorded(name: str, **more: Any) -> Answer:
    """An answer that Azure once gave."""
    document = json.loads((FIXTURES / f"{name}.json").read_text())
    return Answer(status=document["status"], body=document["body"], **more)


def calls(pauses: list[float] | None = None, **more: Any) -> Calls:
    """Calls that do not wait, but write down for how long they would have."""
    waited = [] if pauses is None else pauses
    return Calls(monotonic=time.monotonic, chance=random.Random(1), pause=waited.append, **more)


@contextmanager
def connected(local: LocalSandbox, *, read_timeout: float = 10.0, secret: str | None = None) -> Iterator[Azure]:
    """The product's own connection to a sandbox."""
    values = local.values
    settings = with_sandbox(Settings(cloud=Cloud(name="sandbox", sandbox=str(local.file))), values)
    azure = connect(
        cloud=replace(cloud_of(settings.cloud, values), read_timeout=read_timeout),
        credential=settings.credential,
        secret=secret or local.secret,
        workspaces=settings.workspaces,
        clock=WallClock(epoch=values["epoch"], speed=values["speed"]),
        chance=random.Random(1),
    )
    try:
        yield azure
    finally:
        azure.close()
