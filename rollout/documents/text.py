"""YAML text to plain values that know where they stand.

The rule: YAML 1.2's few words and no surprises. Only `true`, `false`, `null` and plain decimal numbers are anything but
text (`yes`, `12:30`, `0x1F` and dates stay as written); a key stands once; whatever the text is, the answer is a
`Document` or a `PolicyError` whose places lie inside the file, in time and memory bounded by the limits below.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, NoReturn

import yaml

from rollout.documents.units import show
from rollout.errors import Mistake, PolicyError

MAX_CHARACTERS = 256_000
MAX_DEPTH = 20
MAX_ALIASES = 50
MAX_MISTAKES = 100
MAX_VALUES = 10_000  # counted with the values that aliases repeat

_TOO_DEEP = f"nested more than {MAX_DEPTH} deep: nothing that is read here is"

Path = tuple[str | int, ...]

_NOT_PRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,15}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,25}|[0-9]{1,15}\.[0-9]{0,25}|[0-9]{1,15}(?=[eE]))(?:[eE][-+]?[0-9]{1,2})?")


class Place(NamedTuple):
    """A line and a column of a file, counted from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, kw_only=True)
class Document:
    """The value of a YAML document, the place of each value in it, and of each key of its mappings."""

    file: str
    value: object
    values: Mapping[Path, Place]
    keys: Mapping[Path, Place]
    mistakes: tuple[Mistake, ...] = ()  # what is wrong with the text itself, such as a key that stands twice
    inherited: frozenset[Path] = frozenset()  # paths that came from defaults and stand in no file

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where the value at this path stands (or its key); for what is not written, where it would have to be."""
        if key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Place(self.file, 1, 1))

    def over(self, defaults: Mapping[str, object]) -> "Document":
        """This document with defaults below it: mappings are joined field by field, everything else is replaced."""
        inherited: set[Path] = set()
        return replace(self, value=_merge(self.value, defaults, (), inherited), inherited=frozenset(inherited))

    def with_value(self, path: Path, other: "Document") -> "Document":
        """This document with the whole of another one at this path, its places included."""
        values = {at: place for at, place in self.values.items() if at[: len(path)] != path}
        values.setdefault((), Place(self.file, 1, 1))
        for depth in range(1, len(path)):
            values.setdefault(path[:depth], other.place(()))
        values |= {path: other.place(()), **{(*path, *at): place for at, place in other.values.items()}}
        keys = {**self.keys, path: other.place(()), **{(*path, *at): place for at, place in other.keys.items()}}
        mistakes = (*self.mistakes, *other.mistakes)
        return replace(self, value=_put(self.value, path, other.value), values=values, keys=keys, mistakes=mistakes)

    def mistake(self, path: Path, message: str, *, key: bool = False) -> Mistake:
        """A mistake at this path."""
        if any(path[: len(top)] == top for top in self.inherited):
            message += " (this comes from `defaults` in the settings)"
        place = self.place(path, key=key)
        return Mistake(file=place.file, line=place.line, column=place.column, path=format_path(path), message=message)


def _merge(value: object, defaults: object, path: Path, inherited: set[Path]) -> object:
    """`value` over `defaults`; the paths that only the defaults have are added to `inherited`."""
    if not isinstance(value, dict) or not isinstance(defaults, Mapping):
        return value
    inherited |= {(*path, key) for key in defaults if key not in value}
    both = {key: _merge(found, defaults.get(key), (*path, key), inherited) for key, found in value.items()}
    return {**defaults, **both}


def _put(value: object, path: Path, new: object) -> object:
    """`value` with `new` at this path; what cannot hold it gives way."""
    if not path:
        return new
    fields = value if isinstance(value, dict) else {}
    return {**fields, path[0]: _put(fields.get(path[0]), path[1:], new)}


def format_path(path: Path) -> str:
    """As people write it: `steps[0].traffic`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{show_key(part)}" for part in path)
    return text.removeprefix(".")


def show_key(key: str) -> str:
    """A key, short enough for a message."""
    return key if re.fullmatch(r"[\w$-]{1,60}", key) else show(key)


def show_tag(tag: str) -> str:
    """A tag in its short form, short enough for a message."""
    return show_key(tag) if not tag.startswith("tag:yaml.org,2002:") else f"!!{tag.rpartition(':')[2]}"


