"""A model hub on this machine: the calls of huggingface_hub that make a repository and fill it, with what has arrived."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_test"
SMALL = (
    ".md",
    ".json",
    ".jsonl",
    ".yaml",
)  # sent within the commit; other files go to the large file storage


@dataclass
class Repository:
    kind: str
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class Hub:
    """repositories: by owner/name. refuses: a path whose requests are answered with 403."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    refuses: str = ""

    def answer(self, path: str, body: bytes) -> Any:
        """The JSON that a request to the API is answered with; None: there is no such thing."""
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            private = asked.get("visibility") == "private" or asked.get("private") is True
            if name in self.repositories:
                raise FileExistsError(name)
            self.repositories[name] = Repository(asked.get("type") or "model", private)
            return {"url": f"{self.address}/{asked.get('type', 'model')}s/{name}"}
        if path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            return {
                "objects": [
                    {**one, "actions": {"upload": {"href": f"{self.address}/large/{one['oid']}"}}}
                    for one in wanted
                ]
            }
        _, _, kinds, owner, short, *rest = path.split("/")
        repository = self.repositories.get(f"{owner}/{short}")
        if repository is None or kinds != f"{repository.kind}s":
            return None
        if not rest:
            siblings = [{"rfilename": name} for name in (".gitattributes", *repository.files)]
            return {
                "id": f"{owner}/{short}",
                "private": repository.private,
                "siblings": siblings,
                "sha": "0" * 40,
            }
        if rest[0] == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            mode = {name: "regular" if name.endswith(SMALL) else "lfs" for name in files}
            return {
                "files": [{"path": name, "uploadMode": mode[name], "shouldIgnore": False} for name in files]
            }
        header, *operations = map(json.loads, body.splitlines())
        for operation in operations:
            value = operation["value"]
            large = operation["key"] == "lfsFile"
            repository.files[value["path"]] = (
                self.large[value["oid"]] if large else base64.b64decode(value["content"])
            )
        repository.commits.append(header["value"]["summary"])
        return {
            "commitUrl": f"{self.address}/{owner}/{short}/commit/1",
            "commitOid": "1" * 40,
            "pullRequestUrl": None,
        }


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, status: int, content: Any = None) -> None:
            data = b"" if content is None else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_HEAD(self) -> None:
            self.reply(200)

        def do_GET(self) -> None:
            path, body = urlsplit(self.path).path, self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if path.startswith("/large/"):
                hub.large[path.rpartition("/")[2]] = body
                return self.reply(200)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.reply(401, {"error": "Invalid credentials"})
            if hub.refuses and hub.refuses in path:
                return self.reply(403, {"error": "Forbidden: no write access"})
            try:
                found = hub.answer(path, body)
            except FileExistsError as name:
                return self.reply(
                    409, {"error": "You already created this repo", "url": f"{hub.address}/{name}"}
                )
            return self.reply(404, {"error": "not found"}) if found is None else self.reply(200, found)

        do_POST = do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
