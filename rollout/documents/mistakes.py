"""What does not fit, in plain English: validation errors of pydantic as mistakes with their places.

The rule: each message says what stands there, why it cannot, and what to write instead, so that it can be read aloud to
the person who wrote the file. What is planned but not built is refused as "not yet", never as unknown.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from rollout.documents.text import MAX_MISTAKES, Document, Path, show_key
from rollout.documents.units import show
from rollout.errors import Mistake

#: What cannot be written yet, and what to do until then: a dotted path (`*` is any item or name, `=` a value) -> why.
Later = Mapping[str, str]

_SECRET = re.compile(r"passw(or)?d|secret|token|api_?key|account_?key|sas\b|connection_?string", re.IGNORECASE)


def rule(*broken: tuple[Path, str]) -> ValidationError:
    """An error for a validator to raise where mistakes lie deeper than the value that it checks: path and message."""
    lines = [
        InitErrorDetails(type=PydanticCustomError("rule", "{message}", {"message": message}), loc=path, input=None)
        for path, message in broken
    ]
    return ValidationError.from_exception_data("rule", lines)


def collect(error: ValidationError, document: Document, *, model: type[BaseModel], later: Later) -> list[Mistake]:
    """Every error as a mistake with its place in the document, to be put `in_order` with the document's own."""
    lines = error.errors(include_url=False)
    return [_mistake(_Error(line=line, model=model, later=later), document) for line in lines]


