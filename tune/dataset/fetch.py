"""Downloads a public data set through its site's own library. Imports nothing into Arrow: `ingest` does."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tune.errors import SourceError

_KAGGLE: Final = re.compile(r"kaggle:([\w.-]+/[\w.-]+)")
_HUGGING_FACE: Final = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def fetch(address: str) -> Path:
    """Downloads a data set into the cache of its site's library; a second call finds it there.

    Args:
        address: `kaggle:OWNER/NAME`, such as `kaggle:ananthu017/emotion-detection-fer`, or Hugging Face's
            `hf://OWNER/NAME`, with `@REVISION` for another branch, tag or commit than `main`.

    Returns:
        The folder that holds it, for `import_dataset`.

    Raises:
        SourceError: the address has another form, the library is not installed, or the download failed.
    """
    if named := _KAGGLE.fullmatch(address):
        name = named[1]
        kagglehub = _library("kagglehub", address, "kaggle")
        return _downloaded(address, lambda: kagglehub.dataset_download(name), "check the name and the network")
    if named := _HUGGING_FACE.fullmatch(address):
        name, revision = named.groups()
        hub = _library("huggingface_hub", address, "huggingface")
        return _downloaded(
            address,
            lambda: _snapshot(hub, name, revision),
            "check the name and the network; what is private or gated needs HF_TOKEN, or hf auth login",
        )
    raise SourceError(
        f"An address must be kaggle:OWNER/NAME or hf://OWNER/NAME. Received: {address!r}; "
        "try kaggle:ananthu017/emotion-detection-fer."
    )


def _snapshot(hub: Any, name: str, revision: str | None) -> str:
    if not sys.stderr.isatty():
        importlib.import_module("huggingface_hub.utils").disable_progress_bars()
    return str(hub.snapshot_download(name, repo_type="dataset", revision=revision))


def _library(name: str, address: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SourceError(
            f"Fetching {address} needs {name}, which is not installed; run make setup EXTRAS={extra}."
        ) from error


def _downloaded(address: str, download: Callable[[], Any], remedy: str) -> Path:
    try:
        return Path(download())
    except Exception as error:  # the libraries let their HTTP client's, the disk's and their own errors through
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = next((line for line in lines if "Client Error" not in line), lines[0])  # huggingface_hub's first line
        raise SourceError(f"{address} could not be downloaded: {reason.rstrip('.')}; {remedy}.") from error
