"""Where a data set or an export is written: new folders, mount points, the current folder, folders with other files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.two_nodes import NAMESPACE
from tests.tune.sources.test_ingest import encode, kaggle_files, make_folder, names_in, pixels
from trainables.atomic_folder import AtomicFolder
from trainables.dataset.info import DatasetInfo
from trainables.dataset.reader import open_dataset
from trainables.dataset.target import is_own_file
from trainables.errors import DatasetError
from trainables.places import Place
from tune.dataset.ingest import import_dataset
from tune.errors import ExportError, SourceError
from tune.export.destination import atomic_export, check_destination

EMOTUNE = f"{sys.executable} -m tune.cli data"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "in", kaggle_files())


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "other", kaggle_files(train=5))


def in_shell(lines: str, folder: Path, *, alone: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs shell lines in a folder; `alone` with mounts of their own."""
    if alone and (
        not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounts of one's own need root or user namespaces")
    command = [*(NAMESPACE if alone else ()), "sh", "-uc", lines]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def own(name: str) -> bool:
    return is_own_file(name)


# --- mount points, the current folder --------------------------------------------------------------------------------


def test_a_mount_point_is_written_inside_and_replaced_inside(source: Path, other: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = in_shell(
        f"mount -t tmpfs none data && {EMOTUNE} import in --to data && ls -A data && mkdir data/lost+found && "
        f"{EMOTUNE} import other --to data --replace && ls -A data && "
        f"{EMOTUNE} show data --json --sheet x.png && ls -A",
        tmp_path,
        alone=True,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("Imported")] == [
        "Imported: data: 6 train and 2 test images, 2 classes, 8 x 8 px, gray.",
        "Imported: data: 10 train and 2 test images, 2 classes, 8 x 8 px, gray.",
    ]
    assert done.stdout.count("\ndataset.json\nimages.arrow\n") == 2 and '"images": 12' in done.stdout
    assert done.stdout.endswith("}\ndata\nin\nother\nx.png\n") and ".importing" not in done.stdout


def test_a_mount_point_that_cannot_be_written_is_one_line_and_stays_as_it_was(source: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for options, message in (
        ("ro", "must be writable: .*Read-only file system"),
        ("size=4k", "MB of free disk|cannot be written: .*No space left"),
    ):
        done = in_shell(
            f"mount -t tmpfs -o {options} none data; {EMOTUNE} import in --to data; echo $?; ls -A data .",
            tmp_path,
            alone=True,
        )
        assert done.stdout == "2\n.:\ndata\nin\n\ndata:\n"
        assert len(done.stderr.splitlines()) == 1
        assert re.search(message, done.stderr), done.stderr


def test_the_current_folder_becomes_the_data_set(
    source: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = os.stat(".").st_ino
    assert len(import_dataset(Path("../in"), Path(".")).dataset) == 8
    assert len(import_dataset(Path("../other"), Path("."), replace=True).dataset) == 12
    assert import_dataset(Path("../other"), Path(".")).unchanged
    assert os.stat(".").st_ino == inode and names_in(Path(".")) == ["dataset.json", "images.arrow"]
    assert names_in(tmp_path) == ["here", "in", "other"]
    assert open_dataset(Path(".")).info.name == "here"


def test_a_folder_whose_parent_cannot_be_written_becomes_the_data_set(source: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "parent" / "data").mkdir(parents=True)
    (tmp_path / "parent").chmod(0o500)
    assert len(import_dataset(source, tmp_path / "parent" / "data").dataset) == 8
    (tmp_path / "parent").chmod(0o700)


@pytest.mark.parametrize("target", ["/proc/x", "/dev/null", "n" * 300, "loop", "file/x"])
def test_a_target_that_cannot_be_is_refused_before_anything_is_decoded(
    source: Path, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("mine")
    before = names_in(tmp_path)

    def decoded(done: int, expected: int) -> None:
        pytest.fail("an image was decoded")

    with pytest.raises((DatasetError, OSError), match="writable|accessible|must be a folder|too long|Not a directory"):
        import_dataset(source, Path(target), on_image=decoded)
    assert names_in(tmp_path) == before


def test_parents_that_were_made_go_again_when_an_import_fails(tmp_path: Path, source: Path) -> None:
    (source / "train" / "sad" / "im9.png").write_bytes(encode(pixels(1, (9, 9))))
    with pytest.raises(SourceError, match="pass --store-size"):
        import_dataset(source, tmp_path / "new" / "deep" / "data")
    assert names_in(tmp_path) == ["in"]


# --- what is the user's ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.json", "holiday.png", "mine.arrow", "preview-mine.png", "x.lock", "a/b.png"])
def test_files_of_the_users_own_are_never_replaced(source: Path, other: Path, tmp_path: Path, name: str) -> None:
    old = import_dataset(source, tmp_path / "data").dataset.info
    (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "data" / name).write_text("mine")
    with pytest.raises(DatasetError, match=f"Received: .*data with {name.partition('/')[0]}; it stays. Move it"):
        import_dataset(other, tmp_path / "data", replace=True)
    assert open_dataset(tmp_path / "data").info == old
    assert (tmp_path / "data" / name).read_text() == "mine"


def test_a_dataset_json_of_the_users_own_is_no_data_set(source: Path, tmp_path: Path) -> None:
    target = make_folder(tmp_path / "mine", {"dataset.json": b'{"mine": true}'})
    with pytest.raises(DatasetError, match="mine with dataset.json; it stays"):
        import_dataset(source, target, replace=True)
    assert names_in(target) == ["dataset.json"]


def test_files_of_emotunes_own_give_way_together(source: Path, other: Path, tmp_path: Path) -> None:
    import_dataset(source, tmp_path / "data")
    for name in (
        "faces.arrow",
        "faces.lock",
        "contact-sheet.png",
        "preview-augment.png",
        "preview-mine.yaml.png",
        "preview-my_aug.py-training.png",
    ):
        (tmp_path / "data" / name).write_text("of the old images")
    for name in ("lost+found", ".DS_Store"):
        (tmp_path / "data" / name).mkdir()
    import_dataset(other, tmp_path / "data", replace=True)
    assert names_in(tmp_path / "data") == [".DS_Store", "dataset.json", "images.arrow", "lost+found"]


# --- interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moves", [1, 2, 3])
def test_a_process_that_is_killed_while_old_and_new_change_places_loses_nothing(
    source: Path, other: Path, tmp_path: Path, moves: int
) -> None:
    old = import_dataset(source, tmp_path / "data").dataset.info
    script = f"""
import os, signal
from pathlib import Path
from tune.dataset.ingest import import_dataset
rename, left = Path.rename, [{moves}]
def counted(path, target):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return rename(path, target)
Path.rename = counted
import_dataset(Path("other"), Path("data"), replace=True)
"""
    done = in_shell(f"exec {sys.executable} -c '{script}'", tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(DatasetError, match="which has no dataset.json"):
        open_dataset(tmp_path / "data")
    with pytest.raises(DatasetError, match="another data set; pass --replace"):
        import_dataset(other, tmp_path / "data")
    (other / "train" / "sad" / "im9.png").write_bytes(encode(pixels(1, (9, 9))))
    with pytest.raises(SourceError, match="pass --store-size"):
        import_dataset(other, tmp_path / "data", replace=True)
    assert open_dataset(tmp_path / "data").info == old
    assert names_in(tmp_path / "data") == ["dataset.json", "images.arrow"]


def test_a_failed_change_of_places_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_folder(tmp_path / "data", {name: b"old" for name in ("images.arrow", "dataset.json", "mine.txt")})
    rename = Path.rename

    def failing(path: Path, to: Path) -> Path:
        if path.name == "dataset.json" and path.parent.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", failing)
    with AtomicFolder(target, suffix="importing", known_by="dataset.json", replaceable=own) as folder:
        for name in ("images.arrow", "dataset.json", "faces.arrow"):
            (folder.path / name).write_text("new")
        with pytest.raises(OSError, match="No space"):
            folder.put_in_place()
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        name: "old" for name in ("images.arrow", "dataset.json", "mine.txt")
    }


def test_what_a_killed_first_import_left_in_an_empty_folder_gives_way(source: Path, tmp_path: Path) -> None:
    left = {".importing/new/dataset.json": b"{}", ".importing/lock": b"", "images.arrow": b"half"}
    target = make_folder(tmp_path / "data", left)
    assert len(import_dataset(source, target).dataset) == 8
    assert names_in(target) == ["dataset.json", "images.arrow"]


# --- exports ---------------------------------------------------------------------------------------------------------


def test_an_export_is_written_inside_a_folder_that_is_there(tmp_path: Path) -> None:
    parts = ("labels.json", "saved_model", "study.yaml")
    target = make_folder(tmp_path / "export", {"saved_model/old": b"", "labels.json": b"", ".git/config": b"mine"})
    check_destination(Place(str(target)), ["labels.json"], parts)
    inode = target.stat().st_ino
    with atomic_export(target, 0, known_by="labels.json", parts=parts) as folder:
        make_folder(folder, {"saved_model/new": b"", "labels.json": b"{}"})
    assert target.stat().st_ino == inode
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == [
        ".git/config",
        "labels.json",
        "saved_model/new",
    ]
    with pytest.raises(ExportError, match="is being written by another process"):
        with atomic_export(target, 0), atomic_export(target, 0):
            pass
    assert names_in(target) == [".git", "labels.json", "saved_model"]


def test_an_old_description_of_a_data_set_still_opens(source: Path, tmp_path: Path) -> None:
    import_dataset(source, tmp_path / "data")
    path = tmp_path / "data" / "dataset.json"
    info = DatasetInfo.model_validate_json(path.read_bytes())
    path.write_text(info.model_dump_json(exclude={"left_out", "passed_over", "notes"}))
    assert open_dataset(tmp_path / "data").info == info
