"""An HTTPS server on loopback that answers what a test has written down, in that order, and remembers what it was asked.

For answers that the sandbox has no reason to give: recorded bodies, malformed ones, none at all.
"""

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer: JSON unless `raw` is given; `broken` closes the connection instead, `never` waits for the test's end."""

    status: int = 200
    body: Any = None
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    broken: bool = False
    never: bool = False


class Scripted:
    """The server's script and its memory."""

    def __init__(self, ca_file: Path) -> None:
        self.ca_file = str(ca_file)
        self.address = ""
        self.script: deque[Answer] = deque()
        self.asked: list[Asked] = []
        self.over = threading.Event()

    def answers(self, *answers: Answer) -> None:
        """What comes next."""
        self.script.extend(answers)


@contextmanager
def scripted(folder: Path) -> Iterator[Scripted]:
    """A server that runs until the block is left."""
    authority = trustme.CA()
    ca_file = folder / "scripted-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    play = Scripted(ca_file)
    server = _Server((HOST, 0), _handler(play))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    play.address = f"https://{HOST}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield play
    finally:
        play.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up are part of the play."""


def _handler(play: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            asked = Asked(
                method=self.command, path=self.path, headers=dict(self.headers), body=json.loads(body) if body else None
            )
            play.asked.append(asked)
            answer = (
                play.script.popleft() if play.script else Answer(status=500, body={"error": {"code": "Unscripted"}})
            )
            if answer.never:
                play.over.wait()
            if answer.never or answer.broken:
                self.close_connection = True
                return
            self.send(answer)

        do_GET = do_POST = do_PUT = answer  # noqa: N815 - the names that http.server looks for

        def send(self, answer: Answer) -> None:
            content = answer.raw if answer.raw is not None else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in ({"Content-Type": "application/json"} | dict(answer.headers)).items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if answer.status != 204:
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler
