"""Alerts: who is told, in which words, and how it gets there.

`channels.py` says what a channel is and which alerts are for it; `render.py` turns an alert into a message;
`courier.py` takes alerts from the store's outbox and hands them to `services.py` (Apprise) or `webhook.py` (signed
CloudEvents). The rule: an alert arrives at least once, always under the same id, and no channel waits for another.
"""

from rollout.alerts.channels import Channel, Kind, recipients
from rollout.alerts.courier import Courier
from rollout.alerts.render import Message, render
from rollout.alerts.webhook import verify

__all__ = ["Channel", "Courier", "Kind", "Message", "recipients", "render", "verify"]
