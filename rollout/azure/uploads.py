"""What a deployment's file brings along: models, code and environments, found again in Azure or uploaded.

The rule: nothing is uploaded or registered twice. What has the same content is found by its hash, as azure-ai-ml computes
it, with reads alone, so that a second apply of a file writes nothing; a registered version that has other content is told
and never replaced.
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.core.exceptions import ResourceNotFoundError

from rollout.azure.az_files import AzFile
from rollout.azure.azure_ml import upload_environment
from rollout.azure.cloud import Cloud
from rollout.azure.data_collection import Place, places
from rollout.errors import PolicyError

_ANONYMOUS_ENVIRONMENT = "CliV2AnonymousEnvironment"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """Something that Azure does not have yet: the field that names it, and what it is in words."""

    field: str
    what: str
    asset: Any


@dataclass(frozen=True, kw_only=True)
class Brought:
    """The ids of what a deployment runs, as far as they are known, and what is still to be uploaded."""

    ids: dict[str, str | None]
    missing: tuple[Upload, ...]
    collections: Mapping[str, str] = field(default_factory=dict)  # the data assets of collected data, by collection


class WorkspaceAssets:
    """Models, code and environments of one Azure ML workspace. Raises what the SDK raises."""

    def __init__(self, client: Any, *, cloud: Cloud) -> None:
        self._client = client
        self._cloud = cloud

    def location(self, workspace: str) -> str:
        """The workspace's region."""
        return str(self._client.workspaces.get(workspace).location)

    def compute(self, entity: Any) -> str | None:
        """The id of a Kubernetes endpoint's cluster; None for a managed one."""
        written = getattr(entity, "compute", None)
        return self._reference(str(written).removeprefix("azureml:"), "computes") if written else None

    def find(self, file: AzFile) -> Brought:
        """What the deployment of this file runs; reads only. Raises PolicyError where a registered version differs."""
        ids: dict[str, str | None] = {}
        missing: list[Upload] = []
        for name, look in (("model", self._model), ("environment", self._environment), ("code", self._code)):
            found = look(file)
            if isinstance(found, Upload):
                missing.append(found)
            ids[name] = found if isinstance(found, str) else None
        kept = places(file.entity)
        missing += [each for place in kept.values() if (each := self._data(place)) is not None]
        collections = {key: str(self._reference(f"{each.name}:{each.version}", "data")) for key, each in kept.items()}
        return Brought(ids=ids, missing=tuple(missing), collections=collections)

    def bring(self, upload: Upload) -> str:
        """Upload and register one thing; returns its id."""
        operations = {
            "model": self._client.models,
            "environment": self._client.environments,
            "code": self._client._code,
            "data": self._client.data,
        }[upload.field]
        with upload_environment(self._cloud), _progress_where_seen():
            return str(operations.create_or_update(upload.asset).id)

    def _model(self, file: AzFile) -> str | Upload | None:
        model = file.entity.model
        if model is None or isinstance(model, str):
            return self._reference(model, "models")
        known = self._or_none(lambda: self._named(self._client.models, model))
        local = _is_local(model.path)
        if known is not None and _same_model(known, model, local=local):
            return str(known.id)
        if known is not None and model.version is not None and not model._is_anonymous:
            raise _differs(file, "model", model)
        return Upload(field="model", what=_described("model", model, model.path if local else None), asset=model)

    def _environment(self, file: AzFile) -> str | Upload | None:
        wanted = file.entity.environment
        if wanted is None or isinstance(wanted, str):
            return self._reference(wanted, "environments")
        upload = Upload(field="environment", what=_described("environment", wanted, wanted.path), asset=wanted)
        known = self._or_none(lambda: self._named(self._client.environments, wanted))
        if known is None:
            return upload
        if wanted.name == _ANONYMOUS_ENVIRONMENT or _same_environment(known, wanted):
            return str(known.id)
        if wanted.version is None:
            return upload
        raise _differs(file, "environment", wanted)

    def _code(self, file: AzFile) -> str | Upload | None:
        written = file.entity.code_configuration.code if file.entity.code_configuration else None
        if written is None or not _is_local(written) or str(written).startswith(("azureml:", "/subscriptions/")):
            return self._reference(written.removeprefix("azureml:") if written else None, "codes")
        from azure.ai.ml.entities._assets import Code

        self._check_script(file)
        code = Code(base_path=file.entity.base_path, path=written)
        wanted = {"hash": code._hash_sha256, "hash_version": "202208"}
        operations = self._client._code
        where = {"resource_group_name": operations._resource_group_name, "workspace_name": operations._workspace_name}
        known = next(iter(operations._version_operation.list(name=code.name, **wanted, **where)), None)
        return (
            str(known.id)
            if known is not None
            else Upload(field="code", what=_described("code", code, code.path), asset=code)
        )

    def _data(self, place: Place) -> Upload | None:
        from azure.ai.ml.entities import Data

        asset = Data(name=place.name, version=place.version, path=place.path, type="uri_folder")
        known = self._or_none(lambda: self._named(self._client.data, asset))
        what = f"data asset {place.name}:{place.version}"
        return None if known is not None else Upload(field="data", what=what, asset=asset)

    def _check_script(self, file: AzFile) -> None:
        from azure.ai.ml._utils._endpoint_utils import validate_scoring_script
        from azure.ai.ml.exceptions import MlException

        try:
            validate_scoring_script(file.entity)
        except (MlException, SyntaxError) as error:
            said = str(getattr(error, "message", error)).partition("\nIf you wish")[0]
            raise file.mistake("code_configuration", " ".join(said.split())) from None

    def _reference(self, written: str | None, kind: str) -> str | None:
        """The id of what is named, with labels such as `@latest` resolved."""
        if written is None:
            return None
        from azure.ai.ml.operations._operation_orchestrator import OperationOrchestrator

        operations = self._client.online_deployments
        orchestrator = OperationOrchestrator(
            operations._all_operations, operations._operation_scope, operations._operation_config
        )
        return str(orchestrator.get_asset_arm_id(written, azureml_type=kind))

    def _named(self, operations: Any, wanted: Any) -> Any:
        if wanted.version is None:
            return operations.get(wanted.name, label="latest")
        return operations.get(wanted.name, wanted.version)

    def _or_none(self, read: Callable[[], Any]) -> Any:
        """What was read, None where there is none: a name without any version counts as that, too."""
        from azure.ai.ml.exceptions import ValidationErrorType, ValidationException

        try:
            return read()
        except ResourceNotFoundError:
            return None
        except ValidationException as error:
            if error.error_type == ValidationErrorType.RESOURCE_NOT_FOUND:
                return None
            raise


