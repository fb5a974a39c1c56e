"""An export as a model repository of the Hugging Face Hub: its files as they are, and its card with the Hub's head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.errors import first_line
from tune.errors import ExportError
from tune.export.export import EXPORT_FILES, METRICS_FILE
from tune.export.model_card import CARD_FILE
from tune.yaml_values import dump

_CARD_ON_THE_HUB, _ATTRIBUTES = "README.md", ".gitattributes"


def push_to_hub(folder: Path, repository: str, *, public: bool) -> str:
    """Makes the repository if there is none, and puts the export's files there in one commit; others are removed.

    Args:
        folder: an export that is whole.
        repository: owner/name.
        public: a repository that is made may be read by everybody; one that is there stays as it is.

    Returns:
        The repository's page.

    Raises:
        ExportError: the package is missing, nobody is logged in, or the Hub says no.
    """
    try:
        import httpx
        import huggingface_hub as hub
    except ImportError:
        raise ExportError(
            "hf:// needs the package huggingface_hub. Install it: make setup EXTRAS=huggingface"
        ) from None
    api = hub.HfApi(library_name="emotune")
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    card = hub_card(metrics, (folder / CARD_FILE).read_text(encoding="utf-8"), repository)
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        there = set(api.list_repo_files(repository)) - {_ATTRIBUTES}
        if there - {_CARD_ON_THE_HUB} and not there.issuperset(EXPORT_FILES):
            raise ExportError(
                f"{repository} must be new or hold an earlier export. Received: one with {min(there)}; it stays. "
                "Choose another name"
            )
        operations: list[Any] = [hub.CommitOperationAdd(_CARD_ON_THE_HUB, card.encode())]
        operations += [hub.CommitOperationAdd(name, path) for name, path in files.items()]
        operations += [hub.CommitOperationDelete(name) for name in sorted(there - files.keys() - {_CARD_ON_THE_HUB})]
        api.create_commit(repository, operations, commit_message=_message(metrics))
    except hub.errors.LocalTokenNotFoundError:
        raise ExportError(
            "the Hub must know who sends. Received: no token. Log in: hf auth login, or set HF_TOKEN"
        ) from None
    except (hub.errors.HFValidationError, hub.errors.HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise ExportError(
            f"{api.endpoint} must take {repository}. Received: {first_line(error)}. Check the name, the network and "
            "the token (hf auth whoami)"
        ) from None
    return f"{api.endpoint}/{repository}"


def _message(metrics: Mapping[str, Any]) -> str:
    test = metrics["test"]
    score = "" if test is None else f", accuracy {test['accuracy']:.4f} on {test['images']} test images"
    return f"Trial {metrics['trial']}, epoch {metrics['epoch']}{score}"


def hub_card(metrics: Mapping[str, Any], card: str, repository: str) -> str:
    """Returns the card with the head that the Hub reads (https://huggingface.co/docs/hub/model-cards)."""
    head: dict[str, Any] = {
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["emotune", "image-classification"],
    }
    test = metrics["test"]
    if test is not None:
        figures = [("accuracy", test["accuracy"]), ("f1", test["macro_f1"])]
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": metrics["dataset"]["name"], "type": metrics["dataset"]["name"]},
            "metrics": [{"type": kind, "value": round(value, 4)} for kind, value in figures],
        }
        head["model-index"] = [{"name": repository.partition("/")[2], "results": [result]}]
    return f"---\n{dump(head)}---\n\n{card}"
