"""Places, data sets in buckets and a bucket's study, on real servers of S3 and of Google Cloud Storage."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import pytest

import tune
from tests import ROOT
from trainables.dataset.node_cache import import_folder, open_data
from trainables.dataset.reader import IMAGES_FILE, open_dataset
from trainables.errors import DatasetError, PlaceError
from trainables.local_copies import local_folder, written_folder
from trainables.places import Place
from trainables.training.fault_kinds import classify_error
from tune.errors import ExportError, StudyError
from tune.nodes.doctor import examine
from tune.study.bucket_mirror import Mirror, _machine
from tune.study.bucket_study import download_journal, download_study, update_export, working_folder
from tune.study.studies import find_study, list_studies, load_bucket_study


@pytest.fixture(params=["bucket", "google_bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    """A prefix of this test's own, in a bucket of each kind."""
    return Place(request.getfixturevalue(request.param).format(re.sub(r"\W", "-", request.node.name)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, as on another machine."""
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "name",
    ["ftp://host/x", "s3://", "s3:///runs", "https://bucket.example/x"],
)
def test_an_address_that_is_no_buckets_is_refused(name: str) -> None:
    with pytest.raises(PlaceError, match="must begin with s3://BUCKET or gs://BUCKET. Received: "):
        Place(name)


def test_a_secret_among_an_addresss_options_is_refused_and_not_repeated() -> None:
    with pytest.raises(PlaceError, match="must hold no password") as refused:
        Place("s3://studies/runs?region=eu&secret_key=hunter2")
    assert "hunter2" not in str(refused.value) and "secret_key" in str(refused.value)


def test_a_bucket_that_does_not_exist_is_told_apart_from_one_without_studies(bucket: str) -> None:
    assert list_studies(bucket.format("nothing-here")) == []
    with pytest.raises(PlaceError, match="must be in a bucket that exists"):
        list_studies(bucket.format("runs").replace("studies", "no-such-bucket"))


def test_an_export_that_is_not_there_is_named_by_its_address(bucket: str) -> None:
    with (
        pytest.raises(PlaceError, match="nowhere.* must hold files. Received: none"),
        local_folder(bucket.format("nowhere")),
    ):
        pass


def test_the_doctor_asks_a_bucket_for_its_data_set(bucket: str) -> None:
    with pytest.raises(DatasetError, match=r"A data set must hold dataset\.json\. Received: s3://studies/no-data"):
        examine(None, None, bucket.format("no-data"))


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(PlaceError, match="must hold no password") as refused:
        Place("s3://key:secret@bucket/runs")
    assert "secret" not in str(refused.value)


def test_an_address_keeps_its_options_behind_its_path() -> None:
    place = Place("s3://bucket/runs/?region=eu-central-1")
    assert place.at("tiny/journal.jsonl") == "s3://bucket/runs/tiny/journal.jsonl?region=eu-central-1"
    assert (place.child("tiny").last_part, Place("/a/runs").child("tiny").name) == ("tiny", "/a/runs/tiny")


@pytest.mark.parametrize("remote", [True, False])
def test_files_go_to_a_place_and_back(place: Place, tmp_path: Path, remote: bool) -> None:
    there = place if remote else Place(str(tmp_path / "folder"))
    there.write("a/b.txt", b"one")
    (tmp_path / "c.txt").write_bytes(b"two")
    there.child("a").write("c.txt", b"")
    there.upload(tmp_path / "c.txt", "a/c.txt")
    assert [(file.path, file.size_bytes) for file in there.files()] == [("a/b.txt", 3), ("a/c.txt", 3)]
    assert (there.folders(), there.files(recursive=False), there.read("gone")) == (["a"], [], None)
    there.download("a/c.txt", tmp_path / "back/c.txt")
    assert (tmp_path / "back/c.txt").read_bytes() == there.read("a/c.txt") == b"two"
    with local_folder(there.at("a")) as folder:
        assert (folder / "b.txt").read_bytes() == b"one"
    there.delete("a")
    assert not there.exists("a/b.txt")
    there.delete("a")


def test_an_interrupted_download_goes_on_where_it_was(place: Place, tmp_path: Path) -> None:
    place.write("file", b"0123456789")
    (tmp_path / ".file.part").write_bytes(b"abcd")
    place.download("file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"abcd456789"


def test_a_written_folder_replaces_what_was_there_and_only_if_the_block_ends_well(place: Place) -> None:
    place.write("old", b"1")
    with pytest.raises(ValueError), written_folder(place.name) as folder:
        folder.mkdir()
        (folder / "new").write_bytes(b"2")
        raise ValueError
    assert [file.path for file in place.files()] == ["old"]
    with written_folder(place.name) as folder:
        folder.mkdir()
        (folder / "new").write_bytes(b"2")
    assert [file.path for file in place.files()] == ["new"]


def test_a_bucket_that_does_not_answer_is_one_line() -> None:
    place = Place("s3://bucket/runs?endpoint_override=http://127.0.0.1:9&scheme=http")
    with pytest.raises(PlaceError, match="must be reachable and allow reading and writing. Received: .*Check address"):
        place.read("x")


_OPEN = """
import sys; from trainables.dataset.node_cache import open_data; print(open_data(sys.argv[1], say=print).directory)
"""


def test_a_data_set_in_a_bucket_is_fetched_once_by_all_processes_of_a_machine(
    place: Place, faces: Path, cache: Path
) -> None:
    with import_folder(place.name) as folder:
        folder.mkdir()
        for file in faces.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    openers = [
        subprocess.Popen([sys.executable, "-c", _OPEN, place.name], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    said = [opener.communicate(timeout=120)[0].splitlines() for opener in openers]
    fetched = cache / "datasets" / open_dataset(faces).info.fingerprint
    assert sorted(len(lines) for lines in said) == [1, 1, 2]
    assert {lines[-1] for lines in said} == {str(fetched)}
    assert (fetched / IMAGES_FILE).read_bytes() == (faces / IMAGES_FILE).read_bytes()


def test_a_fetch_that_was_killed_goes_on_and_one_that_was_damaged_begins_again(
    place: Place, faces: Path, cache: Path
) -> None:
    whole, info = (faces / IMAGES_FILE).read_bytes(), open_dataset(faces).info
    place.write("dataset.json", (faces / "dataset.json").read_bytes())
    place.write(IMAGES_FILE, whole)
    part = cache / "datasets" / f".{info.fingerprint}" / f".{IMAGES_FILE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * (len(whole) // 2))
    fetched = open_data(place.name).directory
    assert (fetched / IMAGES_FILE).read_bytes() == whole

    place.write(IMAGES_FILE, whole[:-2000] + bytes(2000))
    (fetched / IMAGES_FILE).unlink()
    (fetched / "dataset.json").unlink()
    fetched.rmdir()
    with pytest.raises(DatasetError, match=f"must hold the images that .* names, fingerprint {info.fingerprint}"):
        open_data(place.name)
    assert not fetched.exists()

    place.write(IMAGES_FILE, whole)
    for damage in (b"", whole[:100], None):  # a power cut; a purge of old files
        fetched = open_data(place.name).directory
        (fetched / IMAGES_FILE).write_bytes(damage) if damage is not None else (fetched / IMAGES_FILE).unlink()
    assert (open_data(place.name).directory / IMAGES_FILE).read_bytes() == whole


def test_another_data_set_in_a_bucket_gives_way_only_when_asked(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path / "mine"))
    first = tune.draw_faces(place.name, images=70).info.fingerprint
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path / "a colleague's"))
    with pytest.raises(DatasetError, match=r"must be new or empty\. Received: .*, another data set; pass --replace"):
        tune.draw_faces(place.name, images=70, seed=1)
    assert open_data(place.name).info.fingerprint == first
    second = tune.draw_faces(place.name, images=70, seed=1, replace=True).info.fingerprint
    assert open_data(place.name).info.fingerprint == second != first


def test_a_bucket_without_a_data_set_and_another_data_set_are_refused(place: Place, faces: Path, cache: Path) -> None:
    with pytest.raises(DatasetError, match="A data set must hold dataset.json. Received: (s3|gs)://"):
        open_data(place.name)
    with pytest.raises(DatasetError, match="must be the data set with fingerprint other. Received: "):
        open_data(str(faces), fingerprint="other")


def line(event: str) -> bytes:
    return json.dumps({"event": event}).encode() + b"\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "kept", "aside"),
    [
        (b"", line("a"), line("a"), 0),
        (line("a") + line("b"), line("a"), line("a") + line("b"), 0),
        (line("a"), line("a") + line("b"), line("a") + line("b"), 0),
        (line("a") + line("b"), line("a") + line("c"), line("a") + line("c"), 1),
    ],
    ids=["first", "ahead", "behind", "apart"],
)
def test_of_two_journals_the_one_that_counts_is_kept(
    place: Place, tmp_path: Path, ours: bytes, theirs: bytes, kept: bytes, aside: int
) -> None:
    if ours:
        (tmp_path / "journal.jsonl").write_bytes(ours)
    place.write("journal.jsonl", theirs)
    download_study(place, tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == kept
    assert len(list(tmp_path.glob("journal-*.jsonl"))) == aside


def test_one_driver_at_a_time_and_a_dead_ones_study_is_free(place: Place, tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(line("a"))
    mirror = Mirror(tmp_path, place)
    mirror.open()
    elsewhere = Mirror(tmp_path, place)
    with pytest.raises(StudyError, match=f"is being run by process {os.getpid()} on "):
        elsewhere.open()
    mirror.close()
    assert place.read("journal.jsonl") == line("a")
    elsewhere.open()
    elsewhere.close()

    killed = {"token": "x", "host": os.uname().nodename, "pid": os.getpid(), "began": 1.0}  # a number used again since
    place.write(".lease.json", json.dumps({**killed, "machine": _machine()}).encode())
    mirror = Mirror(tmp_path, place)
    mirror.open()
    mirror.close()
    assert not place.exists(".lease.json")


@pytest.mark.parametrize("signs_again", [True, False])
def test_what_another_machine_has_signed_is_waited_for_until_it_signs_again_or_is_gone(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signs_again: bool
) -> None:
    monkeypatch.setattr("tune.study.bucket_mirror.LEASE_EXPIRES_S", 5.0)
    lease = {"token": "x", "host": os.uname().nodename, "machine": "a container of the same name", "pid": 1, "began": 1}
    sign = partial(place.write, ".lease.json", json.dumps(lease).encode())
    sign()
    mirror, done = Mirror(tmp_path, place), Event()

    def go_on() -> None:
        while not done.wait(1.0):
            sign()

    driver = Thread(target=go_on, daemon=True)
    if signs_again:
        driver.start()
        try:
            with pytest.raises(StudyError, match="is being run by process 1 on "):
                mirror.open()
        finally:
            done.set()
            driver.join()
    else:
        mirror.open()
        mirror.close()


def test_a_driver_that_ends_after_it_was_taken_over_writes_nothing_more(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.study.bucket_mirror._COPY_EVERY_S", 3600.0)  # its thread looks no more
    (tmp_path / "journal.jsonl").write_bytes(line("a"))
    mirror = Mirror(tmp_path, place)
    mirror.open()
    lease = json.dumps({"token": "x", "host": "other", "machine": "m", "pid": 1, "began": 0}).encode()
    place.write(".lease.json", lease)
    place.write("journal.jsonl", line("b"))
    mirror._closing = True
    mirror._changed.set()
    mirror._thread.join(timeout=30)
    place.write("journal.jsonl", line("b"))
    with pytest.raises(StudyError, match="was taken over by process 1 on other"):
        mirror.close()
    assert (place.read("journal.jsonl"), place.read(".lease.json")) == (line("b"), lease)


@pytest.mark.parametrize("left", [None, {"token": "x", "host": "other", "machine": "m", "pid": 1, "began": 0}])
def test_a_driver_that_slept_while_another_took_over_and_ended_writes_nothing_more(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: dict[str, Any] | None
) -> None:
    monkeypatch.setattr("tune.study.bucket_mirror.LEASE_EXPIRES_S", 0.0)  # what the other has left is old
    monkeypatch.setattr("tune.study.bucket_mirror._COPY_EVERY_S", 3600.0)
    (tmp_path / "journal.jsonl").write_bytes(line("a"))
    mirror = Mirror(tmp_path, place)
    mirror.open()
    mirror._closing = True
    mirror._changed.set()
    mirror._thread.join(timeout=30)
    place.delete(".lease.json") if left is None else place.write(".lease.json", json.dumps(left).encode())
    place.write("journal.jsonl", line("b"))
    (tmp_path / "journal.jsonl").write_bytes(line("a") * 2)
    with pytest.raises(StudyError, match="was taken over by (another driver, which has ended,|process 1 on other)"):
        mirror.close()
    assert place.read("journal.jsonl") == line("b")


def drive_study(place: Place, folder: Path) -> None:
    """What a machine does that has run a study."""
    mirror = Mirror(folder, place)
    mirror.open()
    mirror.close()


@pytest.mark.parametrize("seen", [drive_study, download_study, download_journal])
def test_a_study_that_was_removed_from_the_bucket_begins_anew_and_its_copy_is_kept(
    place: Place, tmp_path: Path, seen: Callable[[Place, Path], None]
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    for name, content in (("journal.jsonl", line("a")), ("study.yaml", b"name: study\n")):
        if seen is drive_study:
            (folder / name).write_bytes(content)
        else:
            place.write(name, content)
    seen(place, folder)
    assert (folder / "journal.jsonl").exists() and place.exists("study.yaml")
    for file in place.files():
        place.delete(file.path)
    download_study(place, folder)
    assert not folder.exists()
    [aside] = tmp_path.glob(".study.removed-*")
    assert (aside / "journal.jsonl").read_bytes() == line("a")


def test_event_files_that_grew_while_the_bucket_was_away_are_kept(place: Place, tmp_path: Path) -> None:
    place.write("journal.jsonl", line("a"))
    place.write("tensorboard/trial-0000/events", b"first")
    download_study(place, tmp_path)
    events = tmp_path / "tensorboard/trial-0000/events"
    events.write_bytes(b"first, second")
    with (tmp_path / "journal.jsonl").open("ab") as journal:
        journal.write(line("b"))
    download_study(place, tmp_path)
    assert events.read_bytes() == b"first, second"


def test_an_export_that_another_machine_has_renewed_is_fetched(place: Place, tmp_path: Path) -> None:
    place.write("export/metrics.json", b'{"trial": 1}')
    place.write("export/model.keras", b"one")
    update_export(place, tmp_path)
    place.write("export/metrics.json", b'{"trial": 2}')
    place.write("export/model.keras", b"two")
    update_export(place, tmp_path)
    assert (tmp_path / "export/model.keras").read_bytes() == b"two"
    (tmp_path / "export/model.keras").write_bytes(b"not fetched again")
    update_export(place, tmp_path)
    assert (tmp_path / "export/model.keras").read_bytes() == b"not fetched again"


def test_a_disk_that_is_full_is_this_machines_and_no_fault_of_the_bucket(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("images", b"pixels")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        place.download("images", tmp_path / "images")
    assert not isinstance(raised.value, PlaceError) and classify_error(raised.value).kind == "disk_full"
    wrapped = DatasetError("with room for it")
    wrapped.__cause__ = raised.value
    assert classify_error(wrapped).kind == "disk_full"


def test_an_upload_that_is_broken_off_leaves_no_part_of_a_file(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").write_bytes(bytes(30 << 20))

    def broken_off(source: Any, sink: Any, length: int) -> None:
        sink.write(source.read(16 << 20))
        raise KeyboardInterrupt

    monkeypatch.setattr("trainables.places.shutil.copyfileobj", broken_off)
    with pytest.raises(KeyboardInterrupt):
        place.upload(tmp_path / "images", "images.arrow")
    assert not place.exists("images.arrow")


def test_a_place_that_a_driver_has_just_taken_is_not_called_empty(place: Place, cache: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        load_bucket_study(place)
    place.write(".lease.json", b"{}")
    with pytest.raises(StudyError, match="was taken by a driver that has written nothing there yet. Try again in some"):
        load_bucket_study(place)


def test_of_two_drivers_that_begin_at_the_same_moment_one_is_refused(place: Place, tmp_path: Path) -> None:
    mirrors = [Mirror(tmp_path / name, place) for name in ("one", "other")]
    both_have_looked = Barrier(2)

    def begin(mirror: Mirror) -> bool:
        sign = mirror._write_lease
        mirror._write_lease = lambda: (both_have_looked.wait(timeout=30), sign())  # type: ignore[method-assign,assignment]
        try:
            mirror.open()
        except StudyError as error:
            assert "is being run by process" in str(error)
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        began = list(threads.map(begin, mirrors))
    assert sorted(began) == [False, True]
    mirrors[began.index(True)].close()


def test_a_driver_that_was_taken_over_stops_and_keeps_what_it_has(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.study.bucket_mirror._LEASE_EVERY_S", 0.0)
    (tmp_path / "journal.jsonl").write_bytes(line("a"))
    mirror = Mirror(tmp_path, place)
    with pytest.raises(KeyboardInterrupt):  # what makes a session stop gracefully
        mirror.open()
        place.write(".lease.json", json.dumps({"token": "x", "host": "other", "pid": 1, "began": 0}).encode())
        mirror._thread.join(timeout=30)
        mirror._thread.join(timeout=1)
    with pytest.raises(StudyError, match="was taken over by process 1 on other"):
        mirror.close()
    assert (tmp_path / "journal.jsonl").exists()


@pytest.mark.slow
def test_another_machine_goes_on_with_a_study_in_a_bucket(
    ray_cluster: str, bucket_study: object, bucket: str, faces: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.support.fixtures_study import emotune

    runs, copy = Place(bucket.format("runs")), Place(bucket.format("copied"))
    for file in runs.files():
        copy.write(file.path, runs.read(file.path) or b"")
    assert [place.last_part for place in list_studies(copy.name)] == ["tiny"]
    text = (copy.read("tiny/study.yaml") or b"").decode()
    assert runs.name in text  # it was moved, and where it was there is nothing any more
    copy.write("tiny/study.yaml", text.replace(runs.name, "s3://no-such-bucket/runs").encode())
    before = find_study("tiny", copy.name).state()
    assert working_folder(copy.child("tiny")).is_relative_to(cache)
    assert emotune("resume", copy.at("tiny"), "--trials", 7) == 0
    after = find_study("tiny", copy.name).state()
    assert {n: after.trials[n] for n in before.trials} == before.trials
    assert (len(after.trials), after.sessions, after.finished) == (7, 2, True)
    assert emotune("list", "--storage", copy.name) == 0
    assert "tiny" in capsys.readouterr().out
    assert emotune("predict", copy.at("tiny/export"), ROOT / "studies/happy.png") == 0
    assert "happy.png" in capsys.readouterr().out

    models = bucket.format("models/tiny")
    assert emotune("export", copy.at("tiny"), "--to", models) == 0
    assert f"emotune predict {shlex.quote(models)} IMAGE" in capsys.readouterr().out
    assert Place(models).read("labels.json") == copy.read("tiny/export/labels.json")
    assert emotune("export", copy.at("tiny"), "--to", models) == 0  # gives way
    Place(models).write("notes.txt", b"mine")
    with pytest.raises(ExportError, match="a folder with notes.txt; it stays"):
        emotune("export", copy.at("tiny"), "--to", models)
    assert Place(models).read("notes.txt") == b"mine"
    with pytest.raises(ExportError, match="new folder or an earlier export. Received: .*notes.txt.*, a file"):
        emotune("export", copy.at("tiny"), "--to", Place(models).at("notes.txt"))
    with pytest.raises(ExportError, match="new folder or an earlier export. Received: .*copied"):
        emotune("export", copy.at("tiny"), "--to", copy.name)
    assert copy.exists("tiny/journal.jsonl")
