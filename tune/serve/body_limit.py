"""Refuses requests by what their headers say of their bodies, in Ray Serve's proxy, before a byte of one is read.

The proxy (Ray 2.60) takes a body into its memory as fast as it comes, without a limit, also while the request waits for
the model's process: what stands there can refuse nothing in time.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

MAX_IMAGE_BYTES = 32 * 2**20
FORM = "multipart/form-data"

PROXY_MIDDLEWARES = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "tune.serve.body_limit:proxy_middlewares"}
"""By which environment variable Ray Serve's proxy finds `proxy_middlewares`; to be set before Ray starts."""

_FORM_BYTES = 64 * 2**10
"""What a form may have around its file."""


class BodyLimit:
    """An ASGI application around another that answers 411 and 413 in its place."""

    def __init__(self, application: Any) -> None:
        """Takes the application that is asked where the headers allow it."""
        self._application = application

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answers a request, or has it answered."""
        refusal = _refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        answer = JSONResponse({"detail": refusal[1]}, refusal[0]) if refusal else self._application
        await answer(scope, receive, send)


def proxy_middlewares() -> list[Middleware]:
    """Returns what Ray Serve's proxy is to put around every application."""
    return [Middleware(BodyLimit)]


def _refusal(headers: Headers) -> tuple[int, str] | None:
    if "transfer-encoding" in headers:
        return 411, "a request must say its Content-Length. Received: chunks"
    length = headers.get("content-length", "0")
    is_form = headers.get("content-type", "").lower().startswith(FORM)
    if length.isdigit() and int(length) > MAX_IMAGE_BYTES + (_FORM_BYTES if is_form else 0):
        return 413, f"an image must have at most {MAX_IMAGE_BYTES:,} bytes. Received: {int(length):,}"
    return None
