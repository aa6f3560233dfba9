"""The errors of the project: each class says who must act.

RolloutError                  the root: the daemon catches this one and nothing wider
├── PolicyError               the author of a file: what they wrote cannot be run as written
├── SettingsError             the person who set the daemon up: settings, secrets or certificates
├── ConflictError             nobody: another writer won; the next look at the world decides
├── UnavailableError          time: the service did not answer usefully; the next tick tries again
│   └── ThrottledError        time: the service asked us to slow down, and perhaps for how long
└── RefusedError              a person: the service understood and said no

The rule: a message names the place, the value and what to do, and never holds a secret. The class docstring is the default message.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class RolloutError(Exception):
    """Something went wrong that Rollout knows how to tell."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or type(self).__name__)

    @property
    def message(self) -> str:
        """One sentence or more, for a person."""
        return str(self.args[0])


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One mistake in a file: where it is (1-based line and column), the path of the field, and what to do."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        field = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {field}{self.message}"


class PolicyError(RolloutError):
    """The policy cannot be run as written."""

    def __init__(self, message: str | None = None, *, mistakes: Sequence[Mistake] = ()) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(message or "\n".join(str(mistake) for mistake in self.mistakes) or None)


class SettingsError(PolicyError):
    """The settings cannot be used as written."""


class ConflictError(RolloutError):
    """Another writer was faster; the next tick looks again."""


class UnavailableError(RolloutError):
    """The service did not answer usefully; the next tick tries again."""


class ThrottledError(UnavailableError):
    """The service asked to be called less often."""

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after  # seconds, as the service asked; None where it did not say
        super().__init__(message)


class RefusedError(RolloutError):
    """The service understood the request and refused it: a person must act."""
