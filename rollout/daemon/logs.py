"""The daemon's log: one line of JSON for each event, or words and colours on a terminal.

The rule: everything goes through here, the libraries' logs too (from warnings up), and nothing that the daemon knows to
be a secret leaves, whatever carried it.
"""

import logging
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

#: Keys whose values never belong in a log.
SECRET_KEYS = frozenset({"authorization", "client_secret", "key", "password", "secret", "token", "url"})
HIDDEN = "***"
#: Warn of what we tell ourselves, with a remedy, or of what is meant: a job that is still running is not begun again.
TOLD_BY_US = ("azure.identity", "apscheduler")
QUIET = ("azure", "urllib3", "uvicorn", "msal", "httpx", "apprise", "alembic", "asyncio")


class Secrets:
    """The secrets that this process holds: added where one is read, taken out of every line."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def add(self, *values: str | None) -> None:
        """From now on these never show; values so short that they would blank out ordinary words are left alone."""
        self._known.update(value for value in values if value and len(value) >= 6)

    def hide(self, text: str) -> str:
        """The text without them."""
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        return text

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """As a processor of structlog's."""
        for key, value in event.items():
            if key.lower() in SECRET_KEYS:
                event[key] = HIDDEN
            elif isinstance(value, str):
                event[key] = self.hide(value)
        return event


def set_up(
    secrets: Secrets, *, now: Callable[[], datetime], stream: TextIO | None = None, level: int = logging.INFO
) -> structlog.stdlib.BoundLogger:
    """Send all logs to `stream` (stderr) and return the daemon's own. Times are those of the daemon's clock."""
    out = stream or sys.stderr

    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["at"] = now().isoformat(timespec="milliseconds")
        return event

    shared: list[Processor] = [structlog.stdlib.add_log_level, stamp]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(shared, secrets, terminal=out.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    _quieten(QUIET, logging.WARNING)
    _quieten(TOLD_BY_US, logging.ERROR)
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("rollout")
    return logger


def _formatter(shared: list[Processor], secrets: Secrets, *, terminal: bool) -> logging.Formatter:
    last: list[Processor]
    if terminal:
        last = [
            structlog.processors.format_exc_info,
            secrets,
            structlog.dev.ConsoleRenderer(timestamp_key="at", pad_event_to=0),
        ]
    else:
        last = [
            structlog.processors.format_exc_info,
            secrets,
            _in_order,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """When, how bad, what; then the rest."""
    return {**{name: event[name] for name in ("at", "level", "event") if name in event}, **event}


def _quieten(names: Iterable[str], level: int) -> None:
    for name in names:
        logging.getLogger(name).setLevel(level)
