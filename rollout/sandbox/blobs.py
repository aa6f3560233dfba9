"""The blob store of the sandbox's workspace: what clients upload, kept as files that model processes read.

The rule: a name never leaves the store's folder, and the folder is emptied when a sandbox starts. How clients reach the
store is in `blob_face.py`.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

ACCOUNT = "sandbox"
SERVICE_VERSION = "2023-11-03"
DATASTORE = re.compile(r"azureml://(?:subscriptions/.*/)?datastores/workspaceblobstore/paths/(.+)", re.IGNORECASE)


class Blobs:
    """The files, by container and name. `metadata`: of the blobs that have any."""

    def __init__(self, folder: Path, *, address: str, secret: str) -> None:
        """Starts empty: what another run left in the folder is deleted."""
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._base = f"{address}/{ACCOUNT}.blob.core.windows.net"
        self._secret = secret
        self.metadata: dict[Path, dict[str, str]] = {}
        self.closed = False  # behind a firewall that lets nobody through

    @property
    def account(self) -> str:
        """The name under which the SDKs address the account: it becomes `https://<account>.blob.<domain>`."""
        return f"{urlsplit(self._base).netloc}/{ACCOUNT}"

    @property
    def signature(self) -> str:
        """The query that opens the store."""
        return f"sv={SERVICE_VERSION}&sr=c&sp=racwl&se=2099-01-01T00:00:00Z&sig={self._secret}"

    def opens(self, query: Mapping[str, str]) -> bool:
        """Whether a request carries the signature."""
        return query.get("sig") == self._secret

    def address(self, container: str) -> str:
        """Where a container is reached."""
        return f"{self._base}/{container}"

    def file(self, container: str, blob: str) -> Path:
        """Where a blob lies. Raises ValueError for a name that leads out of the store."""
        path = (self._folder / container / blob).resolve()
        if not path.is_relative_to((self._folder / container).resolve()) or container in {"", ".", ".."}:
            raise ValueError(blob)
        return path

    def found(self, uri: str, *, container: str) -> Path | None:
        """The uploaded file or folder that an asset's URI means (`container`: the datastore's); None if there is none."""
        inside = DATASTORE.fullmatch(uri)
        if inside is not None:
            place, name = container, inside[1]
        elif ACCOUNT + ".blob." in uri:
            place, _, name = (
                unquote(urlsplit(uri).path).partition(f"/{ACCOUNT}.blob.")[2].partition("/")[2].partition("/")
            )
        else:
            return None
        try:
            path = self.file(place, name.rstrip("/"))
        except ValueError:
            return None
        return path if path.exists() else None
