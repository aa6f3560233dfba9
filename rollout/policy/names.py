"""Names in policies: of endpoints and deployments, of what the settings name, and addresses of pages.

The rule: what Azure would refuse is refused here, where the author can still see the line.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from rollout.documents.units import show

_AZURE = r"(?=.{3,62}$)[A-Za-z](?:-?[A-Za-z0-9])+"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_LINK = r"https?://[^\s\"'<>]{1,500}"


def _azure_name(value: str) -> str:
    if not re.fullmatch(_AZURE, value):
        shape = "3 or more letters, digits and single dashes, a letter first"
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


def _schema(pattern: str) -> WithJsonSchema:
    shape: dict[str, Any] = {"type": "string", "pattern": f"^{pattern}$"}
    return WithJsonSchema(shape)


AzureName = Annotated[str, AfterValidator(_azure_name), _schema(_AZURE)]
Name = Annotated[str, AfterValidator(_name), _schema(_NAME)]
Link = Annotated[str, AfterValidator(_link), _schema(_LINK)]
Deployment = Annotated[AzureName | None, BeforeValidator(_auto)]
