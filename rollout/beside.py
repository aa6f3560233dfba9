"""Files that lie beside a policy's file, for whoever reads policies from a disk.

The rule: nothing outside the policy's own folder is read, not through a link either, and nothing larger than a limit.
"""

from pathlib import Path

MAX_BYTES = 256 * 1024


class Beside:
    """Reads files of one folder by their names from there; `read` is what was asked for so far, with its stamps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self.stamps: dict[Path, tuple[int, int] | None] = {}

    def __call__(self, name: str) -> str:
        """A file's text. Raises ValueError with what is wrong."""
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder):
            raise ValueError(f'"{name}" lies outside the policy\'s folder: put it beside the policy')
        self.stamps[path] = stamp(path)
        try:
            with path.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
            text = raw.decode("utf-8")
        except OSError as error:
            raise ValueError(f'"{name}" cannot be read: {error.strerror} ({path})') from None
        except UnicodeDecodeError:
            raise ValueError(f'"{name}" cannot be read: it is not text (UTF-8)') from None
        if len(raw) > MAX_BYTES:
            raise ValueError(f'"{name}" is larger than {MAX_BYTES // 1024} KiB')
        return text


def stamp(path: Path) -> tuple[int, int] | None:
    """What tells that a file changed; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
