"""A server that has one data set, as Hugging Face's hub serves it to its own library."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def data_set_hub(name: str, files: Mapping[str, bytes]) -> Iterator[str]:
    """Serves a data set, `OWNER/NAME`, whose one branch is `main`; yields the server's address."""

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            kind, _, inside = path.partition(f"/datasets/{name}/")
            if not path.startswith((f"/api/datasets/{name}/", f"/datasets/{name}/")):
                self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif inside in ("revision/main", f"revision/{COMMIT}"):
                self.answer(200, json.dumps({"id": name, "sha": COMMIT}).encode())
            elif inside == f"tree/{COMMIT}":
                self.answer(200, json.dumps([listed(path, data) for path, data in files.items()]).encode())
            elif not kind and (file := inside.removeprefix(f"resolve/{COMMIT}/")) in files:
                self.answer(200, files[file], {"ETag": f'"{digest(files[file])}"', "X-Repo-Commit": COMMIT})
            else:
                self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})

        do_HEAD = do_GET

        def answer(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for header, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(header, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def listed(path: str, data: bytes) -> dict[str, Any]:
    """What the hub says of one file of a data set."""
    return {"type": "file", "path": path, "size": len(data), "oid": digest(data)}


def digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
