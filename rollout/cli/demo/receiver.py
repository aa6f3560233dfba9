"""The receiver of the demo's alerts: a webhook on loopback that keeps what arrives, if its signature is right.

The rule: it trusts nothing but the signature, as a real receiver should.
"""

import json
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from rollout.errors import RefusedError

MAX_BYTES = 1024 * 1024


class Receiver:
    """Listens while the block runs; `alerts` are the CloudEvents received, in order, each once."""

    def __init__(self, secret: str, now: Callable[[], datetime]) -> None:
        self.alerts: list[Mapping[str, Any]] = []
        self._seen: set[str] = set()
        self._secret = secret
        self._now = now  # on the sender's clock
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/alerts"

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MAX_BYTES))
                self.send_response(204 if receiver.take(dict(self.headers.items()), body) else 401)
                self.end_headers()

            def log_message(self, *args: object) -> None:  # noqa: ARG002  (quiet)
                return

        return Handler

    def take(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Keep an alert; False if its signature is wrong."""
        from rollout.alerts.webhook import verify

        try:
            verify(headers, body, secret=self._secret, now=self._now())
        except RefusedError:
            return False
        event = json.loads(body)
        with self._lock:
            if event["id"] not in self._seen:
                self._seen.add(event["id"])
                self.alerts.append(event)
        return True
