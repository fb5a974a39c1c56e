"""A stand-in for the Hugging Face Hub, which cannot be had here: what a commit of small files needs of its API."""

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

TOKEN = "hf_of_the_test"


@dataclass
class Hub:
    """What the server holds: each repository's files, whether it is private, its commits' messages."""

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


@contextmanager
def model_hub() -> Iterator[Hub]:
    """Serves an empty hub on loopback."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _known(self) -> bool:
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                return True
            self._answer(401, {"error": "Invalid username or password."})
            return False

        def _body(self) -> bytes:
            if "Content-Length" in self.headers:
                return self.rfile.read(int(self.headers["Content-Length"]))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def do_GET(self) -> None:
            if not self._known():
                return
            parts = urlsplit(self.path).path.split("/")
            repository = "/".join(parts[3:5])
            files = hub.files.get(repository)
            if files is None:
                self._answer(404, {"error": "Repository not found"})
            elif "tree" in parts:
                self._answer(200, [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in files])
            else:
                siblings = [{"rfilename": name} for name in files]
                self._answer(
                    200, {"id": repository, "sha": "0" * 40, "siblings": siblings, "private": True, "tags": []}
                )

        def do_POST(self) -> None:
            body = self._body()
            if not self._known():
                return
            parts = urlsplit(self.path).path.split("/")
            if parts[-2:] == ["repos", "create"]:
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'nobody'}/{asked['name']}"
                if name in hub.files:
                    self._answer(409, {"error": "You already created this model repo", "url": f"{hub.address}/{name}"})
                    return
                hub.files[name] = {".gitattributes": b""}
                hub.private[name] = asked.get("visibility") == "private"
                self._answer(200, {"url": f"{hub.address}/{name}", "name": name})
                return
            if parts[-1] == "validate-yaml":
                self._answer(200, {"errors": [], "warnings": []})
                return
            repository = "/".join(parts[3:5])
            if parts[5] == "preupload":
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self._answer(200, {"files": files})
                return
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                match line["key"]:
                    case "header":
                        hub.messages.append(value["summary"])
                    case "file":
                        hub.files[repository][value["path"]] = base64.b64decode(value["content"])
                    case "deletedFile":
                        del hub.files[repository][value["path"]]
            commit = {"commitUrl": f"{hub.address}/{repository}/commit/1", "commitOid": "1" * 40, "success": True}
            self._answer(200, commit)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
