"""A value of somebody else's file that knows where it stands.

The rule: whoever asks for a kind of value gets it, or a PolicyError with the place; what is null is as good as absent.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

from rollout.documents.text import Document, Path, format_path, read
from rollout.documents.units import show
from rollout.errors import PolicyError

MAX_DOCUMENTS = 100
_BREAK = re.compile(r"^---(?=[ \t\r\n]|$)", re.MULTILINE)
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = timedelta(days=365)


@dataclass(frozen=True)
class Node:
    """A value at a path of a document."""

    document: Document
    path: Path
    value: object

    # --- places

    @property
    def short(self) -> str:
        """`line 31, failureLimit`: for notes beside the file."""
        name = next((str(part) for part in reversed(self.path) if isinstance(part, str)), "")
        return f"line {self.document.place(self.path).line}" + (f", {name}" if name else "")

    @property
    def where(self) -> str:
        """`rollout.yaml:31: spec.strategy`: for notes."""
        place = self.document.place(self.path)
        return f"{place.file}:{place.line}: {format_path(self.path) or 'the document'}"

    def fail(self, message: str) -> NoReturn:
        """The file cannot be read: say where and why."""
        raise PolicyError(mistakes=[self.document.mistake(self.path, message)])

    # --- values

    def get(self, *keys: str) -> "Node | None":
        """What stands below these keys; None where it is absent or null."""
        found: Node | None = self
        for key in keys:
            fields = found.fields() if found is not None else {}
            found = fields.get(key)
        return found

    def need(self, *keys: str) -> "Node":
        """The same, which must be there."""
        found: Node = self
        for key in keys:
            below = found.get(key)
            if below is None:
                found.fail(f"has no `{key}`: this is not a file that can be converted")
            found = below
        return found

    def fields(self) -> "dict[str, Node]":
        """The values of a mapping that are not null."""
        if not isinstance(self.value, dict):
            self.fail(f"{show(self.value)} cannot stand here: fields are expected below it")
        return {
            str(key): Node(self.document, (*self.path, key), value)
            for key, value in self.value.items()
            if value is not None
        }

    def has(self, key: str) -> bool:
        """The key stands there, perhaps with nothing behind it."""
        return isinstance(self.value, dict) and key in self.value

    def items(self) -> "Iterator[Node]":
        """The values of a list."""
        if not isinstance(self.value, list):
            self.fail(f"{show(self.value)} cannot stand here: a list is expected")
        for index, value in enumerate(self.value):
            yield Node(self.document, (*self.path, index), value)

    def text(self) -> str:
        """One word or more; a number is taken as it is written."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            self.fail(f"{show(self.value)} cannot stand here: text is expected")
        return str(self.value)

    def flag(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            self.fail(f"{show(self.value)} cannot stand here: true or false is expected")
        return self.value

    def number(self) -> float:
        """A number, perhaps in quotes or with a percent sign."""
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return float(self.value)
        text = str(self.value).strip().removesuffix("%")
        if not isinstance(self.value, str) or not re.fullmatch(r"-?\d{1,15}(?:\.\d{1,15})?", text):
            self.fail(f"{show(self.value)} cannot stand here: a number is expected")
        return float(text)

    def percent(self) -> int:
        """A whole percent, 0 to 100."""
        found = self.number()
        if not 0 <= found <= 100 or found % 1:
            self.fail(f"{show(self.value)} is not a whole percent between 0 and 100")
        return int(found)

    def duration(self) -> timedelta:
        """`10m`, `1h30m`, `30s`, or plain seconds."""
        found = self._seconds()
        if found is None:
            self.fail(f"{show(self.value)} is not a duration such as 10m, 30s, or seconds")
        if not 0 <= found <= LONGEST.total_seconds():
            self.fail(f"{show(self.value)} is not a duration between 0 and a year")
        return timedelta(seconds=found)

    def _seconds(self) -> float | None:
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return float(self.value)
        text = self.value.strip() if isinstance(self.value, str) and len(self.value) < 60 else ""
        if re.fullmatch(r"\d{1,12}", text):
            return float(text)
        if re.fullmatch(rf"(?:{_PARTS.pattern})+", text):
            return sum(float(number) * _SECONDS[unit] for number, unit in _PARTS.findall(text))
        return None


def read_all(text: str, *, file: str) -> list[Node]:
    """Every document of a file with its own lines. Raises PolicyError."""
    if text.lstrip().startswith(("{", "[")):
        text = text.replace("\t", " ")  # JSON may be indented with tabs
    breaks = [found.start() for found in _BREAK.finditer(text)]
    starts = [0, *(at for at in breaks if at)]
    if len(starts) > MAX_DOCUMENTS:
        raise PolicyError(f"{file}: more than {MAX_DOCUMENTS} documents: give the one to convert.")
    nodes = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        chunk = text[start:end]
        document = read("\n" * text.count("\n", 0, start) + _BREAK.sub("   ", chunk, count=1), file=file)
        if document.mistakes:
            raise PolicyError(mistakes=document.mistakes)
        if document.value is not None:
            nodes.append(Node(document, (), document.value))
    if not nodes:
        raise PolicyError(f"{file}:1:1: the file is empty.")
    return nodes


def of_kind(nodes: list[Node], *kinds: str) -> list[Node]:
    """The Kubernetes objects of these kinds; also those in a `List`."""
    found = []
    for node in nodes:
        kind = node.get("kind") if isinstance(node.value, dict) else None
        if kind is not None and kind.value == "List":
            items = node.get("items")
            found += of_kind(list(items.items()) if items else [], *kinds)
        elif kind is not None and kind.value in kinds:
            found.append(node)
    return found
