"""The workspace's registered models, environments and code assets, and the models of one registry.

The rule: a deployment names its assets by id, and only registered ones exist. What is registered by a client has its files
in the blob store, or none at all (an image).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from rollout.sandbox import rules
from rollout.sandbox.blobs import Blobs
from rollout.sandbox.resources import Asset, AssetKind, DeploymentSpec, Identity

MLMODEL = "MLmodel"  # the file that makes a folder an MLflow model
MODEL_TYPES = ("custom_model", "mlflow_model", "triton_model")
DATASTORE_CONTAINER = "azureml-blobstore"
REGISTRY_ID = re.compile(
    r"azureml://registries/([\w-]+)/(models|environments|codes)/([\w.-]+)/versions/([\w.-]+)", re.IGNORECASE
)
_Key = tuple[str, str, str, str]


class Assets:
    """What is registered, oldest first."""

    def __init__(self, identity: Identity) -> None:
        self.blobs: Blobs | None = None  # where uploads lie; None: there are none
        self._identity = identity
        self._kept: dict[_Key, Asset] = {}

    def register(self, asset: Asset, *, now: datetime) -> None:
        """Register one version of an asset; the same version again replaces it."""
        key = _key(asset.kind, asset.name, asset.version, asset.registry)
        self._kept[key] = replace(asset, created_at=asset.created_at or now)

    def put(
        self, kind: AssetKind, name: str, version: str, body: Mapping[str, Any], *, now: datetime
    ) -> tuple[Asset, bool]:
        """Register what a client describes; returns it, and whether it is new. Raises Refusal."""
        values = body.get("properties")
        if not isinstance(values, Mapping):
            raise rules.invalid("properties is required and must be an object.")
        old = self._kept.get(_key(kind, name, version, None))
        asset = Asset(kind=kind, name=name, version=version, details=dict(values), created_at=now)
        asset = replace(asset, description=values.get("description"), tags=dict(values.get("tags") or {}))
        if kind == "environments":
            _check_environment(values)
        elif kind == "data":
            _check_data(values)
        else:
            uri = str(values.get("modelUri" if kind == "models" else "codeUri") or "")
            if old is not None and uri.endswith(f"/paths/{kind}/{old.name}/{old.version}"):  # as we show it
                asset = replace(asset, path=old.path, flavors=old.flavors)
            else:
                asset = self._with_files(asset, uri)
        if old is not None and old.path != asset.path:
            raise rules.Refusal(400, "UserError", "Asset paths cannot be updated.")
        if old is not None:
            asset = replace(asset, created_at=old.created_at)
        self.register(asset, now=now)
        return asset, old is None

    def files(self) -> Blobs:
        """The blob store. Raises Refusal where this cloud has none."""
        if self.blobs is None:
            raise rules.not_offered(
                "sandbox: not modelled: uploads, in a cloud without a process of its own.", status=501
            )
        return self.blobs

    def all(self, kind: AssetKind, name: str | None = None, *, registry: str | None = None) -> list[Asset]:
        """The assets of a kind in the workspace, or in a registry, oldest first: those with names, or all of one name."""
        return [
            asset
            for asset in self._kept.values()
            if asset.kind == kind
            and (asset.registry or "").casefold() == (registry or "").casefold()
            and (not asset.anonymous if name is None else asset.name.casefold() == name.casefold())
        ]

    def has_registry(self, registry: str) -> bool:
        """Whether there is a registry of this name: one with assets."""
        return any((asset.registry or "").casefold() == registry.casefold() for asset in self._kept.values())

    def with_hash(self, value: str) -> list[Asset]:
        """The code whose content has this hash."""
        codes = (each for each in self._kept.values() if each.kind == "codes")
        return [each for each in codes if (each.details.get("properties") or {}).get("hash_sha256") == value]

    def one(self, kind: AssetKind, name: str, version: str) -> Asset:
        """One version of an asset. Raises Refusal 404."""
        try:
            return self._kept[_key(kind, name, version, None)]
        except KeyError:
            raise rules.not_found(f"{kind} {name}:{version}") from None

    def referred(self, reference: str | None) -> Asset | None:
        """The asset with this id, if it is registered. Raises Refusal for what is no id of this workspace or a registry."""
        if not reference:
            return None
        if found := REGISTRY_ID.fullmatch(reference):
            registry, kind, name, version = found.groups()
            return self._kept.get(_key(kind, name, version, registry))
        return self._kept.get((*rules.parse_asset_id(reference, self._identity), ""))

    def check(self, wish: DeploymentSpec) -> None:
        """Every asset that a deployment names must exist, and one without a script must be an MLflow model. Raises Refusal."""
        for reference in filter(None, (wish.model, wish.environment, wish.code, *wish.collected)):
            if self.referred(reference) is None:
                raise rules.invalid(f"Asset '{reference}' does not exist: register it first.", code="AssetNotFound")
        model = self.referred(wish.model)
        if wish.code is None and (model is None or not model.is_mlflow):
            if wish.environment is not None:
                raise rules.not_offered("sandbox: not modelled: containers of your own, without a scoring script.")
            raise rules.invalid(
                "codeConfiguration and environmentId are required: only models of type mlflow_model are served without."
            )
        if wish.code is not None and wish.environment is None and (model is None or not model.is_mlflow):
            raise rules.invalid("environmentId is required for a deployment with a scoring script.")

    def _with_files(self, asset: Asset, uri: str) -> Asset:
        path = self.files().found(uri, container=DATASTORE_CONTAINER)
        if path is None:
            raise rules.invalid(
                f"The path '{uri}' does not exist in the workspace's blob store.", code="ArtifactNotFound"
            )
        if asset.kind == "codes":
            return replace(asset, path=path)
        kind = str(asset.details.get("modelType") or MODEL_TYPES[0])
        if kind not in MODEL_TYPES:
            raise rules.invalid(f"modelType '{kind}' is not one of {', '.join(MODEL_TYPES)}.")
        return replace(asset, path=path, flavors=_flavors(path) if kind == "mlflow_model" else {})


def viewed(assets: list[Asset], *, view: str, stage: str | None) -> list[Asset]:
    """Those that a list shows: active ones, archived ones (`ArchivedOnly`) or both (`All`), in this stage or in any."""
    shown = {"all": {True, False}, "archivedonly": {True}}.get(view.casefold(), {False})
    return [
        asset
        for asset in assets
        if bool(asset.details.get("isArchived")) in shown and stage in {None, asset.details.get("stage")}
    ]


def _flavors(path: Path) -> Mapping[str, Any]:
    """The flavors that an MLflow model's own description names. Raises Refusal where it has none."""
    try:
        flavors = yaml.safe_load((path / MLMODEL).read_text(encoding="utf-8"))["flavors"]
        return {str(name): dict(value) for name, value in flavors.items()}
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError):
        raise rules.invalid(
            f"The folder '{path.name}' is not an MLflow model: it has no {MLMODEL} file that names its flavors."
        ) from None


def _check_environment(values: Mapping[str, Any]) -> None:
    if values.get("build"):
        raise rules.not_offered("sandbox: not modelled: environments built from a Dockerfile; name an image.")
    if not values.get("image"):
        raise rules.invalid("An environment needs an image or a build context.")
    try:
        conda = yaml.safe_load(values.get("condaFile") or "dependencies: []")
    except yaml.YAMLError:
        conda = None
    if not isinstance(conda, Mapping) or "dependencies" not in conda:
        raise rules.invalid("condaFile is not a conda specification: it names no dependencies.")


def _check_data(values: Mapping[str, Any]) -> None:
    if not values.get("dataUri"):
        raise rules.invalid("dataUri is required.")


def _key(kind: str, name: str, version: str, registry: str | None) -> _Key:
    return kind.casefold(), name.casefold(), version.casefold(), (registry or "").casefold()
