"""Refuses requests by what their headers say of their bodies, in Ray Serve's proxy, before a byte of one is read, and
those whose body does not arrive in time, whether they have reached the model's process or wait before it.

The proxy (Ray 2.60) takes a body into its memory as fast as it comes, without a limit, also while the request waits for
the model's process: what stands there can refuse nothing in time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

MAX_IMAGE_BYTES = 32 * 2**20
FORM = "multipart/form-data"

_UPLOAD_S = "EMOTUNE_SERVE_UPLOAD_S"

_FORM_BYTES = 64 * 2**10
"""What a form may have around its file."""


class BodyLimit:
    """An ASGI application around another that answers 408, 411 and 413 in its place."""

    def __init__(self, application: Any, upload_s: float) -> None:
        """Takes the application that gets the requests whose body has arrived within so many seconds."""
        self._application = application
        self._upload_s = upload_s

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answers a request, or has it answered."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        if refusal := _refusal(Headers(scope=scope)):
            await _refuse(*refusal, scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        due, arrived, late = loop.time() + self._upload_s, False, False

        async def in_time() -> Any:
            nonlocal arrived, late
            if arrived:
                return await receive()
            try:
                async with asyncio.timeout_at(due):
                    message = await receive()
            except TimeoutError:
                late = True
                reason = f"an image must arrive within {self._upload_s:g} s. Received: a part of it"
                await _refuse(408, reason, scope, receive, send)
                return {"type": "http.disconnect"}  # Ray Serve gives up what it has of the request
            arrived = not message.get("more_body")
            return message

        async def send_unless_late(message: Any) -> None:
            if not late:
                await send(message)

        await self._application(scope, in_time, send_unless_late)


async def _refuse(status: int, reason: str, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Answers, and closes the connection: the rest of the body is not waited for."""
    await JSONResponse({"detail": reason}, status, {"Connection": "close"})(scope, receive, send)


def proxy_environment(upload_s: float) -> dict[str, str]:
    """Returns the environment variables by which Ray Serve's proxy finds `proxy_middlewares`; set before Ray starts."""
    callback = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
    return {callback: "tune.serve.body_limit:proxy_middlewares", _UPLOAD_S: str(upload_s)}


def proxy_middlewares() -> list[Middleware]:
    """Returns what Ray Serve's proxy is to put around every application."""
    return [Middleware(BodyLimit, upload_s=float(os.environ[_UPLOAD_S]))]


def _refusal(headers: Headers) -> tuple[int, str] | None:
    if "transfer-encoding" in headers:
        return 411, "a request must say its Content-Length. Received: chunks"
    length = headers.get("content-length", "0")
    is_form = headers.get("content-type", "").lower().startswith(FORM)
    if length.isdigit() and int(length) > MAX_IMAGE_BYTES + (_FORM_BYTES if is_form else 0):
        return 413, f"an image must have at most {MAX_IMAGE_BYTES:,} bytes. Received: {int(length):,}"
    return None
