"""Azure Storage on loopback: uploads of models and code.

The rule: only what the SDKs use is here: a block blob is written whole or in blocks, asked about, and given metadata. Every
request carries the signature that the control plane gave out.
"""

import re
import shutil
from pathlib import Path

from aiohttp import web

from rollout.sandbox.blobs import ACCOUNT, SERVICE_VERSION, Blobs

#: `https://…/sandbox.blob.<the cloud's storage domain>/container/blob`: loopback has no host for each account.
BLOB = "/{account:" + ACCOUNT + r"\.blob\.[a-z0-9.-]+}/{container}/{blob:.+}"
PIECE = 256 * 1024  # bytes read at a time
MAX_BLOB = 2 * 2**30  # bytes
META = "x-ms-meta-"


class BlobFace:
    """The handlers of the blob service."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def routes(self) -> list[web.RouteDef]:
        """The addresses of all blobs."""
        return [web.put(BLOB, self.put), web.get(BLOB, self.get)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """A blob's properties (HEAD), and its content."""
        path = self._path(request)
        if isinstance(path, web.Response):
            return path
        if not path.is_file():
            return _refused(404, "BlobNotFound", "The specified blob does not exist.")
        headers = {f"{META}{key}": value for key, value in self._blobs.metadata.get(path, {}).items()}
        return web.FileResponse(path, headers={**headers, **_marks(), "x-ms-blob-type": "BlockBlob"})

    async def put(self, request: web.Request) -> web.Response:
        """A whole blob, one block, the list of blocks that make one, or a blob's metadata."""
        path = self._path(request)
        if isinstance(path, web.Response):
            return path
        match request.query.get("comp"):
            case "metadata":
                return self._mark(path, request)
            case "block":
                await _write(request, _block(path, request.query.get("blockid", "")))
            case "blocklist":
                await self._join(path, request)
            case None:
                await _write(request, path)
            case other:
                return _refused(501, "NotSupportedBySandbox", f"sandbox: not modelled: comp={other}.")
        self._mark(path, request)
        return web.Response(status=201, headers={**_marks(), "x-ms-request-server-encrypted": "true"})

    def _path(self, request: web.Request) -> Path | web.Response:
        if self._blobs.closed:
            return _refused(403, "AuthorizationFailure", "This request is not authorized to perform this operation.")
        if not self._blobs.opens(request.query):
            return _refused(
                403, "AuthenticationFailed", "Server failed to authenticate the request: check its signature."
            )
        try:
            return self._blobs.file(request.match_info["container"], request.match_info["blob"])
        except ValueError:
            return _refused(400, "InvalidUri", "The requested URI does not represent any resource on the server.")

    def _mark(self, path: Path, request: web.Request) -> web.Response:
        given = {key.lower(): value for key, value in request.headers.items()}
        found = {key.removeprefix(META): value for key, value in given.items() if key.startswith(META)}
        if request.query.get("comp") == "metadata" or found:
            self._blobs.metadata[path] = found
        return web.Response(headers=_marks())

    async def _join(self, path: Path, request: web.Request) -> None:
        listed = re.findall(r"<(?:Latest|Uncommitted|Committed)>([^<]+)</", await request.text())
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as whole:
            for number in listed:
                block = _block(path, number)
                with block.open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
                block.unlink()


async def _write(request: web.Request, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    size = 0
    with draft.open("wb") as file:
        async for piece in request.content.iter_chunked(PIECE):
            size += len(piece)
            if size > MAX_BLOB:
                raise web.HTTPRequestEntityTooLarge(max_size=MAX_BLOB, actual_size=size)
            file.write(piece)
    draft.replace(path)


def _block(path: Path, number: str) -> Path:
    return path.with_name(f".{path.name}.block-{number.encode().hex()}")


def _marks() -> dict[str, str]:
    return {
        "x-ms-version": SERVICE_VERSION,
        "ETag": '"0x8DC0000000000000"',
        "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT",
    }


def _refused(status: int, code: str, message: str) -> web.Response:
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=status, text=body, content_type="application/xml", headers={"x-ms-error-code": code})
