"""Files that a policy names: sample requests and queries that lie beside it.

The rule: a policy holds texts, never paths. A file's name is read where it stands, by whoever reads the policy, and only
there; from then on its text is pinned with the policy, so that a file that changes never bends a running rollout. The
core opens no files: it is given a way to read them (`Files`), and a file that cannot be read is a mistake at its name.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from rollout.documents.units import show

#: A file's text by its name. Raises ValueError with what is wrong, such as "cannot be read: there is no such file".
Files = Callable[[str], str]

#: Fields that hold the names of files.
FILE_FIELDS = frozenset({"request_file", "request_files", "kql_file", "file"})
#: What a policy may attach: it is kept with every rollout that it starts.
MAX_FILES, MAX_CHARACTERS = 10, 128 * 1024
MAX_NAME = 200

_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": r"^(?!/)[^\\]+$"}


class FileText(NamedTuple):
    """A file's name, as it stands in the policy, and its text."""

    name: str
    text: str


class Attachments:
    """The files of one policy, each read once, within limits."""

    def __init__(self, files: Files | None) -> None:
        self._files = files
        self._texts: dict[str, str] = {}

    def text(self, name: str) -> str:
        """The text of a file. Raises ValueError with what to do."""
        if self._files is None:
            raise ValueError(f"{show(name)} cannot be read: files are named in policy files only; write the text here")
        check_name(name)
        if name not in self._texts:
            if len(self._texts) == MAX_FILES:
                raise ValueError(f"{show(name)} is one file too many: a policy may name {MAX_FILES}")
            self._texts[name] = self._files(name)
            self._bounded(name)
        return self._texts[name]

    def _bounded(self, name: str) -> None:
        total = sum(map(len, self._texts.values()))
        if total > MAX_CHARACTERS:
            raise ValueError(
                f"{show(name)} is too large: the files of a policy may hold {MAX_CHARACTERS // 1024} KiB in all"
            )


def check_name(name: str) -> None:
    """A file beside the policy, or in a folder there. Raises ValueError."""
    parts = name.split("/")
    if not name or len(name) > MAX_NAME or "\\" in name or "\0" in name or "" in parts or ".." in parts:
        raise ValueError(
            f"{show(name)} is not the name of a file beside the policy: write one such as requests/sample.json"
        )


def _read(name: str, info: ValidationInfo) -> str:
    context = info.context or {}
    return (context.get("attachments") or Attachments(None)).text(name)


def read_file(name: object, info: ValidationInfo) -> object:
    """The text of the file of this name, with the name. Raises ValueError."""
    if isinstance(name, str):
        return FileText(name, _read(name, info))
    if name is None or isinstance(name, FileText):
        return name
    raise ValueError(
        f"{show(name)} is not the name of a file beside the policy: write one such as deployments/green.yml"
    )


#: The name of a file in a policy as written; what is validated is the file's text.
Attached = Annotated[str, AfterValidator(_read), WithJsonSchema(_SCHEMA)]


def named(value: object) -> Iterator[str]:
    """The names of all files that stand in a policy's document, for whoever must send them along with it."""
    if isinstance(value, dict):
        for key, found in value.items():
            if key in FILE_FIELDS:
                yield from (name for name in (found if isinstance(found, list) else [found]) if isinstance(name, str))
            else:
                yield from named(found)
    elif isinstance(value, list):
        for found in value:
            yield from named(found)


#: A field that names a file beside the policy whose name is told later, too: its text, with the name.
NamedFile = Annotated[FileText, BeforeValidator(read_file), WithJsonSchema(_SCHEMA)]
