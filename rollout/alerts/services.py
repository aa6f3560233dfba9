"""Mail, chats and pagers, through Apprise.

The rule: one attempt a call, with a time limit: attempts and their spacing are the courier's. Nothing that Apprise says
is passed on before the address has been taken out of it.
"""

import logging
from datetime import datetime
from typing import Any

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, OverflowMode
from apprise.result import AppriseResult, AppriseResultStatus

from rollout.alerts.channels import Channel, without_secrets
from rollout.alerts.render import Message
from rollout.errors import SettingsError, UnavailableError
from rollout.world import Alert, Severity

#: Seconds for one delivery as a whole.
DELIVERY_TIMEOUT = 20.0

_TYPES = {
    Severity.NOTICE: NotifyType.INFO,
    Severity.ACTION: NotifyType.WARNING,
    Severity.PAGE: NotifyType.FAILURE,
}

# Apprise speaks through `logging` by itself; what matters of it is in the error that we raise.
logging.getLogger("apprise").addHandler(logging.NullHandler())


class Service:
    """Sends alerts to one Apprise address."""

    def __init__(self, channel: Channel) -> None:
        """Raises SettingsError if Apprise does not know what to do with the address."""
        self._channel = channel
        self._plugin()

    def send(self, alert: Alert, message: Message, *, now: datetime) -> None:  # noqa: ARG002 - as for webhooks
        """One attempt. Raises UnavailableError: Apprise does not tell a refusal from a failure."""
        plugin = self._plugin()
        service = Apprise(asset=_asset())
        service.add(plugin)
        wants_markdown = _native_format(plugin) is not NotifyFormat.TEXT
        result = service.notify(
            title=message.title,
            body=message.markdown if wants_markdown else message.body,
            body_format=NotifyFormat.MARKDOWN if wants_markdown else NotifyFormat.TEXT,
            notify_type=_TYPES[alert.event.severity or Severity.NOTICE],
            timeout=DELIVERY_TIMEOUT,
        )
        if not result:
            raise UnavailableError(f"{plugin.service_name} did not take it ({self._why(result)}).")

    def _why(self, result: AppriseResult) -> str:
        if result.status is AppriseResultStatus.TIMEOUT:
            return f"no answer within {DELIVERY_TIMEOUT:.0f} s"
        told = [entry.message for entry in result.logs()]
        return without_secrets(told[-1], self._channel).rstrip(".") if told else "it did not say why"

    def _plugin(self) -> Any:
        plugin = Apprise.instantiate(self._channel.url, asset=_asset())
        if plugin is None:
            raise SettingsError(
                f"channels.{self._channel.name}: Apprise does not understand this address (it is not shown here, for it may"
                " hold a token): see https://appriseit.com/services/ for how each service is written."
            )
        if plugin.overflow_mode is OverflowMode.UPSTREAM:
            plugin.overflow_mode = OverflowMode.TRUNCATE  # the line that says it all comes first
        return plugin


def _asset() -> AppriseAsset:
    return AppriseAsset(app_id="Rollout", app_desc="Rollout", app_url="")


def _native_format(plugin: Any) -> NotifyFormat:
    """The format that the service likes best; some name several."""
    formats = plugin.notify_format
    return formats[0] if isinstance(formats, tuple) else formats
