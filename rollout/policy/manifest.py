"""A candidate that the rollout creates first: its deployment file, in the format of `az ml`.

The rule: the policy holds the file's text, pinned as everything else of it; what the fields mean is azure-ai-ml's to say.
Folders on a disk that the text names are found beside the file, by a daemon that has read the policy from its own disk:
what was sent to it names registered assets only.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, ValidationInfo, model_validator

from rollout.documents.mistakes import rule
from rollout.documents.models import BUILT, Model
from rollout.documents.names import AzureName, Deployment, azure_name
from rollout.documents.text import Document, read
from rollout.documents.units import show
from rollout.errors import PolicyError
from rollout.policy.attached import MAX_NAME, FileText, NamedFile

#: References to what Azure has already.
_REGISTERED = ("azureml:", "/subscriptions/", "http://", "https://")
INLINE = "candidate.yml"


class Manifest(Model):
    """A deployment's file: `path` is its name beside the policy, `folder` the policy's own where a daemon may look there."""

    model_config = BUILT

    name: AzureName
    path: Annotated[str, Field(max_length=MAX_NAME)] = INLINE
    text: str
    folder: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the name and the text, in short."""
        return hashlib.sha256(f"{self.name.casefold()}\n{self.text}".encode()).hexdigest()[:16]

    @property
    def local(self) -> tuple[str, ...]:
        """The fields that name files or folders on a disk, as far as the text tells."""
        document = _document(self.text, self.path)
        if document is None or document.mistakes or not isinstance(document.value, Mapping) or _merges(document.value):
            return ("as far as can be told",)
        return tuple(_local(document.value))


class WrittenCandidate(Model):
    """A deployment that is created before the rollout begins."""

    file: NamedFile | None = Field(
        default=None,
        description="The deployment's file in `az ml` format, beside the policy",
        examples=["deployments/green.yml"],
    )
    text: str | None = Field(default=None, description="The same as text; it names registered assets only")
    name: AzureName | None = Field(default=None, description="The deployment's name; the file's by default")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        given = [value for value in (self.file, self.text) if value]
        if len(given) != 1:
            raise ValueError(
                f"{'has no file' if not given else 'is written twice'}: write `file: deployments/green.yml`"
            )
        return self

    def manifest(self, *, endpoint: str | None, folder: str | None = None) -> Manifest:
        """What this means for an endpoint. Raises ValidationError with what the file lacks."""
        found = self.file or FileText(INLINE, self.text or "")
        fields = _fields_of(found.text, found.name)
        about = fields.get("endpoint_name")
        if endpoint and isinstance(about, str) and about.casefold() != endpoint.casefold():
            raise _broken(self, f"{show(found.name)} is about endpoint {about}: correct one of the two")
        if self.name is None and not isinstance(fields.get("name"), str):
            raise _broken(self, f"{show(found.name)} has no `name`: write one there, or `name:` beside `file:`")
        return Manifest(name=self.name or fields["name"], path=found.name, text=found.text, folder=folder)


def _broken(written: WrittenCandidate, message: str) -> Exception:
    return rule((("file",) if written.file else ("text",), message))


def read_candidate(value: object, info: ValidationInfo) -> WrittenCandidate | str | None:
    """A deployment's name, or the file that it is created from."""
    if isinstance(value, Mapping):
        return WrittenCandidate.model_validate(value, context=info.context)
    if value is None or value == "auto":
        if value is None and info.context:
            raise rule(((), "is empty: write a value, or take the line out"))
        return None
    if not isinstance(value, str):
        message = f"{show(value)} cannot stand here: write a name, or `{{file: deployments/green.yml}}`"
        raise ValueError(message)  # noqa: TRY004 - pydantic wants it
    return azure_name(value)


#: A candidate as people write it.
Candidate = Annotated[
    WrittenCandidate | Deployment, PlainValidator(read_candidate, json_schema_input_type=WrittenCandidate | Deployment)
]


def _fields_of(text: str, path: str) -> Mapping[str, Any]:
    """The fields of a deployment's file; what cannot be read is told by azure-ai-ml, when it is its turn."""
    document = _document(text, path)
    return document.value if document is not None and isinstance(document.value, Mapping) else {}


def _document(text: str, path: str) -> Document | None:
    try:
        return read(text, file=path)
    except PolicyError:
        return None


def _local(fields: Mapping[str, Any]) -> Iterator[str]:
    """The fields that name something on a disk. What is in doubt is."""
    if _is_local(fields.get("model")):
        yield "model"
    code = fields.get("code_configuration")
    if _is_local(code.get("code") if isinstance(code, Mapping) else code):
        yield "code_configuration.code"
    environment = fields.get("environment")
    if isinstance(environment, Mapping):
        if isinstance(environment.get("conda_file"), str) or "build" in environment or "path" in environment:
            yield "environment"
    elif _is_local(environment):
        yield "environment"


def _merges(value: object) -> bool:
    """Whether YAML's merge keys hide what the fields say."""
    if isinstance(value, Mapping):
        return "<<" in value or any(map(_merges, value.values()))
    return isinstance(value, list) and any(map(_merges, value))


def _is_local(value: object) -> bool:
    if isinstance(value, Mapping):
        return "path" not in value or _is_local(value["path"])
    return isinstance(value, str) and not value.startswith(_REGISTERED)
