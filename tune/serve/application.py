"""The HTTP side of a served export: reads requests within limits, answers in JSON. Classifies nothing itself."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from pydantic import BaseModel
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from tune.export.predict import UnreadPicture
from tune.serve.body_limit import FORM, MAX_IMAGE_BYTES
from tune.serve.classifier import BatchingClassifier

_PAGE = Path(__file__).with_name("page.html")
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src blob:"

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM_SCHEMA = {
    "schema": {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "string", "format": "binary"}},
    }
}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The content of one image file, as the body or as the one file of a form.",
        "content": {
            **dict.fromkeys(("image/png", "image/jpeg", "application/octet-stream"), _BINARY),
            FORM: _FORM_SCHEMA,
        },
    }
}


class Classified(BaseModel):
    """The likeliest class of an image, and the probability of every class; they sum to 1."""

    label: str
    probabilities: dict[str, float]


class Health(BaseModel):
    """What is served."""

    status: str
    classes: tuple[str, ...]
    height_px: int
    width_px: int
    channels: int
    emotune: str


class Refused(BaseModel):
    """Why a request was refused."""

    detail: str


_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refused, "description": "No image in the request, or more than one"},
    408: {"model": Refused, "description": "The image does not arrive in time"},
    411: {"model": Refused, "description": "The request does not say how long it is"},
    413: {"model": Refused, "description": f"More than {MAX_IMAGE_BYTES:,} bytes"},
    422: {"model": Refused, "description": "The image cannot be decoded, or has too many pixels"},
}


def build_application(classifier: BatchingClassifier) -> FastAPI:
    """Returns the application that asks a classifier."""
    version = importlib.metadata.version("emotune")
    # FastAPI's own pages would fetch scripts from another host.
    application = FastAPI(title="emotune", version=version, docs_url=None, redoc_url=None)
    registry = classifier.metrics
    requests = Counter("emotune_requests", "Requests, by path and status", ["path", "status"], registry=registry)
    seconds = Histogram("emotune_request_seconds", "From request to answer", ["path"], registry=registry)

    @application.middleware("http")
    async def count(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        began, status = time.perf_counter(), 500
        try:
            response = await answer(request)
            status = response.status_code
            return response
        finally:
            route = request.scope.get("route")
            path = getattr(route, "path", "other")  # not what the client wrote: every spelling would be a series
            requests.labels(path, status).inc()
            seconds.labels(path).observe(time.perf_counter() - began)

    @application.post("/predict", response_model=Classified, responses=_REFUSALS, openapi_extra=_BODY)
    async def predict(request: Request) -> Classified:
        """Classifies one image: PNG, JPEG or whatever else `emotune predict` reads, of any size."""
        try:
            with classifier.arriving():
                image = await _image_of(request)
        except ClientDisconnect:  # or too slow: `BodyLimit` has answered
            raise HTTPException(408, "an image must arrive. Received: a part of it") from None
        found = await classifier.classify(image)
        if isinstance(found, UnreadPicture):
            raise HTTPException(422, f"an image must be readable. Received: {found.reason}")
        return Classified(label=found.label, probabilities=found.probabilities)

    @application.head("/health", include_in_schema=False)
    @application.get("/health", response_model=Health)
    async def health() -> Health:
        """Answers as soon as images are classified."""
        height_px, width_px, channels = classifier.size
        return Health(
            status="ok",
            classes=classifier.classes,
            height_px=height_px,
            width_px=width_px,
            channels=channels,
            emotune=version,
        )

    @application.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """The server's figures in Prometheus' text format."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @application.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": _POLICY})

    return application


async def _image_of(request: Request) -> bytes:
    """Returns the image of a request: its body, or the one file of a form. `BodyLimit` has let it pass.

    Raises:
        HTTPException: 400 without an image, or with several.
    """
    is_form = request.headers.get("content-type", "").lower().startswith(FORM)
    image = await _file_of(request) if is_form else await request.body()
    if not image:
        raise HTTPException(400, "a request must hold one image. Received: an empty one")
    return image


async def _file_of(request: Request) -> bytes:
    async with request.form(max_files=1, max_fields=8) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if not files:
            raise HTTPException(400, "a form must hold one file. Received: none")
        return await files[0].read()
