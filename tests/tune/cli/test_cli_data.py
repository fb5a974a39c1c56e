"""`emotune data`: its commands over real folders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests import ROOT
from tests.support.data_set_hub import data_set_hub
from tests.tune.sources.test_ingest import encode, pixels
from trainables.dataset.reader import open_dataset
from trainables.errors import DatasetError
from tune.cli.data import app
from tune.cli.main import app as emotune_app
from tune.dataset.synth import CLASSES, draw_synthetic
from tune.errors import ImageError, SourceError
from tune.export.pictures import check_images
from tune.study.spec import StudySpec


def emotune_data(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def kaggle_folder(tmp_path: Path) -> Path:
    """A folder in Kaggle's layout: 14 train and 7 test images."""
    for split, count in (("train", 2), ("test", 1)):
        for name in CLASSES:
            folder = tmp_path / "download" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(folder / f"im{index}.png"), draw_synthetic(name, 0, split == "test", index))
    return tmp_path / "download"


def test_import_tells_what_it_did_and_that_a_second_one_did_nothing(kaggle_folder: Path, tmp_path: Path) -> None:
    (kaggle_folder / "loose.png").write_bytes(b"")
    first = emotune_data("import", kaggle_folder, "--to", tmp_path / "data")
    assert "14 train and 7 test images, 7 classes, 48 x 48 px, gray." in first
    assert first.startswith("Imported: ")
    assert "Left out: loose.png: outside test/<class>/ and train/<class>/" in first
    assert emotune_data("import", kaggle_folder, "--to", tmp_path / "data").startswith("Unchanged: ")


def test_import_warns_of_a_data_set_without_test_images(kaggle_folder: Path, tmp_path: Path) -> None:
    told = emotune_data("import", kaggle_folder / "train", "--to", tmp_path / "data", "--test-share", 0)
    assert "14 train and 0 test images" in told and "warning: no test images" in told


def test_import_passes_its_options_on(kaggle_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "data"
    emotune_data("import", kaggle_folder, "--to", target)
    output = emotune_data(
        "import", kaggle_folder, "--to", target, "--store-size", 24, "--channels", 3, "--max-bad", 0.2, "--replace"
    )
    assert "24 x 24 px, RGB." in output
    assert open_dataset(target).info.shape == (24, 24, 3)


def test_progress_stays_out_of_pipes(kaggle_folder: Path, tmp_path: Path) -> None:
    script = "from tune.cli.data import app; app()"
    command = [sys.executable, "-c", script, "import", str(kaggle_folder), "--to", str(tmp_path / "data")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_synth_draws_as_many_images_as_asked(tmp_path: Path) -> None:
    output = emotune_data("synth", "--to", tmp_path / "faces", "--images", 70, "--seed", 3)
    assert "Drawn: " in output and "56 train and 14 test images" in output
    assert open_dataset(tmp_path / "faces").info.source == "cartoon faces, seed 3"
    with pytest.raises(DatasetError, match="pass --replace"):
        emotune_data("synth", "--to", tmp_path / "faces", "--images", 77)


def test_show_prints_tables_and_writes_a_contact_sheet(faces: Path, tmp_path: Path) -> None:
    output = emotune_data("show", faces, "--sheet", tmp_path / "sheet.png")
    for words in ("surprised", "420", "140", "test images with a twin in train", "constant images", "48 x 48 px"):
        assert words in output
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] > 500


def test_show_puts_the_sheet_into_the_data_set_and_speaks_json(tmp_path: Path) -> None:
    emotune_data("synth", "--to", tmp_path / "faces", "--images", 70)
    report = json.loads(emotune_data("show", tmp_path / "faces", "--json"))
    assert (tmp_path / "faces" / "contact-sheet.png").is_file()
    assert report["counts"]["train"] == dict.fromkeys(CLASSES, 8)
    assert report["duplicates"]["surplus"] == {"train": 0, "test": 0}
    emotune_data("synth", "--to", tmp_path / "faces", "--images", 77, "--replace")


def test_show_names_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="which has no dataset.json"):
        emotune_data("show", tmp_path)


def test_fetch_without_kagglehub_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(SourceError, match=r"run make setup EXTRAS=kaggle"):
        emotune_data("fetch", "kaggle:ananthu017/emotion-detection-fer", "--to", tmp_path / "data")


