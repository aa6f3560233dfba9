"""Names: of endpoints and deployments, of what the settings name, of variables and files, and addresses of pages.

The rule: what Azure would refuse is refused here, where the author can still see the line. Where people put a secret by
mistake, the message does not repeat the value.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from rollout.documents.units import show

_AZURE = r"(?=.{3,62}$)[A-Za-z](?:-?[A-Za-z0-9])+"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,99}"
_LINK = r"https?://[^\s\"'<>]{1,500}"


def azure_name(value: str) -> str:
    """The name of an endpoint or deployment. Raises ValueError."""
    if not re.fullmatch(_AZURE, value):
        shape = "write 3 or more letters, digits and single dashes, a letter first"
        raise ValueError(f"{show(value)} is no name of an endpoint or deployment: {shape}")
    return value


def _auto(value: object) -> object:
    """`auto` is what an absent line says."""
    return None if value == "auto" else value


def _name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise ValueError(f"{show(value)} is not a name: write up to 63 letters, digits, dots, dashes and underscores")
    return value


def _link(value: str) -> str:
    if not re.fullmatch(_LINK, value):
        raise ValueError(f"{show(value)} is not the address of a page: write https://…")
    return value


def _guid(value: str) -> str:
    if not re.fullmatch(_GUID, value):
        raise ValueError("is not an id: write one such as 11111111-2222-3333-4444-555555555555")
    return value.lower()


def _variable(value: str) -> str:
    if not re.fullmatch(_VARIABLE, value):
        raise ValueError("is not the name of an environment variable: write a name such as TEAM_ML_URL")
    return value


def _file_name(value: str) -> str:
    if not value.strip() or "\n" in value or "://" in value:
        raise ValueError("is not the name of a file: write one such as secrets/team-ml-url")
    return value


def _schema(pattern: str) -> WithJsonSchema:
    shape: dict[str, Any] = {"type": "string", "pattern": f"^{pattern}$"}
    return WithJsonSchema(shape)


AzureName = Annotated[str, AfterValidator(azure_name), _schema(_AZURE)]
Name = Annotated[str, AfterValidator(_name), _schema(_NAME)]
Link = Annotated[str, AfterValidator(_link), _schema(_LINK)]
Deployment = Annotated[AzureName | None, BeforeValidator(_auto)]
Guid = Annotated[str, AfterValidator(_guid)]
Variable = Annotated[str, AfterValidator(_variable)]
FileName = Annotated[str, AfterValidator(_file_name)]
