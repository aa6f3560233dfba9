"""A finding: what doctor has to say of one thing, and what to do about it.

The rule: one sentence each, with the value that was seen; a remedy is a command or a line that can be used as it stands. OK
where a rollout can use it, a warning where it works with less, a problem where a rollout would fail or be blind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rollout.azure.examining.facts import Cause, Unread


class Mark(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`check` is what was looked at, `endpoint` None where it is about the workspace."""

    check: str
    mark: Mark
    sentence: str
    remedy: tuple[str, ...] = ()
    endpoint: str | None = None


def ok(check: str, sentence: str, *, remedy: Sequence[str] = ()) -> Finding:
    """A finding that is good."""
    return Finding(check=check, mark=Mark.OK, sentence=sentence, remedy=tuple(remedy))


def warning(check: str, sentence: str, *, remedy: Sequence[str] = ()) -> Finding:
    """A finding that costs something."""
    return Finding(check=check, mark=Mark.WARNING, sentence=sentence, remedy=tuple(remedy))


def problem(check: str, sentence: str, *, remedy: Sequence[str] = ()) -> Finding:
    """A finding that a rollout does not get past."""
    return Finding(check=check, mark=Mark.PROBLEM, sentence=sentence, remedy=tuple(remedy))


def unread(check: str, what: Unread, *, mark: Mark, means: str = "", role: Sequence[str] = ()) -> Finding:
    """A finding about what could not be read: whether a role or the network is missing, and what that means for a rollout.

    `role` is what to do where a role is missing.
    """
    told = " ".join(part for part in (what.why, _WHY.get(what.cause, ""), means) if part)
    remedy = {Cause.ROLE: tuple(role), Cause.NETWORK: NETWORK, Cause.IDENTITY: IDENTITY}.get(what.cause, ())
    return Finding(check=check, mark=mark, sentence=told, remedy=remedy)


_WHY = {
    Cause.ROLE: "That is a role that is missing, not the network.",
    Cause.NETWORK: "That is the network, not a role.",
}
NETWORK = (
    "# let this machine through the firewall or give it a way over the private endpoint, then look again from here;",
    "# behind a proxy set HTTPS_PROXY, and NO_PROXY for private addresses",
)
IDENTITY = ("# check `credential` in the settings: the identity, its secret or certificate, and its tenant",)
