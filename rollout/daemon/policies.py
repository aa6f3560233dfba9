"""The policies that the daemon knows: the files of one folder, read again when they change.

The rule: a bad file never stops the daemon, nor any other policy: its mistakes are shown, and the last good version
stays. A running rollout is never bent: it has its own copy.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from rollout.beside import Beside, stamp
from rollout.errors import PolicyError
from rollout.policy import Files, Policy, parse_policy
from rollout.ports import Clock
from rollout.web.views import PolicyFile

SUFFIXES = frozenset({".yaml", ".yml"})
MAX_FILES = 1000
MAX_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """A file as last seen: what tells a change, the last good policy, today's mistakes."""

    stamp: tuple[int, int]
    policy: Policy | None
    loaded_at: datetime | None
    mistakes: tuple[str, ...]
    named: Mapping[Path, tuple[int, int] | None]  # the files that it names, as they were read

    def good(self, seen: tuple[int, int]) -> bool:
        """Nothing has changed, and nothing was wrong."""
        return self.stamp == seen and not self.mistakes and all(stamp(path) == was for path, was in self.named.items())


class PolicyBook:
    """The policies of a folder, by name."""

    def __init__(
        self,
        folder: Path | None,
        *,
        defaults: Mapping[str, Any],
        channels: frozenset[str],
        groups: Mapping[str, Sequence[str]] | None = None,
        clock: Clock,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._folder = folder
        self._defaults = defaults
        self._channels = channels
        self.groups = groups or {}
        self._clock = clock
        self._log = log
        self._files: dict[Path, _Loaded] = {}
        self._lock = threading.Lock()

    def reload(self) -> None:
        """Read what is new or has changed since the last look, and again what had mistakes (another file's name)."""
        seen = self._scan()
        with self._lock:
            known = dict(self._files)
        for path in known.keys() - seen.keys():
            self._log.info("A policy file is gone; its policy can no longer be started.", file=str(path))
        found = {path: known[path] for path, found in seen.items() if path in known and known[path].good(found)}
        for path in sorted(seen.keys() - found.keys()):
            found[path] = self._read(path, seen[path], known.get(path), found)
        with self._lock:
            self._files = found

    def find(self, name: str) -> Policy:
        """The policy of this name. Raises PolicyError, naming those there are."""
        known = self._by_name()
        if name in known:
            return known[name]
        there = f"the daemon knows {', '.join(sorted(known))}" if known else "the daemon has loaded none"
        raise PolicyError(f"There is no policy {name}: {there}. To send one, name its file: rollout start FILE.")

    def loaded(self) -> Sequence[Policy]:
        """The last good version of every policy, by name."""
        return [policy for _, policy in sorted(self._by_name().items())]

    def parse(self, text: str, *, file: str, files: Files | None = None, folder: str | None = None) -> Policy:
        """A policy with a way to read the files that it names; `folder`: the daemon's own, None where it was sent.

        Raises PolicyError with every mistake.
        """
        policy = parse_policy(text, file=file, defaults=self._defaults, files=files, folder=folder)
        unknown = [name for name in policy.alerts if name not in self._channels]
        if unknown:
            known = f"they name {', '.join(sorted(self._channels))}" if self._channels else "they name none"
            raise PolicyError(f"{file}: alerts: the settings have no channel {', '.join(unknown)}: {known}.")
        self._check_approvers(policy, file)
        return policy

    def _check_approvers(self, policy: Policy, file: str) -> None:
        """A name that nobody has could never approve."""
        people = {person.casefold() for group in self.groups.values() for person in group}
        known = people | {name.casefold() for name in self.groups}
        named = [name for step in policy.steps if step.approve for name in step.approve.by]
        unknown = sorted({name for name in named if name.casefold() not in known})
        if unknown:
            what = f"they name {', '.join(sorted(self.groups))}" if self.groups else "they have no `groups`"
            raise PolicyError(
                f"{file}: steps: approve: by: the settings have no group, and nobody in one, called {', '.join(unknown)}: "
                f"{what}; write `groups: {{{unknown[0]}: [anna, ben]}}` into the settings."
            )

    def listed(self) -> Sequence[PolicyFile]:
        """Every file, with its mistakes."""
        with self._lock:
            files = dict(self._files)
        return [self._listed(path, loaded) for path, loaded in sorted(files.items())]

    def _by_name(self) -> dict[str, Policy]:
        with self._lock:
            return {loaded.policy.name: loaded.policy for loaded in self._files.values() if loaded.policy}

    def _scan(self) -> dict[Path, tuple[int, int]]:
        if self._folder is None or not self._folder.is_dir():
            return {}
        found = {}
        for path in sorted(self._folder.iterdir())[:MAX_FILES]:
            if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file():
                stat = path.stat()
                found[path] = (stat.st_mtime_ns, stat.st_size)
        return found

    def _read(
        self, path: Path, seen: tuple[int, int], before: _Loaded | None, others: Mapping[Path, _Loaded]
    ) -> _Loaded:
        files = Beside(path.parent)
        try:
            policy = self._parsed(path, files)
            _check_name(policy, path, others)
        except PolicyError as error:
            return self._bad(path, seen, before, error)
        if before is None or before.policy != policy:
            self._log.info("Loaded a policy.", policy=policy.name, file=str(path))
        return _Loaded(stamp=seen, policy=policy, loaded_at=self._clock.now(), mistakes=(), named=files.stamps)

    def _bad(self, path: Path, seen: tuple[int, int], before: _Loaded | None, error: PolicyError) -> _Loaded:
        policy = before.policy if before else None
        stays = "its last good version stays" if policy else "it cannot be started"
        mistakes = tuple(str(mistake) for mistake in error.mistakes) or (error.message,)
        if before is None or before.mistakes != mistakes:
            self._log.warning(f"A policy file has mistakes; {stays}.", file=str(path), mistakes="\n".join(mistakes))
        loaded_at = before.loaded_at if before else None
        return _Loaded(stamp=seen, policy=policy, loaded_at=loaded_at, mistakes=mistakes, named={})

    def _parsed(self, path: Path, files: Files) -> Policy:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise PolicyError(f"{path}: larger than {MAX_BYTES // 1024} KiB: that is no policy.")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"{path}: it cannot be read ({error}).") from error
        return self.parse(text, file=str(path), files=files, folder=str(path.parent.resolve()))

    def _listed(self, path: Path, loaded: _Loaded) -> PolicyFile:
        policy = loaded.policy
        return PolicyFile(
            file=str(path),
            name=policy.name if policy else None,
            endpoint=policy.endpoint_name if policy else None,
            workspace=policy.workspace if policy else None,
            digest=policy.digest() if policy else None,
            loaded_at=loaded.loaded_at,
            mistakes=loaded.mistakes,
        )


def _check_name(policy: Policy, path: Path, others: Mapping[Path, _Loaded]) -> None:
    for other, loaded in others.items():
        if loaded.policy and loaded.policy.name == policy.name:
            raise PolicyError(
                f"{path}: name: {policy.name} is already the name of the policy in {other}: write another `name: …`."
            )
