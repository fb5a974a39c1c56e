"""What is done with an export: predict, evaluate, verify, push, serve. Parses, calls, prints; heavy imports wait."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

import tune
from tune.cli.options import local_path

Export = Annotated[
    str, typer.Argument(metavar="EXPORT", help="Folder or address of an export, or of the study that left it.")
]


def predict(
    export: Export,
    images: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Images, folders and zips of them, - for standard input.")
    ],
    json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table with a header.")] = False,
    faces: Annotated[bool, typer.Option("--faces", help="Find the faces in each picture; a line for each.")] = False,
    draw: Annotated[
        Path | None,
        typer.Option(parser=local_path, metavar="FOLDER", help="With --faces: the pictures, with boxes and labels."),
    ] = None,
) -> None:
    """Classify images with an export: label and probabilities. Goes on after an image that cannot be read."""
    from tune.cli.text import prediction_line, tell_unread
    from tune.export.pictures import find_pictures
    from tune.export.predict import UnreadPicture
    from tune.export.small_faces import MOST_LOOKED_AT

    if json and as_csv:
        raise typer.BadParameter("--json and --csv exclude one another. Give one.")
    if draw and not faces:
        raise typer.BadParameter("--draw shows faces. Give --faces too.")
    pictures, passed_over = find_pictures(images)
    if passed_over:
        more = f" and {len(passed_over) - 1} more" if passed_over[1:] else ""
        typer.echo(f"passed over: {passed_over[0]}{more}: no image by name; name it itself", err=True)
    if faces:
        from tune.cli.faces import print_faces

        raise typer.Exit(print_faces(export, pictures, "json" if json else "csv" if as_csv else "text", draw))
    predictor = tune.load_export(export)
    table = csv.writer(sys.stdout, lineterminator="\n")
    if as_csv:
        table.writerow(["path", "label", *predictor.classes])
    unread, small, divided = [], [], []
    named = ((picture.name, picture.read) for picture in pictures)
    for prediction in predictor.predict_pictures(named, look_for_faces=MOST_LOOKED_AT):
        if isinstance(prediction, UnreadPicture):
            unread.append(prediction)
            continue
        if prediction.looks_divided:
            divided.append(prediction.path)
        if prediction.small_face is not None:
            small.append(f"{prediction.path}: {prediction.small_face:.0%}")
        if as_csv:
            table.writerow([prediction.path, prediction.label, *prediction.probabilities.values()])
        else:
            typer.echo(prediction_line(prediction, as_json=json))
    if divided:
        typer.echo(
            f"warning: {len(divided)} of {len(pictures)} images ({divided[0]}) have no pixel above 1 of 255, as if "
            "divided by 255; save them with pixels 0-255",
            err=True,
        )
    if small:
        typer.echo(
            f"warning: {len(small)} large images hold a small face ({small[0]} of the shorter side) and are squeezed "
            "whole; find their faces: --faces",
            err=True,
        )
    raise typer.Exit(tell_unread(unread, len(pictures)))


def evaluate(
    export: Export,
    data: Annotated[
        str, typer.Option(help="Data set of emotune (its test split), or a folder or zip of class folders (all of it).")
    ],
    json: Annotated[bool, typer.Option("--json", help="All figures as one JSON object.")] = False,
    every_format: Annotated[
        bool, typer.Option("--every-format", help="Also the export's other formats, beside the Keras model.")
    ] = False,
) -> None:
    """Score an export on labelled images: accuracy with its interval, every class, calibration."""
    import json as json_text

    from tune.cli.text import evaluation_lines

    scores = tune.evaluate_export(export, data, every_format=every_format)
    for name, reason in scores["unread_images"].items():
        typer.echo(f"not read: {name}: {reason}", err=True)
    typer.echo(json_text.dumps(scores) if json else evaluation_lines(scores))


def verify(export: Export) -> None:
    """Compare every file of an export with its manifest (SHA-256)."""
    files = tune.verify_export(export)
    if files:
        typer.echo(f"{export}: all {len(files)} files are as they were written")
    else:
        typer.echo(f"{export}: of a version before manifests; its files cannot be compared")


def push(
    export: Export,
    to: Annotated[
        str, typer.Argument(metavar="TO", help="hf://OWNER/NAME, s3://..., gs://... or mlflow:http://HOST:PORT.")
    ],
    public: Annotated[bool, typer.Option("--public", help="A new repository of the Hub may be read by all.")] = False,
) -> None:
    """Send an export to the Hugging Face Hub, a bucket or MLflow; its files are compared with its manifest first."""
    typer.echo(f"pushed       {tune.push_export(export, to, public=public)}")


def serve(
    export: Export,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets every machine that reaches this one ask.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8000,
    upload_timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="In which an image must have arrived; a slower client is told 408."),
    ] = 30.0,
) -> None:
    """Serve an export over HTTP with Ray Serve: classify images, health, Prometheus metrics, OpenAPI, a page."""
    from tune.cli.text import serving_lines

    tune.serve_export(
        export,
        host=host,
        port=port,
        upload_timeout_s=upload_timeout,
        ready=lambda url: typer.echo(serving_lines(export, url)),
    )