def parse_scalar(text: str) -> object:
    """What plain (unquoted) text means: null, true, false, a whole number, a decimal number, else the text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def read(text: str, *, file: str) -> Document:
    """Read one YAML document.

    Keys that stand twice and the like are kept in `Document.mistakes`, to be told with what the values get wrong.
    Raises PolicyError where the text is no YAML at all, or larger than the limits.
    """
    text = text.removeprefix("\ufeff")
    reader = _Reader(text=text, file=file)
    if len(text) > MAX_CHARACTERS:
        raise PolicyError(
            mistakes=[reader.mistake(1, 1, f"the file has {len(text)} characters: at most {MAX_CHARACTERS} are read")]
        )
    odd = _NOT_PRINTABLE.search(text)
    if odd:
        raise PolicyError(mistakes=[reader.odd_character(odd.start())])
    try:
        value = reader.document()
    except yaml.MarkedYAMLError as error:
        raise PolicyError(mistakes=[*reader.mistakes, reader.syntax(error)]) from None
    return Document(file=file, value=value, values=reader.values, keys=reader.keys, mistakes=tuple(reader.mistakes))


@dataclass(kw_only=True)
class _Reader:
    """One walk over the events of a text."""

    text: str
    file: str
    mistakes: list[Mistake] = field(default_factory=list)
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    anchors: dict[str, tuple[object, int] | None] = field(default_factory=dict)  # value and size; None while open
    count: int = 0
    aliases: int = 0
    lines: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = _LINE_END.split(self.text)
        if len(self.lines) > 1 and not self.lines[-1]:
            self.lines.pop()

    def document(self) -> object:
        """The one document of the text; None where there is none."""
        events = yaml.parse(self.text, Loader=yaml.CSafeLoader)
        value: object = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.stop(event, "a second document begins here: write one document in a file")
                value = self.node(next(events), events, ())
        return value

    def node(self, event: yaml.Event, events: Iterator[yaml.Event], path: Path) -> object:
        """The value that begins with this event."""
        self.values[path] = self.at(event)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)  # noqa: S101 - what the grammar allows
        before, anchor = self.count, event.anchor
        self.grow(event, 1)
        if anchor:
            self.anchors[anchor] = None
        if event.tag not in {None, "!", "tag:yaml.org,2002:str"}:
            self.note(event, path, f"the tag {show_tag(event.tag)} means nothing here: take it out")
        value = self.content(event, events, path)
        if anchor:
            self.anchors[anchor] = (value, self.count - before)
        return value

    def content(self, event: yaml.Event, events: Iterator[yaml.Event], path: Path) -> object:
        """A scalar, or the rest of a mapping or list."""
        if isinstance(event, yaml.ScalarEvent):
            return parse_scalar(event.value) if event.implicit[0] else event.value
        if len(path) >= MAX_DEPTH:
            self.stop(event, _TOO_DEEP)
        return self.mapping(events, path) if isinstance(event, yaml.MappingStartEvent) else self.sequence(events, path)

    def mapping(self, events: Iterator[yaml.Event], path: Path) -> dict[str, object]:
        """The rest of a mapping."""
        found: dict[str, object] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.stop(event, "a key must be plain text, such as `name`")
            key, value_event = event.value, next(events)
            if key in found:
                first = self.keys[*path, key]
                message = f"stands twice: line {first.line} has it already; take one of them out"
                self.note(event, (*path, key), message)
                self.skip(value_event, events)
            elif key == "<<":
                self.note(event, (*path, key), "merge keys are not read here: write the fields out")
                self.skip(value_event, events)
            else:
                self.keys[*path, key] = self.at(event)
                found[key] = self.node(value_event, events, (*path, key))
        return found

    def sequence(self, events: Iterator[yaml.Event], path: Path) -> list[object]:
        """The rest of a list."""
        found: list[object] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            found.append(self.node(event, events, (*path, len(found))))
        return found

    def alias(self, event: yaml.AliasEvent) -> object:
        """The value that an alias repeats."""
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            self.stop(event, f"more than {MAX_ALIASES} aliases: write the values out")
        if event.anchor not in self.anchors:
            self.stop(
                event,
                f"*{event.anchor} names no anchor above it: write &{event.anchor} at the value it repeats, or put it in quotes",
            )
        anchored = self.anchors[event.anchor]
        if anchored is None:
            self.stop(event, f"*{event.anchor} stands inside the value that it repeats: write the value out")
        value, size = anchored
        self.grow(event, size)
        return value

    def skip(self, event: yaml.Event, events: Iterator[yaml.Event]) -> None:
        """Pass over the value that begins with this event, within the same limits."""
        depth = 0
        while True:
            self.grow(event, 1)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth == 0:
                return
            if depth > MAX_DEPTH:
                self.stop(event, _TOO_DEEP)
            event = next(events)

    def grow(self, event: yaml.Event, size: int) -> None:
        self.count += size
        if self.count > MAX_VALUES:
            self.stop(event, f"more than {MAX_VALUES} values, with those that aliases repeat: write less")

    # places and mistakes

    def at(self, event: yaml.Event) -> Place:
        return self.marked(event.start_mark)

    def inside(self, line: int, column: int) -> Place:
        """This place, or the end of the text: the parser marks that end one line below it."""
        last = len(self.lines)
        if line > last:
            return Place(self.file, last, len(self.lines[-1]) + 1)
        return Place(self.file, line, min(column, len(self.lines[line - 1]) + 1))

    def mistake(self, line: int, column: int, message: str) -> Mistake:
        place = self.inside(line, column)
        return Mistake(file=self.file, line=place.line, column=place.column, path="", message=message)

    def note(self, event: yaml.Event, path: Path, message: str) -> None:
        """A mistake after which reading goes on."""
        if len(self.mistakes) == MAX_MISTAKES:
            self.stop(event, f"more than {MAX_MISTAKES} mistakes: mend the ones above first")
        place = self.at(event)
        self.mistakes.append(
            Mistake(file=self.file, line=place.line, column=place.column, path=format_path(path), message=message)
        )

    def stop(self, event: yaml.Event, message: str) -> NoReturn:
        """A mistake after which reading ends."""
        place = self.at(event)
        raise PolicyError(mistakes=[*self.mistakes, self.mistake(place.line, place.column, message)])

    def odd_character(self, index: int) -> Mistake:
        """A control character, or half of a surrogate pair."""
        before = _LINE_END.split(self.text[:index])
        code = f"U+{ord(self.text[index]):04X}"
        message = f"the character {code} cannot stand in YAML: take it out, or write it as an escape in double quotes"
        return self.mistake(len(before), len(before[-1]) + 1, message)

    def syntax(self, error: yaml.MarkedYAMLError) -> Mistake:
        """What the parser did not understand, in plain English where it is one of the usual slips."""
        problem, context = error.problem or "", error.context or ""
        place = self.marked(error.problem_mark)
        opened = self.marked(error.context_mark)
        if "unexpected end of stream" in problem and "quoted" in context:
            place, message = opened, "the quote that opens here is never closed"
        elif "flow" in context and "did not find expected" in problem:
            where = f"{opened.line}:{opened.column}"
            message = f"a [ or {{ that opens at {where} is not closed, or a comma is missing here"
        elif problem.startswith("could not find expected ':'"):
            place, message = opened, "this line is neither `name: value` nor part of the lines above: check the `:`"
        else:
            message = self.slip(problem, place)
        return self.mistake(place.line, place.column, message)

    def marked(self, mark: Any) -> Place:
        """The place of one of the parser's marks, which count from 0; the parser's types call them optional."""
        return self.inside(mark.line + 1, mark.column + 1) if mark else Place(self.file, 1, 1)

    def slip(self, problem: str, place: Place) -> str:
        """The usual slips outside of quotes and brackets."""
        if problem.startswith("mapping values are not allowed"):
            return "a `: ` where none can stand: put the value in quotes, or begin a new line"
        if problem.startswith("found character that cannot start any token"):
            here = self.lines[place.line - 1][place.column - 1 : place.column]
            return (
                "a tab: indent with spaces" if here == "\t" else f"a value cannot begin with {here}: put it in quotes"
            )
        if problem.startswith("block sequence entries are not allowed"):
            return "a list begins on a line of its own: write `- ` below the name of the field"
        if problem.startswith("did not find expected"):
            return "this line does not fit the lines above: check its indentation, and the `:` after each field's name"
        return f"this is not YAML: {problem or 'it cannot be read'}"
