"""Tells a reader what an export is: text from its figures, computed elsewhere. Touches no disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from trainables.training.metrics import wilson_interval
from tune.study.trial_record import run_label

CARD_FILE, CARD_PAGE_FILE = "model_card.md", "model_card.html"

PLAIN_KERAS = """\
import json
import keras, numpy as np
from PIL import Image

labels = json.load(open("labels.json"))
picture = Image.open("face.png").convert("L" if labels["channels"] == 1 else "RGB")
picture = picture.resize((labels["width_px"], labels["height_px"]))
image = np.asarray(picture, np.uint8).reshape(1, labels["height_px"], labels["width_px"], labels["channels"])
probabilities = keras.saving.load_model("model.keras").predict(image, verbose=0)
print(labels["classes"][probabilities[0].argmax()])"""
"""A program that classifies an image in the export's folder; docs/exports.md has the same."""

_EXPRESSIONS = ("ang", "contempt", "disgust", "fear", "happ", "neutral", "sad", "surpris")

_STYLE = (
    "body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; "
    "color-scheme: light dark } table { border-collapse: collapse; display: block; overflow-x: auto } "
    "th, td { padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #8886; text-align: left } pre { overflow-x: auto }"
)


def model_card(metrics: Mapping[str, Any], classes: Sequence[str], shape: tuple[int, int, int]) -> str:
    """Returns the model card (Mitchell et al., 2019) in Markdown.

    Args:
        metrics: What metrics.json holds.
        classes: Names in the order of the probabilities.
        shape: Height and width in px, channels.
    """
    height, width, channels = shape
    dataset, test = metrics["dataset"], metrics["test"]
    name, classes = _plain(dataset["name"]), [_plain(one) for one in classes]
    colours = "gray" if channels == 1 else "RGB"
    return "\n".join(
        [
            f"# {metrics['config']['model']} on {name}",
            "",
            f"Classifies {colours} images of {height} x {width} px as one of: {', '.join(classes)}. "
            f"{_origin(metrics)}, {metrics['parameters']:,} parameters. Found and written by emotune.",
            "",
            "## Intended use",
            "",
            "Images like those of its training data. It is a statistical guess for one image: not fit for decisions "
            "about people, and it does not measure what somebody feels.",
            "",
            "## Data",
            "",
            f"{name}, fingerprint `{dataset['fingerprint']}`.",
            "",
            *_data(metrics["data"], classes),
            "## Metrics",
            "",
            *_scores(test, classes),
            *_calibration(metrics["calibration"], test),
            "## Formats",
            "",
            "| format | file | largest difference of a probability from training | accuracy |",
            "|---|---|---|---|",
            *(_format_row(name, one) for name, one in metrics["formats"].items()),
            "",
            "## Configuration",
            "",
            *_configuration(metrics),
            "",
            "## Limits",
            "",
            *_limits(classes),
            f"- Images: {metrics['input']}.",
            "",
            "## How to run it",
            "",
            "```sh",
            "emotune predict EXPORT PATH...   # images, folders, zips",
            "emotune evaluate EXPORT --data DIR",
            "emotune verify EXPORT",
            "```",
            "",
            f"Without emotune, from the export's folder ({metrics['input']}):",
            "",
            "```python",
            PLAIN_KERAS,
            "```",
            "",
        ]
    )


def _plain(text: str) -> str:
    """Returns text that Markdown shows as it is, in a table too."""
    return re.sub(r"([\\`*\[\]<|])", r"\\\1", text)


def _limits(classes: Sequence[str]) -> list[str]:
    known = sum(name.lower().startswith(_EXPRESSIONS) for name in classes)
    if known > len(classes) / 2:
        return [
            "- Labels of facial expressions are noisy: people agree with those of FER-2013 on about 65 % of images.",
            "- Other cameras, light, ages and faces than those of the training data are not measured here.",
        ]
    return ["- Other cameras, light and subjects than those of the training data are not measured here."]


def card_page(card: str) -> str:
    """Returns a card as an HTML file without scripts or other hosts; what its text has of HTML is shown as text."""
    from markdown_it import MarkdownIt

    title = escape(card.partition("\n")[0].removeprefix("# "))
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n<main>\n{body}</main>\n</html>\n"
    )


