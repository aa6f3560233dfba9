"""What is told while Azure works: on a terminal one line that is drawn again, elsewhere a line now and then.

The rule: it goes to stderr, so that what a command prints can be read by a program; nothing is left behind on a terminal.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rollout.cli.terminal import Look, cells, look_of
from rollout.cli.words import duration
from rollout.clock import WallClock

if TYPE_CHECKING:
    from rollout.azure.waiting import Stage

SPARSE = 60.0  # seconds between two lines of the same stage, where there is no terminal


class Progress:
    """Tells the stages of one command."""

    def __init__(self, stream: TextIO, *, monotonic: Callable[[], float], look: Look) -> None:
        self._stream = stream
        self._monotonic = monotonic
        self._look = look
        self._doing = ""
        self._began = self._written = 0.0
        self._drawn = False

    def tell(self, stage: "Stage") -> None:
        """How far it is now."""
        now = self._monotonic()
        new = stage.doing != self._doing
        if new:
            self._doing, self._began = stage.doing, now
        line = self._line(stage, now - self._began)
        if self._stream.isatty():
            self._draw(line)
        elif new or now - self._written >= SPARSE:
            self._stream.write(f"{line}\n")
            self._written = now
        self._stream.flush()

    @property
    def told(self) -> bool:
        """Whether anything was told yet."""
        return bool(self._doing)

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False

    def _line(self, stage: "Stage", elapsed: float) -> str:
        percent = f", {stage.percent} %" if stage.percent else ""
        tail = f" …{percent}" + (f", {duration(elapsed)}" if elapsed >= 1 else "")
        doing, room = stage.doing, self._look.width - 1 - cells(tail)
        if self._stream.isatty() and cells(doing) > room:  # a line that wraps could not be drawn again
            doing = doing[:room]
        return self._look.characters(doing + tail)

    def _draw(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}")
        self._drawn = True


@contextmanager
def telling() -> Iterator[Callable[["Stage"], None]]:
    """Progress on stderr, gone at the end."""
    progress = Progress(sys.stderr, monotonic=WallClock().monotonic, look=look_of(sys.stderr))
    try:
        yield progress.tell
    except KeyboardInterrupt:
        progress.clear()
        if progress.told:
            sys.stderr.write("What Azure has begun goes on; the same command again waits for it.\n")
        raise
    finally:
        progress.clear()
