"""Models, environments, code and the datastore behind them, as clients register and upload them.

The rule: as in `arm.py`, this file only translates; what may be registered is decided in `assets.py`, and the uploaded
bytes arrive at `blobs.py`.
"""

from typing import get_args
from uuid import uuid4

from aiohttp import web

from rollout.sandbox import bodies, rules
from rollout.sandbox.assets import viewed
from rollout.sandbox.cloud import Cloud
from rollout.sandbox.gate import WORKSPACE, Answer, Call, Gate, Handler, Method, page, refusing
from rollout.sandbox.resources import AssetKind

ASSETS = WORKSPACE + "/{kind:" + "|".join(get_args(AssetKind)) + "}"
VERSION = ASSETS + "/{name}/versions/{version}"
DATASTORE = WORKSPACE + "/datastores/{datastore}"
STORE = "workspaceblobstore"


class Assets:
    """The handlers."""

    def __init__(self, *, cloud: Cloud, gate: Gate) -> None:
        self._cloud = cloud
        self._gate = gate

    def routes(self) -> list[web.RouteDef]:
        """The addresses of assets and datastores."""
        other = refusing("sandbox: not modelled: this request about assets.")
        table: tuple[tuple[Method, str, Handler], ...] = (
            ("GET", ASSETS, self.list_containers),
            ("GET", ASSETS + "/{name}", self.get_container),
            ("GET", ASSETS + "/{name}/versions", self.list_versions),
            ("GET", VERSION, self.get_version),
            ("PUT", VERSION, self.put_version),
            ("POST", VERSION + "/startPendingUpload", self.start_upload),
            ("GET", DATASTORE, self.datastore),
            ("POST", DATASTORE + "/listSecrets", self.secrets),
            ("PUT", ASSETS + "/{rest:.*}", other),
            ("POST", ASSETS + "/{rest:.*}", other),
            ("DELETE", ASSETS + "/{rest:.*}", other),
        )
        return [self._gate.route(method, path, handler) for method, path, handler in table]

    def list_containers(self, call: Call) -> Answer:
        """The registered names of a kind."""
        found = self._cloud.assets.all(_kind(call))
        names = dict.fromkeys(asset.name for asset in found)
        groups = [[asset for asset in found if asset.name == name] for name in names]
        return page([bodies.container_body(self._cloud.identity, group) for group in groups], call)

    def get_container(self, call: Call) -> Answer:
        """One registered name."""
        found = self._cloud.assets.all(_kind(call), call.path["name"])
        if not found:
            raise rules.not_found(f"{call.path['kind']} {call.path['name']}")
        return Answer(body=bodies.container_body(self._cloud.identity, found))

    def list_versions(self, call: Call) -> Answer:
        """The versions of one name, newest first (with `hash`: the code with this content); `$top` gives the first ones."""
        kept, hashed = self._cloud.assets, call.query.get("hash")
        found = kept.with_hash(hashed) if hashed else kept.all(_kind(call), call.path["name"])[::-1]
        found = viewed(found, view=call.query.get("listViewType", "ActiveOnly"), stage=call.query.get("stage"))
        top = call.query.get("$top", "")
        found = found[: int(top)] if top.isdecimal() else found
        return page([bodies.asset_body(self._cloud.identity, asset) for asset in found], call)

    def get_version(self, call: Call) -> Answer:
        """One version of one name."""
        asset = self._cloud.assets.one(_kind(call), call.path["name"], call.path["version"])
        return Answer(body=bodies.asset_body(self._cloud.identity, asset))

    def put_version(self, call: Call) -> Answer:
        """Register one version of an asset whose files, if it has any, are uploaded."""
        name, version = call.path["name"], call.path["version"]
        asset, new = self._cloud.assets.put(_kind(call), name, version, call.body, now=self._cloud.now())
        return Answer(status=201 if new else 200, body=bodies.asset_body(self._cloud.identity, asset))

    # Where files go

    def start_upload(self, call: Call) -> Answer:  # noqa: ARG002
        """Room for the files of one version, and the signed address of it."""
        container = f"{uuid4()}"
        uri = self._cloud.assets.files().address(container)
        where = {
            "blobUri": uri,
            "storageAccountArmId": bodies.storage_account(self._cloud.identity),
            "credential": {"credentialType": "SAS", "sasUri": f"{uri}?{self._cloud.assets.files().signature}"},
        }
        body = {"pendingUploadId": container, "pendingUploadType": "TemporaryBlobReference"}
        return Answer(body={**body, "blobReferenceForConsumption": where})

    def datastore(self, call: Call) -> Answer:
        """The workspace's own blob store; there is no other."""
        return Answer(body=bodies.datastore_body(self._cloud.identity, self._store(call), self._cloud.assets.files()))

    def secrets(self, call: Call) -> Answer:
        """The signature that opens the store."""
        self._store(call)
        return Answer(body={"secretsType": "Sas", "sasToken": self._cloud.assets.files().signature})

    def _store(self, call: Call) -> str:
        if call.path["datastore"].casefold() != STORE:
            raise rules.not_found(f"Datastore {call.path['datastore']}")
        return STORE


def _kind(call: Call) -> AssetKind:
    kind: AssetKind = call.path["kind"]  # type: ignore[assignment]  # the address allows no other
    return kind
