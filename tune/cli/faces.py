"""What `emotune predict --faces` prints and draws."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import typer

import tune
from trainables.dataset.face_boxes import BOX_EDGES
from tune.cli.text import prediction_line, tell_unread
from tune.export.faces import draw_faces, drawing_paths, predict_faces
from tune.export.pictures import Picture
from tune.export.predict import UnreadPicture


def print_faces(
    export: str, pictures: Sequence[Picture], form: Literal["text", "json", "csv"], draw: Path | None
) -> int:
    """Prints a line for each face, and writes the pictures with boxes and labels; returns the exit code."""
    paths = drawing_paths([picture.name for picture in pictures], draw) if draw else []
    predictor = tune.load_export(export)
    if draw:
        draw.mkdir(parents=True, exist_ok=True)
    table = csv.writer(sys.stdout, lineterminator="\n")
    if form == "csv":
        table.writerow(["path", *BOX_EDGES, "label", *predictor.classes])
    unread: list[UnreadPicture] = []
    for place, found in enumerate(predict_faces(predictor, ((one.name, one.read) for one in pictures))):
        if isinstance(found, UnreadPicture):
            unread.append(found)
            continue
        for box, prediction in found.faces:
            if form == "csv":
                table.writerow([found.name, *box, prediction.label, *prediction.probabilities.values()])
            elif form == "json":
                edges = dict(zip(BOX_EDGES, box, strict=True))
                answer = {"label": prediction.label, "probabilities": prediction.probabilities}
                typer.echo(json.dumps({"path": found.name, "box": edges, **answer}))
            else:
                where = "{},{} to {},{}".format(*box)
                typer.echo(prediction_line(prediction, as_json=False, name=f"{found.name} {where}"))
        if not found.faces:
            typer.echo(f"no face: {found.name}", err=True)
        if draw:
            draw_faces(found).save(paths[place])
    return tell_unread(unread, len(pictures))
