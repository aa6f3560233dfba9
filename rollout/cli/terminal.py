"""What a terminal can show: colours, widths, tables, a frame that is drawn again in place.

The rule: meaning never hangs on a colour (words and icons carry it), colours are of a middle brightness that reads on a
dark and on a light ground alike, and a pipe gets plain text.
"""

import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

#: xterm-256 colours whose contrast is at least 3.5 : 1 on black and on white.
COLOURS: Mapping[str, int] = {"good": 28, "bad": 160, "warn": 130, "info": 26, "quiet": 243}
#: For terminals with eight colours: those that themes keep readable on either ground; the rest stays as text is.
BASIC: Mapping[str, int] = {"good": 32, "bad": 31, "warn": 35}
MAX_WIDTH = 120
MIN_WIDTH = 40

#: What a terminal without UTF-8 shows instead.
ASCII = str.maketrans(
    {
        "●": "*", "○": "o", "◐": "~", "▶": ">", "▼": "v", "◆": "#", "‖": "=", "↩": "<", "✔": "+", "✖": "x", "■": "#",
        "·": "-", "—": "-", "–": "-", "…": "...", "\u2009": " ", "\u00a0": " ", "\u202f": " ", "█": "#", "░": ".",
        "→": ">", "−": "-", "×": "x", "±": "+-", "≥": ">=", "≤": "<=",
    }
)  # fmt: skip

_WITH_UNIT = re.compile(r"(\d) (%|ms|s|min|h|pp)(?!\w)")


@dataclass(frozen=True, kw_only=True)
class Look:
    """How to print: in colour or not, how wide, in which characters."""

    width: int = 80
    colours: int = 0  # 0, 8 or 256
    unicode: bool = True

    def paint(self, text: str, *styles: str) -> str:
        """The text in these styles (`bold` or a name of `COLOURS`), reset behind it."""
        if not self.colours or not text:
            return text
        codes = [code for code in (self._code(style) for style in styles) if code]
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text

    def _code(self, style: str) -> str:
        if style == "bold":
            return "1"
        if self.colours >= 256:
            return f"38;5;{COLOURS[style]}"
        return str(BASIC[style]) if style in BASIC else ""

    def characters(self, text: str) -> str:
        """The text in characters that this terminal has."""
        return text if self.unicode else text.translate(ASCII).encode("ascii", "replace").decode()


def look_of(stream: TextIO, environ: Mapping[str, str] = os.environ, *, width: int | None = None) -> Look:
    """What this stream can show; honours NO_COLOR (no-color.org), FORCE_COLOR, TERM and COLUMNS."""
    columns = width or shutil.get_terminal_size((80, 24)).columns
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    return Look(
        width=max(MIN_WIDTH, min(columns, MAX_WIDTH)),
        colours=_colours(stream, environ),
        unicode=encoding.startswith("utf"),
    )


def _colours(stream: TextIO, environ: Mapping[str, str]) -> int:
    term = environ.get("TERM", "")
    if environ.get("NO_COLOR") or term == "dumb" or not (stream.isatty() or environ.get("FORCE_COLOR")):
        return 0
    return 256 if "256" in term or environ.get("COLORTERM") else 8


def cells(text: str) -> int:
    """How many columns the text takes, escape sequences and combining marks left out."""
    count, escaped = 0, False
    for character in text:
        if character == "\x1b":
            escaped = True
        elif escaped:
            escaped = character != "m"
        elif not unicodedata.combining(character):
            count += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return count


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text, filled up with spaces to this width."""
    space = " " * max(0, width - cells(text))
    return space + text if right else text + space


def fold(text: str, width: int, *, indent: str = "") -> list[str]:
    """The text in lines of at most this width; a number keeps its unit, further lines begin with `indent`."""
    lines: list[str] = []
    line = ""
    for word in _WITH_UNIT.sub("\\1\u00a0\\2", text).split(" "):
        joined = f"{line} {word}" if line else word
        if line and cells(joined) > width:
            lines.append(line)
            joined = indent + word
        line = joined
    return [each.replace("\u00a0", " ") for each in (*lines, line)]


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset(), gap: str = "  ") -> list[str]:
    """Rows as aligned lines; the columns in `right` are aligned to the right."""
    if not rows:
        return []
    widths = [max(cells(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        gap.join(pad(text, widths[index], right=index in right) for index, text in enumerate(row)).rstrip()
        for row in rows
    ]


class Screen:
    """A block of lines that is drawn again in place (on a terminal) or printed when it changed (elsewhere)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._drawn: list[str] = []
        self._live = self._stream.isatty()

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines instead of the ones before; a frame taller than the terminal loses its last lines."""
        if list(lines) == self._drawn:
            return
        if not self._live:
            self._print([*([""] if self._drawn else []), *lines])
        else:
            lines = lines[: max(1, shutil.get_terminal_size((80, 24)).lines - 1)]
            up = f"\x1b[{len(self._drawn)}F" if self._drawn else ""
            self._stream.write(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._drawn = list(lines)

    def _print(self, lines: Sequence[str]) -> None:
        self._stream.write("".join(f"{line}\n" for line in lines))


def printer(look: Look, stream: TextIO | None = None) -> Callable[[Sequence[str]], None]:
    """Prints lines in the characters of the terminal."""

    def show(lines: Sequence[str]) -> None:
        (stream or sys.stdout).write("".join(look.characters(line) + "\n" for line in lines))

    return show
