"""What the daemon tells systemd: READY, STOPPING, WATCHDOG (sd_notify(3)).

The rule: without a NOTIFY_SOCKET nothing happens, and a socket that is gone, or that nobody
reads, is no reason to stop or to wait.
"""

import contextlib
import socket
from collections.abc import Mapping

#: Seconds to wait for a manager that does not read: it must not hold up the loop that it watches.
PATIENCE = 0.2


def tell(message: str, environ: Mapping[str, str]) -> None:
    """Send one state, such as `READY=1`, to the service manager that started us."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address[0] == "@":
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.settimeout(PATIENCE)
        link.sendto(message.encode(), address)


def watchdog_seconds(environ: Mapping[str, str], *, pid: int) -> float | None:
    """How often systemd wants to hear of us (half its time-out); None where it does not ask."""
    wanted = environ.get("WATCHDOG_USEC", "")
    if not wanted.isdigit() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(wanted) / 1_000_000 / 2
