"""`data_collector` of a deployment's file: the data assets that its collections write to.

The rule: named as azure-ai-ml names them where the file does not; registered once, before the deployment that needs them.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FOLDER = "azureml://datastores/workspaceblobstore/paths/modelDataCollector"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one collection is kept: a data asset and its path."""

    name: str
    version: str
    path: str


def places(entity: Any) -> Mapping[str, Place]:
    """The places of a deployment's collections, by the names of these; none without a data collector."""
    if not entity.data_collector:
        return {}
    return {str(key): _place(entity, str(key), value.data) for key, value in entity.data_collector.collections.items()}


def with_ids(collector: Any, ids: Mapping[str, str]) -> Any:
    """A copy of the data collector (azure-ai-ml spoils the one that it writes) whose collections name their assets."""
    made = copy.deepcopy(collector)
    for key, collection in made.collections.items() if made else ():
        collection.data = ids.get(str(key), collection.data)
    return made


def _place(entity: Any, key: str, written: Any) -> Place:
    named = None if written is None or isinstance(written, str) else written
    where = f"{entity.endpoint_name}/{entity.name}/{key}"
    return Place(
        name=str(getattr(named, "name", None) or where.replace("/", "-")),
        version=str(getattr(named, "version", None) or "1"),
        path=str(getattr(named, "path", None) or f"{FOLDER}/{where}"),
    )
