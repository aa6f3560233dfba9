"""Work that goes on beside the server for as long as it runs.

The rule: what fails is told at once, on stderr, and again when the server ends; nothing fails in silence.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run the work until the block is left; then cancel it and wait for its end."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_tell)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _tell(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        said = {"message": f"{task.get_coro()} failed; the sandbox goes on without it", "exception": error}
        task.get_loop().call_exception_handler(said)