def _members(metrics: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (metrics["ensemble"] or {}).get("members") or [metrics]


def _origin(metrics: Mapping[str, Any]) -> str:
    runs = [f"{run_label(member['trial'])}, epoch {member['epoch']}" for member in _members(metrics)]
    if len(runs) == 1:
        return runs[0].capitalize()
    return f"The mean of the probabilities of {len(runs)} models: {'; '.join(runs)}; together"


def _configuration(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the table of parameters, a column for each model."""
    members = _members(metrics)
    heads = ["value"] if len(members) == 1 else [run_label(member["trial"]) for member in members]
    names = dict.fromkeys(name for member in members for name in member["config"])
    rows = [[f"`{name}`", *(_plain(str(member["config"].get(name, ""))) for member in members)] for name in names]
    return [f"| {' | '.join(cells)} |" for cells in (["parameter", *heads], ["---"] * (1 + len(heads)), *rows)]


def _data(data: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    counts, duplicates = data["counts"], data["duplicates"]
    train, test = (
        {_plain(name): count for name, count in counts.get(split, {}).items()} for split in ("train", "test")
    )
    surplus = duplicates["surplus"]
    return [
        "| class | training images | test images |",
        "|---|---|---|",
        *(f"| {name} | {train.get(name, 0)} | {test.get(name, 0)} |" for name in classes),
        f"| all | {sum(train.values())} | {sum(test.values())} |",
        "",
        f"Surplus copies of an image: {surplus['train']} in training, {surplus['test']} in the test split. Test images "
        f"that are in training too: {duplicates['test_with_twin_in_train']}; no trial trains on those. Images whose "
        f"copies have another label: {duplicates['images_with_label_conflict']}.",
        "",
    ]


def _scores(test: Mapping[str, Any] | None, classes: Sequence[str]) -> list[str]:
    if test is None:
        return ["The test split was not opened.", ""]
    low, high = test["accuracy_interval"]
    named_rows = zip(classes, test["confusion"], strict=True)
    return [
        f"Sealed test split, {test['images']} images: accuracy {test['accuracy']:.4f} (95 % interval {low:.4f} to "
        f"{high:.4f}), macro F1 {test['macro_f1']:.4f}.",
        "",
        "| class | images | recall (95 % interval) |",
        "|---|---|---|",
        *(_recall_row(name, row, place) for place, (name, row) in enumerate(named_rows)),
        "",
    ]


def _recall_row(name: str, row: Sequence[int], place: int) -> str:
    """Returns a class's row of the table from its row of the confusion matrix."""
    images = int(sum(row))
    if not images:
        return f"| {name} | 0 | |"
    low, high = wilson_interval(int(row[place]), images)
    return f"| {name} | {images} | {row[place] / images:.4f} ({low:.4f} to {high:.4f}) |"


def _calibration(found: Mapping[str, Any] | None, test: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    error, loss = found["expected_calibration_error"], found["loss"]
    low, high = found["loss_gain_interval"]
    done = "Probabilities are as trained: a temperature did not help by more than chance."
    if found["kept"]:
        done = f"Logits are divided by {found['temperature']:.4f} in every format (temperature scaling)."
    lines = [
        "## Calibration",
        "",
        f"{done} On {found['images']} images of the selection fold, cross-validated: expected calibration error "
        f"{error['before']:.4f} without, {error['after']:.4f} with it; loss {loss['before']:.4f} and "
        f"{loss['after']:.4f}, a gain of {found['loss_gain']:+.4f} (95 % interval {low:+.4f} to {high:+.4f}).",
        "",
    ]
    if found["kept"] and test is not None and "uncalibrated" in test:
        before = test["uncalibrated"]
        lines += [
            f"Sealed test split: expected calibration error {before['expected_calibration_error']:.4f} without, "
            f"{test['expected_calibration_error']:.4f} with it; loss {before['loss']:.4f} and {test['loss']:.4f}.",
            "",
        ]
    return lines


def _format_row(name: str, written: Mapping[str, Any]) -> str:
    change = "as in training"
    if "accuracy_difference" in written:
        low, high = written["interval"]
        change = (
            f"{written['accuracy_difference']:+.4f} (95 % interval {low:+.4f} to {high:+.4f}) "
            f"on {written['images']} {written['of']} images"
        )
    return f"| {name} | `{written['file']}` | {written['max_difference']:.1e} | {change} |"
