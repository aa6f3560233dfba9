"""The workspace's registered models, environments and code assets, by reference: nothing is uploaded here.

The rule: a deployment names its assets by ARM id, and only registered ones exist.
"""

from dataclasses import replace
from datetime import datetime

from rollout.sandbox import rules
from rollout.sandbox.resources import Asset, AssetKind, DeploymentSpec, Identity


class Assets:
    """What is registered, oldest first."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._kept: dict[tuple[str, str, str], Asset] = {}

    def register(self, asset: Asset, *, now: datetime) -> None:
        """Register one version of an asset; the same version again replaces it."""
        key = _key(asset.kind, asset.name, asset.version)
        self._kept[key] = replace(asset, created_at=asset.created_at or now)

    def all(self, kind: AssetKind, name: str | None = None) -> list[Asset]:
        """The assets of a kind, oldest first; of one name, if given."""
        return [
            asset
            for asset in self._kept.values()
            if asset.kind == kind and (name is None or asset.name.casefold() == name.casefold())
        ]

    def one(self, kind: AssetKind, name: str, version: str) -> Asset:
        """One version of an asset. Raises Refusal 404."""
        try:
            return self._kept[_key(kind, name, version)]
        except KeyError:
            raise rules.not_found(f"{kind} {name}:{version}") from None

    def referred(self, reference: str | None) -> Asset | None:
        """The asset with this ARM id, if it is registered. Raises Refusal for what is no id of this workspace."""
        return self._kept.get(rules.parse_asset_id(reference, self._identity)) if reference else None

    def check(self, wish: DeploymentSpec) -> None:
        """Every asset that a deployment names must exist. Raises Refusal."""
        for reference in filter(None, (wish.model, wish.environment, wish.code)):
            if self.referred(reference) is None:
                raise rules.invalid(f"Asset '{reference}' does not exist: register it first.", code="AssetNotFound")


def _key(kind: str, name: str, version: str) -> tuple[str, str, str]:
    return kind.casefold(), name.casefold(), version.casefold()