@pytest.mark.parametrize(
    "address",
    ["ananthu017/emotion-detection-fer", "kaggle:fer", "https://example.com/a.zip", "hf://faces", "hf://a/b@"],
)
def test_fetch_refuses_other_addresses(tmp_path: Path, address: str) -> None:
    with pytest.raises(SourceError, match=f"must be kaggle:OWNER/NAME or hf://OWNER/NAME. Received: '{address}'"):
        emotune_data("fetch", address, "--to", tmp_path / "data")


def test_fetch_imports_what_it_downloads(kaggle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def dataset_download(handle: str) -> str:
        asked.append(handle)
        return str(kaggle_folder)

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=dataset_download))
    output = emotune_data("fetch", "kaggle:some-one/some.faces", "--to", tmp_path / "data")
    assert asked == ["some-one/some.faces"]
    assert "14 train and 7 test images" in output


def test_fetch_tells_why_a_download_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dataset_download(handle: str) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=dataset_download))
    with pytest.raises(SourceError, match="kaggle:a/b could not be downloaded: no route to host; check the name"):
        emotune_data("fetch", "kaggle:a/b", "--to", tmp_path / "data")


def parquet_of_faces(rows: int, seed: int) -> bytes:
    images = [{"bytes": encode(pixels(seed + row, (12, 12))), "path": f"{row}.png"} for row in range(rows)]
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({"image": images, "label": [("happy", "sad")[row % 2] for row in range(rows)]}), file)
    return bytes(file.getvalue())


def test_fetch_imports_a_data_set_of_hugging_faces_and_tells_what_it_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    files = {
        "README.md": b"# Faces",
        "data/train-00000-of-00001.parquet": parquet_of_faces(8, 0),
        "data/test-00000-of-00001.parquet": parquet_of_faces(4, 8),
    }
    with data_set_hub("someone/faces", files) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        output = emotune_data("fetch", "hf://someone/faces", "--to", tmp_path / "data")
        assert "8 train and 4 test images" in output
        assert "Unchanged" in emotune_data("fetch", "hf://datasets/someone/faces@main", "--to", tmp_path / "data")
        with pytest.raises(SourceError, match="hf://someone/cats could not be downloaded: Repository Not Found"):
            emotune_data("fetch", "hf://someone/cats", "--to", tmp_path / "cats")
        with pytest.raises(SourceError, match="could not be downloaded: Revision Not Found .*check the name"):
            emotune_data("fetch", "hf://someone/faces@v9", "--to", tmp_path / "cats")
    with pytest.raises(SourceError, match="could not be downloaded: .*ConnectError.*check the name and the network"):
        emotune_data("fetch", "hf://someone/dogs", "--to", tmp_path / "dogs")


def test_a_hostile_zip_reaches_the_caller_as_one_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("../../evil.png", b"")
    with pytest.raises(SourceError, match="must stay inside the archive"):
        emotune_data("import", tmp_path / "in.zip", "--to", tmp_path / "data")


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, tune.cli.data\n"
        "print(sorted({'cv2', 'numpy', 'pyarrow', 'PIL', 'pydantic', 'ray', 'tensorflow'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_import_tells_what_it_left_out_in_one_line_a_folder(kaggle_folder: Path, tmp_path: Path) -> None:
    (kaggle_folder / "test").rename(kaggle_folder / "Valid")
    shutil.copytree(kaggle_folder, tmp_path / "copy")
    (tmp_path / "copy").rename(kaggle_folder / "archive")
    for name in ("notes.txt", "more.txt", ".DS_Store"):
        (kaggle_folder / name).write_text("words")
    told = emotune_data("import", kaggle_folder, "--to", tmp_path / "data").splitlines()
    assert "14 train and 7 test images" in told[0]
    assert told[1] == "Note: folders taken for splits: train in train/; validation in Valid/"
    assert told[2].startswith("Note: Valid/ is the test split, as there is no test folder; --validation train or")
    assert told[3].startswith("Left out: archive/ (21 images): outside ") and told[3].endswith("the splits once more")
    assert told[4:] == ["Passed over: 1 .DS_Store, 2 .txt", f"Look at it: emotune data show {tmp_path / 'data'}"]
    report = json.loads(emotune_data("show", tmp_path / "data", "--json"))
    assert report["passed_over"] == {".DS_Store": 1, ".txt": 2} and report["left_out"][0]["images"] == 21
    joined = emotune_data(
        "import", kaggle_folder, "--to", tmp_path / "data", "--validation", "train", "--test-share", 0, "--replace"
    )
    assert "21 train and 0 test images" in joined
    decided = emotune_data(
        "import", kaggle_folder, "--to", tmp_path / "b", "--split", "Valid=test", "--split", "archive=leave-out"
    )
    assert "14 train and 7 test images" in decided and "Left out: archive/ (21 images): left out by --split" in decided


