"""Downloads a public data set, for people whose machine reaches Kaggle. Imports nothing into Arrow: `ingest` does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Final

from tune.errors import SourceError

_ADDRESS: Final = re.compile(r"kaggle:([\w.-]+/[\w.-]+)")


def fetch(address: str) -> Path:
    """Downloads a Kaggle data set into kagglehub's cache; a second call finds it there.

    Args:
        address: `kaggle:OWNER/NAME`, such as `kaggle:ananthu017/emotion-detection-fer`.

    Returns:
        The folder that holds it, for `import_dataset`.

    Raises:
        SourceError: the address has another form, kagglehub is not installed, or the download failed.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise SourceError(
            f"An address must be kaggle:OWNER/NAME. Received: {address!r}; try kaggle:ananthu017/emotion-detection-fer."
        )
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise SourceError(
            f"Fetching {address} needs kagglehub, which is not installed; run make setup EXTRAS=kaggle."
        ) from error
    try:
        return Path(kagglehub.dataset_download(match.group(1)))
    except Exception as error:  # kagglehub lets requests', the disk's and its own errors through.
        raise SourceError(f"{address} could not be downloaded: {error}; check the name and the network.") from error