def _hash(path: Any) -> str:
    from azure.ai.ml._utils._asset_utils import get_ignore_file, get_object_hash

    return str(get_object_hash(path, get_ignore_file(path)))


def _is_local(path: Any) -> bool:
    return path is not None and "://" not in str(path)


def _described(kind: str, asset: Any, path: Any) -> str:
    """`model restaurant-stars:2 from ../mlflow/v2 (5 files, 2 kB)`."""
    named = (
        ""
        if asset._is_anonymous or not asset.name
        else f" {asset.name}" + (f":{asset.version}" if asset.version else "")
    )
    return f"{kind}{named}" + (f" from {path} ({_size(Path(path))})" if path else "")


def _size(path: Path) -> str:
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    total = sum(each.stat().st_size for each in files)
    unit, divisor = next(((u, d) for u, d in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if total >= d), ("bytes", 1))
    return f"{len(files)} file{'' if len(files) == 1 else 's'}, {total / divisor:.3g} {unit}"


def _same_model(known: Any, wanted: Any, *, local: bool) -> bool:
    if known.type != wanted.type:
        return False
    if local:
        return _hash(wanted.path) in str(known.path)
    return str(known.path).casefold() == str(wanted.path).casefold()


def _same_environment(known: Any, wanted: Any) -> bool:
    return known.image == wanted.image and (known.conda_file or None) == (wanted.conda_file or None)


def _differs(file: AzFile, field: str, asset: Any) -> PolicyError:
    return file.mistake(
        field, f"{asset.name}:{asset.version} is registered already with other content: raise its `version`"
    )


@contextlib.contextmanager
def _progress_where_seen() -> Iterator[None]:
    """azure-ai-ml draws a bar on stderr: let it, on a terminal, and keep it out of logs."""
    with contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO()):
        yield