def test_names_with_brackets_and_colons_are_printed_as_they_are(tmp_path: Path) -> None:
    names = ("[happy]", "x [old]", ":smile:", "[b]", "[red]sad")
    for index, name in enumerate(names):
        (tmp_path / "in[1]" / "train" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "in[1]" / "train" / name / "0.png"), draw_synthetic(CLASSES[index], 0, 0, 0))
    emotune_data("import", tmp_path / "in[1]", "--to", tmp_path / "d [b]", "--test-share", 0)
    output = emotune_data("show", tmp_path / "d [b]")
    assert [
        name for name in (*names, "in[1]", "d [b]: 5 images", "d [b]/contact-sheet.png") if name not in output
    ] == []


# What a person types, and machines that lack something


def command(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    given = [sys.executable, "-m", "tune.cli", *map(str, words)]
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(given, capture_output=True, text=True, check=False, env=surroundings)


def test_a_tilde_that_no_shell_has_replaced_is_the_home_folder(
    kaggle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    emotune_data("import", "~/download", "--to=~/mine")
    emotune_data("show", "~/mine", "--sheet", "~/sheet.png")
    assert open_dataset(tmp_path / "mine").info.name and (tmp_path / "sheet.png").exists()
    assert not (tmp_path / "~").exists()
    space = {"dropout": {"type": "float", "low": 0, "high": 0.5, "default": 0.1}}
    spec = StudySpec.model_validate({"name": "a", "data": "~/mine", "storage": "~/runs", "space": space})
    assert (spec.data, spec.storage) == (f"{tmp_path}/mine", f"{tmp_path}/runs")


def test_a_data_set_that_cannot_be_written_is_shown_all_the_same(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)  # root may write anywhere
    told = emotune_data("show", faces)
    assert "all" in told and "No contact sheet: " in told and "Name another place with --sheet." in told
    with pytest.raises(DatasetError, match="must be writable"):
        emotune_data("show", faces, "--sheet", faces / "other.png")


def test_a_terminal_that_lacks_characters_gets_the_rest(faces: Path, tmp_path: Path) -> None:
    told = command("data", "show", faces, "--sheet", tmp_path / "sheet.png", PYTHONIOENCODING="ascii")
    assert told.returncode == 0 and told.stderr == "" and "Contact sheet: " in told.stdout


def test_a_picture_is_not_called_what_it_is_not(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"A contact sheet is a PNG, and its name must end in .png. Received: .*x.jpg"
    ):
        emotune_data("show", faces, "--sheet", tmp_path / "x.jpg")
    with pytest.raises(DatasetError, match="A preview is a PNG"):
        emotune_data("preview", faces, "--method", "shifts", "--output", tmp_path / "x.webp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ("data", "show", ".", "--sheet", "s3://bucket/sheet.png"),
        ("data", "preview", ".", "--method", "shifts", "--output", "gs://bucket/x.png"),
        ("predict", "x", "x.png", "--faces", "--draw", "s3://bucket/faces"),
    ],
)
def test_a_bucket_is_not_taken_for_a_folder_of_its_name(words: tuple[str, ...]) -> None:
    told = CliRunner().invoke(emotune_app, words, terminal_width=200)
    assert (
        told.exit_code == 2
        and "name a place on this machine" in told.stderr
        and f"Received: {words[-1]}" in told.stderr
    )
    assert not Path("s3:").exists() and not Path("gs:").exists()


def test_a_file_and_an_address_are_called_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match="which is a file"):
        emotune_data("show", tmp_path / "file")
    with pytest.raises(ImageError, match="must be a file of this machine. Received: s3:/b/x.png, an address"):
        check_images([Path("s3://b/x.png")])


# Before and after an import


