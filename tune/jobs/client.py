"""Ray's client of a jobs server, with time limits and a job's log as lines. Knows nothing of studies."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import ray.exceptions
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.job_submission import JobSubmissionClient

_ADDRESS = "RAY_API_SERVER_ADDRESS"
_TIMEOUT_S = (5, 60)
_UPLOAD_TIMEOUT_S = (60, 60)
"""The first of the two also limits how long a request's body may take (urllib3 2)."""
_TICK_S, _SILENCE_S = 1.0, 15.0
_NOISY_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
    "ray._private.authentication.authentication_token_setup",
)
_NO_PROXY = {"http": "", "https": ""}
CONNECTION_ERRORS = (OSError, RuntimeError, aiohttp.ClientError, ray.exceptions.RayError)
"""What Ray's client raises when the jobs server goes away; `requests` raises OSErrors."""


def connect(address: str) -> JobsClient:
    """Returns a client for a jobs server; shows it the token that lies ready here if it wants one."""
    try:
        return JobsClient(address)
    except ray.exceptions.AuthenticationError:  # Ray 2.60 shows a token that lies ready only when it is told to
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        return JobsClient(address)


class JobsClient(JobSubmissionClient):
    """Ray's client with time limits: a machine that is gone does not answer at all (Ray 2.60 waits for it for ever)."""

    def __init__(self, address: str) -> None:
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._proxies = _NO_PROXY if proxy_of(address) and _is_near(address) else None
        before = os.environ.get(_ADDRESS)
        os.environ[_ADDRESS] = address  # Ray 2.60 prefers this and RAY_ADDRESS to what it is given
        try:
            super().__init__(address)
        finally:
            if before is None:
                del os.environ[_ADDRESS]
            else:
                os.environ[_ADDRESS] = before
        self._ssl_context: Any = self._ssl_context or True  # aiohttp calls Ray's None (2.60) deprecated

    @property
    def version(self) -> str:
        """The Ray version of the cluster."""
        return self._server_ray_version or "unknown"

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        timeout = _UPLOAD_TIMEOUT_S if options.get("data") or options.get("json_data") else _TIMEOUT_S
        return super()._do_request(method, endpoint, **{"timeout": timeout, "proxies": self._proxies, **options})

    def lines(self, job_id: str, probe: Callable[[], object]) -> Iterator[str | None]:
        """Yields a job's lines from its first on, None for every second without one; probes a server that is silent."""
        loop = asyncio.new_event_loop()
        chunks, rest = self.tail_job_logs(job_id), ""
        try:
            while True:
                chunk = loop.create_task(_next_chunk(chunks))
                asked = time.monotonic()
                try:
                    while not loop.run_until_complete(asyncio.wait({chunk}, timeout=_TICK_S))[0]:
                        yield None
                        if time.monotonic() - asked > _SILENCE_S:  # a machine that is gone says nothing either
                            probe()
                            asked = time.monotonic()
                finally:
                    if not chunk.done():
                        chunk.cancel()
                        with suppress(asyncio.CancelledError):
                            loop.run_until_complete(chunk)
                text = chunk.result()
                if text is None:
                    break
                *lines, rest = (rest + text).split("\n")
                yield from lines
            if rest:
                yield rest
        finally:
            loop.run_until_complete(chunks.aclose())  # type: ignore[attr-defined]  # an async generator
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def proxy_of(address: str) -> str | None:
    """Returns which variable of the environment sends requests for an address through a proxy, if one does."""
    parts = urlsplit(address)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    names = (f"{parts.scheme}_proxy", "all_proxy")
    return next((name for name in names if urllib.request.getproxies().get(name.removesuffix("_proxy"))), None)


def _is_near(address: str) -> bool:
    """Says whether a host is this machine or in a private network, which a proxy to the outside does not reach."""
    try:
        found = socket.getaddrinfo(urlsplit(address).hostname, None)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_private for entry in found)


async def _next_chunk(chunks: Any) -> str | None:
    try:
        return str(await anext(chunks))
    except StopAsyncIteration:
        return None
