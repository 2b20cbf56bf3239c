"""A server that speaks as much of the Hugging Face Hub as downloads need.

After https://huggingface.co/docs/hub/api: a model's files with sizes and checksums, and the files, in ranges.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """A hub with one model.

    Attributes:
        model: Its name, `owner/name`.
        files: What it holds; those over 1 kB are kept as large files, with a checksum.
        key: The token that it wants; nothing where empty.
        gated: Whether its licence has to be accepted first.
        breaks: After how many bytes each large file's transfer breaks off; 0 for never.
        altered: Whether large files come with another last byte than their checksum says.
        ranges: The ranges that were asked for, file by file.
        fetched: Files sent, in order.
    """

    model: str
    files: dict[str, bytes]
    license: str = "other"
    key: str = ""
    gated: bool = False
    breaks: int = 0
    altered: bool = False
    ranges: list[tuple[str, str]] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def app(self) -> web.Application:
        """The server."""
        app = web.Application()
        app.router.add_get(f"/api/models/{self.model}", self._model)
        app.router.add_get(f"/api/models/{self.model}/revision/{{revision}}", self._model)
        app.router.add_get(f"/api/models/{self.model}/tree/{{revision}}", self._tree)
        app.router.add_get(f"/{self.model}/resolve/{{revision}}/{{file:.+}}", self._file)
        app.router.add_get("/{other:.*}", self._unknown)
        return app

    async def _unknown(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"error": "Repository not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"}
        )

    def _refused(self, request: web.Request) -> web.Response | None:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "who are you"}, status=401, headers={"X-Error-Code": "RepoNotFound"})
        return None

    def _entry(self, name: str) -> dict[str, object]:
        data = self.files[name]
        entry: dict[str, object] = {"size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
        if len(data) > 1000:
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    async def _model(self, request: web.Request) -> web.Response:
        if refusal := self._refused(request):
            return refusal
        return web.json_response(
            {
                "id": self.model,
                "modelId": self.model,
                "sha": COMMIT,
                "gated": "manual" if self.gated else False,
                "private": False,
                "tags": [f"license:{self.license}"],
                "cardData": {"license": self.license},
                "siblings": [{"rfilename": name, **self._entry(name)} for name in self.files],
            }
        )

    async def _tree(self, request: web.Request) -> web.Response:
        if refusal := self._refused(request):
            return refusal
        return web.json_response(
            [
                {"type": "file", "path": name, "oid": self._entry(name)["blobId"], "size": len(data)}
                | (
                    {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
                    if len(data) > 1000
                    else {}
                )
                for name, data in self.files.items()
            ]
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        if refusal := self._refused(request):
            return refusal
        if self.gated:
            return web.json_response({"error": "accept"}, status=403, headers={"X-Error-Code": "GatedRepo"})
        if name not in self.files:
            return web.json_response({"error": "no"}, status=404, headers={"X-Error-Code": "EntryNotFound"})
        data = self.files[name]
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            "X-Linked-Size": str(len(data)),
        }
        start = 0
        if asked := request.headers.get("Range"):
            self.ranges.append((name, asked))
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        headers["Content-Length"] = str(len(data) - start)
        answer = web.StreamResponse(status=206 if asked else 200, headers=headers)
        await answer.prepare(request)
        if request.method == "GET":
            self.fetched.append(name)
            body = data[start:]
            if self.altered and len(body) > 1000:
                body = body[:-1] + bytes([body[-1] ^ 1])
            if self.breaks and len(body) > 1000:
                await answer.write(body[: self.breaks])
                assert request.transport is not None
                request.transport.abort()
                return answer
            await answer.write(body)
        await answer.write_eof()
        return answer
