"""Channels: where alerts go.

The rule: a channel's address is a secret as a whole (Apprise keeps tokens in it): messages name the channel, not the
address.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

from rollout.policy import Policy
from rollout.world import Severity


class Kind(StrEnum):
    """How a channel is spoken to."""

    APPRISE = "apprise"
    WEBHOOK = "webhook"


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One channel of the settings, its secrets already read."""

    name: str
    kind: Kind
    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)  # what webhooks are signed with
    severities: frozenset[Severity] = frozenset(Severity)


def recipients(policy: Policy, severity: Severity, channels: Iterable[Channel]) -> tuple[str, ...]:
    """The channels that the policy names and that take this severity, in the policy's order."""
    takers = {channel.name for channel in channels if severity in channel.severities}
    return tuple(name for name in dict.fromkeys(policy.alerts) if name in takers)


def without_secrets(text: str, channel: Channel) -> str:
    """The text without any part of the channel's address or secret: errors of libraries may quote them."""
    quoted = {channel.url, unquote(channel.url), channel.secret or ""}
    parts = {part for whole in quoted for part in re.split(r"[/:@?&=,;#\s]+", whole)[1:]} | quoted
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= 4:
            text = text.replace(part, "****")
    return text
