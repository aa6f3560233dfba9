"""How the router and a model process talk: frames over one socket pair, many requests at a time.

The rule: whoever's end is closed ends the other, so that no model process outlives the sandbox. Only the standard
library: every model process imports this.
"""

from dataclasses import dataclass
from struct import Struct

#: Request: id, length of the body. Ids begin at 1.
REQUEST = Struct("!II")
#: Reply: id, status, milliseconds spent in `run()`, whether `run()` failed, lengths of the content type and the body.
REPLY = Struct("!IHf?HI")

#: Status of the one reply with id 0: `init()` returned, or it failed and the body says why.
HELLO = 0
READY = 1
INIT_FAILED = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What a model process answered to one request."""

    id: int
    status: int
    run_ms: float = 0.0
    failed: bool = False
    content_type: str = "application/json"
    body: bytes = b""

    def frame(self) -> bytes:
        """As it goes over the socket."""
        kind = self.content_type.encode("latin-1", "replace")
        header = REPLY.pack(self.id, self.status, self.run_ms, self.failed, len(kind), len(self.body))
        return header + kind + self.body


def take_reply(buffer: bytearray) -> Reply | None:
    """The first whole reply of the buffer, which is then shorter; None while it is not whole."""
    if len(buffer) < REPLY.size:
        return None
    number, status, run_ms, failed, kind, length = REPLY.unpack_from(buffer)
    end = REPLY.size + kind + length
    if len(buffer) < end:
        return None
    content_type = buffer[REPLY.size : REPLY.size + kind].decode("latin-1")
    body = bytes(buffer[REPLY.size + kind : end])
    del buffer[:end]
    return Reply(id=number, status=status, run_ms=run_ms, failed=failed, content_type=content_type, body=body)