def test_a_dry_run_says_how_a_source_would_be_read_and_writes_nothing(kaggle_folder: Path, tmp_path: Path) -> None:
    (kaggle_folder / "train" / "happy" / "notes.txt").write_text("words")
    (kaggle_folder / "train" / "happy" / "gone.png").symlink_to("nowhere.png")
    shutil.copytree(kaggle_folder / "test", kaggle_folder / "val")
    before = sorted(tmp_path.rglob("*"))
    told = emotune_data("import", kaggle_folder, "--dry-run", "--classes", "joy=happy")
    assert sorted(tmp_path.rglob("*")) == before
    assert told.startswith("download: 22 images in 7 classes, by their names and labels:\n")
    assert "joy" in told and "│ happy" not in told and "│ all       │    15 │    7 │" in told
    assert "Left out: val/ (7 images): validation images; pass --validation train" in told
    assert "Passed over: 1 .txt (train/happy/ 1 .txt)" in told and told.endswith("Nothing was decoded or written.\n")
    alone = emotune_data("import", kaggle_folder / "train", "--dry-run")
    assert "drawn" in alone and "Note: the source has no test images: --test-share of each class will be drawn" in alone
    result = CliRunner().invoke(app, ["import", str(kaggle_folder)])
    assert result.exit_code == 2 and "name the folder to create" in result.output


def test_folders_named_by_hand_are_the_test_split_and_the_rest_trains(kaggle_folder: Path, tmp_path: Path) -> None:
    (kaggle_folder / "train").rename(kaggle_folder / "person-1")
    (kaggle_folder / "test").rename(kaggle_folder / "person-2")
    told = emotune_data("import", kaggle_folder, "--to", tmp_path / "data", "--test", "person-2")
    assert "14 train and 7 test images, 7 classes" in told
    assert "Note: folders taken for splits: train in person-1/; test in person-2/" in told


@pytest.mark.parametrize("change", ["pixel", "class", "count", "nothing"])
def test_verify_notices_what_was_changed_by_hand(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "faces"
    emotune_data("synth", "--to", folder, "--images", 70)
    info, images = folder / "dataset.json", folder / "images.arrow"
    if change == "pixel":
        data = bytearray(images.read_bytes())
        data[len(data) // 2] ^= 1
        images.write_bytes(data)
    elif change == "class":
        info.write_text(info.read_text().replace("happy", "merry"))
    elif change == "count":
        counts = json.loads(info.read_text())
        counts["counts"]["train"]["happy"] += 1
        counts["counts"]["train"]["sad"] -= 1
        info.write_text(json.dumps(counts))
    if change == "nothing":
        assert emotune_data("verify", folder).startswith(f"As written: {folder}: 70 images, fingerprint ")
        assert json.loads(emotune_data("verify", folder, "--json"))["problems"] == []
        return
    what = "dataset.json says {" if change == "count" else "are not those that were written"
    with pytest.raises(DatasetError, match=f"faces was changed: .*{what}.*Import it again"):
        emotune_data("verify", folder)


def test_names_that_no_font_writes_are_numbers_with_a_legend(tmp_path: Path) -> None:
    names = ("злой", "fröhlich", "$\\foo{$", "高兴", "슬픔")
    for index, name in enumerate(names):
        folder = tmp_path / "in" / "train" / name
        folder.mkdir(parents=True)
        for image in range(2):
            cv2.imwrite(str(tmp_path / "x.png"), draw_synthetic(CLASSES[index], 0, 0, image))
            (tmp_path / "x.png").rename(folder / f"{image}.png")
    emotune_data("import", tmp_path / "in", "--to", tmp_path / "data", "--test-share", 0)
    for words in (("show",), ("preview", "--method", "shifts")):
        told = emotune_data(words[0], tmp_path / "data", *words[1:])
        assert told.splitlines()[-1] == "In it: class 4 is 高兴, class 5 is 슬픔"
    sheet = cv2.imread(str(tmp_path / "data" / "contact-sheet.png"), cv2.IMREAD_GRAYSCALE)
    rows = [sheet[36 + 76 * row + 14 : 36 + 76 * row + 36, 8:130] for row in range(5)]
    assert all((row < 128).sum() > 30 for row in rows)
    assert len({row.tobytes() for row in rows}) == 5  # no two names are the same boxes
