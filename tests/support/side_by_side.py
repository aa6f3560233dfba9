"""Tests that run side by side: each is told in a thread of its own, on one scene, and judged where pytest asks for it.

The rule: a story reads as any other test. It says how many requests a second it needs (`rps`); as many stories run at once as
the machine carries, and only those that were selected. Stories that break more than their endpoint (a gap of Azure Monitor's
hits everybody) get a scene of their own, and begin first; those that take the whole machine begin last.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.support.scene import Scene, SceneOver
from tests.support.stage import Stage

#: Requests a second of all stories that run at once, and how many these may be: two cores carry them, and the daemon.
RPS_AT_ONCE, STORIES_AT_ONCE = 150.0, 14
#: Seconds that a test may take, with the stories that come before it and the start of the scene.
TEST_WITHIN = 1500
LONGEST_NAME = 32
#: Minutes take two seconds: long enough for the daemon, even where others use the machine.
SPEED = 30.0


@dataclass(frozen=True)
class Story:
    """A test that runs side by side with others."""

    name: str
    tell: Callable[[Stage], None]
    rps: float
    own_speed: float | None


def side_by_side(
    *, rps: float, own_speed: float | None = None
) -> Callable[[Callable[[Stage], None]], Callable[..., None]]:
    """Make a test of a story: it gets a `Stage` for an endpoint of its own, and `rps` requests a second once it serves.

    `own_speed`: on a scene of its own, whose clock is this fast.
    """

    def decorate(tell: Callable[[Stage], None]) -> Callable[..., None]:
        story = Story(_endpoint_name(tell.__name__), tell, rps, own_speed)

        @pytest.mark.timeout(TEST_WITHIN)
        def test(theatre: "Theatre") -> None:
            theatre.result(story)

        test.__name__, test.__doc__, test.__module__ = tell.__name__, tell.__doc__, tell.__module__
        test.story = story  # type: ignore[attr-defined]
        return test

    return decorate


def _endpoint_name(test: str) -> str:
    """The test's name as Azure allows it: at most 32 characters, cut between words."""
    words = test.removeprefix("test_").split("_")
    while len("-".join(words)) > LONGEST_NAME:
        words.pop()
    return "-".join(words)


class Theatre:
    """Tells stories side by side, while the block runs."""

    def __init__(self, home: Path, stories: Sequence[Story]) -> None:
        self._home = home
        self._stories = sorted(stories, key=lambda story: (story.rps > RPS_AT_ONCE / 2, story.own_speed is None))
        self._results: dict[str, Future[None]] = {story.name: Future() for story in self._stories}
        assert len(self._results) == len(self._stories), "two stories have the same endpoint"
        self._stack = ExitStack()
        self._scenes: list[Scene] = []
        self._room = threading.Condition()
        self._running: list[Story] = []
        self._over = False
        self._usher = threading.Thread(target=self._admit, name="usher", daemon=True)

    def __enter__(self) -> "Theatre":
        if any(story.own_speed is None for story in self._stories):
            self._scene = self._stack.enter_context(Scene(self._folder("scene"), speed=SPEED))
            self._scenes.append(self._scene)
        self._usher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._room:
            self._over = True
            self._room.notify_all()
        for scene in self._scenes:
            scene.over.set()
        self._usher.join()
        with self._room:
            self._room.wait_for(lambda: not self._running)
        self._stack.close()

    def result(self, story: Story) -> None:
        """Wait for this story; its error is raised here."""
        self._results[story.name].result()

    def _admit(self) -> None:
        """Let stories in, one after the other, whenever there is room."""
        for story in self._stories:
            with self._room:
                self._room.wait_for(lambda story=story: self._over or self._has_room(story))  # type: ignore[misc]
                if self._over:
                    return
                self._running.append(story)
            threading.Thread(target=self._tell, args=(story,), name=story.name, daemon=True).start()

    def _has_room(self, story: Story) -> bool:
        rps = sum(each.rps for each in self._running) + story.rps
        return not self._running or (rps <= RPS_AT_ONCE and len(self._running) < STORIES_AT_ONCE)

    def _tell(self, story: Story) -> None:
        result = self._results[story.name]
        try:
            if story.own_speed is not None:
                with Scene(self._folder(story.name), speed=story.own_speed) as scene:
                    self._scenes.append(scene)
                    _on_stage(story, scene)
            else:
                _on_stage(story, self._scene)
        except SceneOver:
            result.cancel()
        except BaseException as error:
            result.set_exception(error)
        else:
            result.set_result(None)
        finally:
            with self._room:
                self._running.remove(story)
                self._room.notify_all()

    def _folder(self, name: str) -> Path:
        folder = self._home / name
        folder.mkdir()
        return folder


def _on_stage(story: Story, scene: Scene) -> None:
    stage = Stage(scene=scene, endpoint=story.name, rps=story.rps, home=scene.home)
    try:
        story.tell(stage)
    finally:
        stage.leave()


def selected(items: Sequence[Any]) -> list[Story]:
    """The stories among pytest's selected tests, in their order."""
    found = [getattr(getattr(item, "obj", None), "story", None) for item in items]
    return [story for story in found if isinstance(story, Story)]
