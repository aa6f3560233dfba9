"""Files in `az ml` format: an endpoint or a deployment, as azure-ai-ml's own loaders understand them.

The rule: what a file means is decided by azure-ai-ml alone, so that a file that works with `az ml` works here. Its mistakes
are told one by one with their places. Which fields a file states is remembered: what it does not mention is left as Azure
has it.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from rollout.azure.azure_ml import import_azure_ml
from rollout.documents.text import Document, read
from rollout.errors import Mistake, PolicyError

MAX_BYTES = 256 * 1024
#: What the fields of more than one form may be, for messages.
FORMS: Mapping[str, str] = {
    "model": "write `azureml:NAME:VERSION`, `azureml://registries/…`, or `path:` with a file or folder that exists",
    "environment": "write `azureml:NAME:VERSION`, `azureml://registries/…`, or `image:` with an optional `conda_file:`",
    "scale_settings": "write `type: default`, or on Kubernetes `type: target_utilization` with its numbers",
}
_WORDS: Mapping[str, str] = {
    "Missing data for required field.": "is missing",
    "Not a valid integer.": "is not a whole number",
    "Not a valid boolean.": "is neither true nor false",
    "Not a valid string.": "is not text",
    "Not a valid mapping type.": "is not a mapping",
    "String does not match expected pattern.": "begins with a letter, then letters, digits and single dashes: 3 to 32 in all",
}
_NOT_IN_SET = re.compile(r"Value (.+) passed is not in set \[(.+)\]")
QUOTE = "'"
_At = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class AzFile:
    """A file that was understood: azure-ai-ml's entity, and the fields that stand in the file."""

    file: str
    name: str
    entity: Any
    document: Document
    stated: frozenset[str]

    @property
    def is_kubernetes(self) -> bool:
        """Whether it describes something on a Kubernetes cluster."""
        return type(self.entity).__name__.startswith("Kubernetes")

    def mistake(self, field: str, message: str) -> PolicyError:
        """The error that tells this of a field (or, where it is empty, of the file), with its place."""
        return PolicyError(mistakes=[self.document.mistake((field,) if field else (), message)])


def read_endpoint(path: Path, *, name: str | None = None) -> AzFile:
    """An endpoint's file; `name` counts instead of the file's. Raises PolicyError with every mistake."""
    return _read(path, loader="load_online_endpoint", instead={"name": name})


def read_deployment(
    path: Path, *, name: str | None = None, endpoint: str | None = None, text: str | None = None
) -> AzFile:
    """A deployment's file; `name` and `endpoint` count instead of the file's. Raises PolicyError with every mistake.

    `text` is what the file holds, where that is known already: what it names lies beside `path` all the same.
    """
    return _read(path, loader="load_online_deployment", instead={"name": name, "endpoint_name": endpoint}, text=text)


def _read(path: Path, *, loader: str, instead: Mapping[str, str | None], text: str | None = None) -> AzFile:
    text = _text(path) if text is None else text
    document = _document(path, text)
    if not isinstance(document.value, dict):
        raise PolicyError(mistakes=[document.mistake((), "is made of fields: write `name: …`")])
    if document.mistakes:
        raise PolicyError(mistakes=document.mistakes)
    absent = [name for name, given in instead.items() if not given and not document.value.get(name)]
    if absent:
        raise PolicyError(mistakes=[document.mistake((name,), "is missing") for name in absent])
    entity = _loaded(_stream(path, text), loader, document, instead)
    stated = frozenset(str(key) for key in document.value)
    return AzFile(file=str(path), name=str(entity.name), entity=entity, document=document, stated=stated)


def _stream(path: Path, text: str) -> io.StringIO:
    """The text as a file of this name: azure-ai-ml finds what lies beside it."""
    found = io.StringIO(text)
    found.name = str(path)
    return found


def _document(path: Path, text: str) -> Document:
    """The file's fields with their places; without places where only Azure's own, more lenient reader understands it."""
    try:
        return read(text, file=str(path))
    except PolicyError:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = None
        if not isinstance(value, dict):
            raise
        return Document(file=str(path), value=value, values={}, keys={})


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            found = stream.read(MAX_BYTES + 1)
        if len(found) > MAX_BYTES:
            raise PolicyError(f"{path} is larger than {MAX_BYTES // 1024} KiB: it describes no endpoint.")
        return found.decode("utf-8")
    except FileNotFoundError:
        raise PolicyError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path} cannot be read: {error}.") from None


def _loaded(source: io.StringIO, loader: str, document: Document, instead: Mapping[str, str | None]) -> Any:
    """What azure-ai-ml makes of the file. Raises PolicyError."""
    module = import_azure_ml()
    from marshmallow.exceptions import ValidationError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(module, loader)(
                source, params_override=[{key: value} for key, value in instead.items() if value]
            )
    except ValidationError as error:
        cause = error.__cause__ if isinstance(error.__cause__, ValidationError) else error
        told = cause.normalized_messages()  # type: ignore[no-untyped-call]
        raise PolicyError(mistakes=list(_mistakes(told, document))) from None
    except Exception as error:  # whatever else a loader raises is about this file
        said = str(getattr(error, "message", "") or error).strip().splitlines()
        raise PolicyError(mistakes=[document.mistake((), said[0] if said else type(error).__name__)]) from None


def _mistakes(found: Mapping[Any, Any], document: Document) -> Iterator[Mistake]:
    for path, message in _messages(found, ()):
        fields = _fields() if message == "Unknown field." and len(path) == 1 else ()
        yield document.mistake(path, _said(path, message, fields), key=message == "Unknown field.")


def _messages(found: Any, path: _At) -> Iterator[tuple[_At, str]]:
    """The messages with their paths. Where a field has several forms, only that it has none of them is told."""
    if isinstance(found, Mapping):
        for key, inner in found.items():
            yield from _messages(inner, path if key == "_schema" else (*path, key))
    elif isinstance(found, list) and any(not isinstance(each, str) for each in found):
        yield path, FORMS.get(str(path[0]) if path else "", "is in none of the forms that Azure knows")
    else:
        for each in found if isinstance(found, list) else [found]:
            yield path, str(each)


def _said(path: _At, message: str, fields: tuple[str, ...]) -> str:
    if message == "Unknown field.":
        near = get_close_matches(str(path[-1]), fields, n=1)
        return "is no field that Azure knows" + (f": did you mean {near[0]}?" if near else "; take it out")
    if message in _WORDS:
        return _WORDS[message]
    if found := _NOT_IN_SET.fullmatch(message):
        return f"{found[1]} is not one of {found[2].replace(QUOTE, '')}"
    return " ".join(message.split()) or "is not as Azure wants it"


def _fields() -> tuple[str, ...]:
    """The names of all fields that files may have."""
    from azure.ai.ml._schema._deployment.online.online_deployment import (
        KubernetesOnlineDeploymentSchema,
        ManagedOnlineDeploymentSchema,
    )
    from azure.ai.ml._schema._endpoint import KubernetesOnlineEndpointSchema, ManagedOnlineEndpointSchema

    schemas = (
        ManagedOnlineDeploymentSchema,
        KubernetesOnlineDeploymentSchema,
        ManagedOnlineEndpointSchema,
        KubernetesOnlineEndpointSchema,
    )
    return tuple(dict.fromkeys(name for schema in schemas for name in schema._declared_fields))