def in_order(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """As they stand in the file, each once; of very many the first, and how many follow."""
    found = sorted(dict.fromkeys(mistakes), key=lambda one: (one.file, one.line, one.column, one.path))
    rest = found[MAX_MISTAKES:]
    more = [replace(rest[0], path="", message=f"and {len(rest)} more mistakes from here on")] if rest else []
    return found[:MAX_MISTAKES] + more


def _mistake(error: "_Error", document: Document) -> Mistake:
    return document.mistake(error.path, error.message(), key=error.kind == "extra_forbidden")


@dataclass(frozen=True, kw_only=True)
class _Error:
    """One error of pydantic, and where in the models it arose."""

    line: ErrorDetails
    model: type[BaseModel]
    later: Later

    @property
    def kind(self) -> str:
        return self.line["type"]

    @property
    def path(self) -> Path:
        return self.line["loc"]

    @property
    def value(self) -> object:
        return self.line["input"]

    @property
    def context(self) -> dict[str, Any]:
        return self.line.get("ctx", {})

    def message(self) -> str:
        """The whole message."""
        later = self.not_yet()
        if later is not None:
            return f"not yet: {later}"
        if self.value is None and self.kind not in {"missing", "extra_forbidden", "rule"}:
            return "is empty: write a value, or take the line out"
        if self.kind in {"rule", "value_error"}:
            return str(self.context.get("message") or self.context.get("error"))
        return _WORDS.get(self.kind, _other)(self)

    def not_yet(self) -> str | None:
        """Why this cannot be written yet, if it is planned."""
        if self.kind == "extra_forbidden":
            return _look_up(self.later, self.path, None)
        if self.kind == "rule":
            return None
        return _look_up(self.later, self.path, self.value)

    def owner(self) -> type[BaseModel] | None:
        """The model whose field this is."""
        return _model_in(_annotation(self.model, self.path[:-1]))

    def field(self) -> FieldInfo | None:
        owner = self.owner()
        return dict(_fields(owner)).get(str(self.path[-1])) if owner and self.path else None


def _look_up(later: Later, path: Path, value: object) -> str | None:
    written = [str(part) for part in path]
    if isinstance(value, str):
        written[-1:] = [f"{part}={value}" for part in written[-1:]]
    if isinstance(value, dict):
        written[-1:] = [f"{part}={{}}" for part in written[-1:]]
    for pattern, why in later.items():
        parts = pattern.split(".")
        if len(parts) == len(written) and all(map(_fits, parts, written)):
            return why
    return None


def _fits(pattern: str, part: str) -> bool:
    if pattern.startswith("*="):
        return part.partition("=")[2] == pattern[2:]
    return pattern in {"*", part}


# --- The models behind a path --------------------------------------------------------------------------------------


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The fields of a model by the names that people write."""
    for name, field in model.model_fields.items():
        yield field.alias or name, field


def _model_in(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _bare(annotation: Any) -> Any:
    """Without Annotated and without None."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in {Union, UnionType}:
            annotation = next((arg for arg in get_args(annotation) if arg is not type(None)), None)
        else:
            return annotation


def _annotation(model: type[BaseModel], path: Path) -> Any:
    """What stands at a path; None where nothing can."""
    found: Any = model
    for part in path:
        owner = _model_in(found)
        if owner:
            field = dict(_fields(owner)).get(str(part))
            found = _bare(field.annotation) if field else None
        else:
            items = [arg for arg in get_args(found) if arg is not Ellipsis]
            found = _bare(items[-1]) if items else None
    return found


# --- Words ---------------------------------------------------------------------------------------------------------


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The nearest of the known words, if any is near."""
    names = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold().replace("-", "_"), list(names), n=1, cutoff=0.6)
    return names[near[0]] if near else None


def _unknown(error: _Error) -> str:
    key = str(error.path[-1])
    owner = error.owner()
    known = [name for name, _ in _fields(owner) if name != "$schema"] if owner else []
    if _SECRET.search(key):
        return _secret(known)
    near = did_you_mean(key, known)
    if near:
        return f"there is no such field; did you mean `{near}`?"
    return f"there is no such field here; those that are: {', '.join(known)}" if known else "nothing can stand here"


def _secret(known: Iterable[str]) -> str:
    places = [f"`{name}`" for name in known if name.endswith(("_env", "_file"))]
    name_it = f"name where it is with {' or '.join(places)}" if places else "name it in the settings"
    return f"a secret never stands in this file: keep it in an environment variable or a file, and {name_it}"


def _missing(error: _Error) -> str:
    if isinstance(error.path[-1], int):
        return "is missing: the list needs one more"
    field = error.field()
    examples = (field.examples if field else None) or ["…"]
    return f"is missing: write `{show_key(str(error.path[-1]))}: {examples[0]}`"


def _choice(error: _Error) -> str:
    options = [str(option) for option in get_args(_annotation(error.model, error.path))]
    near = did_you_mean(str(error.value), options) if isinstance(error.value, str) else None
    if near and len(options) > 1:
        return f"{show(error.value)} is not one of {', '.join(options)}; did you mean {near}?"
    listed = options[0] if len(options) == 1 else f"{', '.join(options[:-1])} or {options[-1]}"
    return f"{show(error.value)} cannot stand here: write {listed}"


def _text(error: _Error) -> str:
    if isinstance(error.value, dict | list):
        return f"{show(error.value)} cannot stand here: write one word or text"
    return f'{show(error.value)} is not text: put it in quotes, "{show(error.value)}", if it is meant'


def _mapping(error: _Error) -> str:
    owner = _model_in(_annotation(error.model, error.path))
    fields = [(name, field) for name, field in _fields(owner) if name != "$schema"] if owner else []
    known = [name for name, field in fields if field.is_required()] or [name for name, _ in fields]
    example = f", such as `{known[0]}: …`" if known else ""
    return f"{show(error.value)} cannot stand here: write fields below it{example}"


def _list(error: _Error) -> str:
    hint = f": write [{error.value}]" if isinstance(error.value, str | int | float) and _is_short(error.value) else ""
    return f"{show(error.value)} is not a list{hint}"


def _is_short(value: str | float) -> bool:
    return re.fullmatch(r"[\w.%-]{1,40}", str(value)) is not None


def _flag(error: _Error) -> str:
    return f"{show(error.value)} is not a switch: write true or false"


def _whole(error: _Error) -> str:
    return f"{show(error.value)} is not a whole number: write digits, without a unit and without quotes"


def _number(error: _Error) -> str:
    return f"{show(error.value)} is not a number: write digits, without a unit and without quotes"


def _bound(error: _Error) -> str:
    word, limit = next((word, error.context[name]) for name, word in _BOUNDS.items() if name in error.context)
    return f"{show(error.value)} is out of range: write {word} {limit:g}"


def _length(error: _Error) -> str:
    most = error.context.get("max_length")
    if most is not None:
        return f"{show(error.value)} is too long: at most {most}"
    return f"{show(error.value)} is too short: at least {error.context.get('min_length')}"


def _nothing(error: _Error) -> str:
    return f"{show(error.value)} cannot stand here: write null, or take the line out"


def _other(error: _Error) -> str:
    return f"{show(error.value)} cannot stand here: {error.line['msg']}"


_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_WORDS: Mapping[str, Callable[[_Error], str]] = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "literal_error": _choice,
    "string_type": _text,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "dict_type": _mapping,
    "mapping_type": _mapping,
    "tuple_type": _list,
    "list_type": _list,
    "bool_type": _flag,
    "bool_parsing": _flag,
    "int_type": _whole,
    "int_parsing": _whole,
    "int_from_float": _whole,
    "float_type": _number,
    "float_parsing": _number,
    "finite_number": _number,
    "none_required": _nothing,
    "greater_than_equal": _bound,
    "greater_than": _bound,
    "less_than_equal": _bound,
    "less_than": _bound,
    "too_long": _length,
    "too_short": _length,
    "string_too_long": _length,
    "string_too_short": _length,
}
