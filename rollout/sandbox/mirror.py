"""Mirrored traffic: copies of live requests that one more deployment answers, and nobody reads.

The rule: what Azure's documentation says is copied is so here (what it says is refused: `limits.check_mirror`), and no request
that names its deployment is. What it does not say, whether copies are logged, is no here: neither logs nor metrics show them.
"""

import asyncio
from collections import Counter

from rollout.sandbox.processes import BusyError, ServerGoneError, Supervisor
from rollout.sandbox.resources import Routed

#: Copies under way at once: more are dropped.
AT_ONCE = 200


class Mirror:
    """Sends the copies; counts them by endpoint and deployment."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._running: set[asyncio.Task[None]] = set()
        self.counts: Counter[tuple[str, str]] = Counter()

    def send(self, routed: Routed, body: bytes) -> None:
        """Begin to copy a request; its answer goes nowhere."""
        if len(self._running) >= AT_ONCE:
            return
        self.counts[routed.endpoint, routed.deployment] += 1
        task = asyncio.get_running_loop().create_task(self._ask(routed, body))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ask(self, routed: Routed, body: bytes) -> None:
        found = self._supervisor.server(routed.endpoint, routed.deployment, routed.generation)
        if found is None:
            return
        try:
            async with asyncio.timeout(routed.request_timeout_ms / 1000):
                await found[0].score(body, capacity=routed.max_concurrent * routed.instances)
        except (TimeoutError, BusyError, ServerGoneError):
            return  # the model's own trouble: nobody waits for the answer

    async def end(self) -> None:
        """Cancel what is under way."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def told(self, endpoint: str) -> dict[str, int]:
        """Copies of an endpoint's requests so far, by deployment."""
        return {name: count for (of, name), count in self.counts.items() if of == endpoint}
