"""What every reader has to do alike: folder, zip, tar, packed tar, archive in an archive, CSV, parquet."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from tests.tune.sources.test_ingest import encode, make_folder, make_zip, names_in, pixels
from trainables.dataset.reader import open_dataset
from tune.dataset.import_options import ImportOptions
from tune.dataset.ingest import import_dataset
from tune.errors import SourceError
from tune.sources.decoding import UnreadableImage
from tune.sources.nested import open_store
from tune.sources.opening import open_source

CLASSES = ("angry", "happy", "sad")
CODES = {"angry": 0, "happy": 3, "sad": 4}
FACES = {
    f"{split}/{name}/im{i}.png": pixels(100 * label + 10 * i + (split == "test"), (16, 16))
    for split, count in (("train", 3), ("test", 1))
    for label, name in enumerate(CLASSES)
    for i in range(count)
}
FILES = {path: encode(image) for path, image in FACES.items()}
BAD = "train/sad/im0.png"


def damaged(files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {BAD: b"not a picture"}


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_csv(path: Path, files: dict[str, bytes]) -> Path:
    rows = []
    for name, image in FACES.items():
        split, label, _ = name.split("/")
        text = "1 2 3" if files[name] == b"not a picture" else " ".join(map(str, image.reshape(-1)))
        rows.append(f"{CODES[label]},{text},{'Training' if split == 'train' else 'PublicTest'}")
    path.write_text("emotion,pixels,Usage\n" + "\n".join(rows) + "\n")
    return path


def make_parquet(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    features = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    for split in ("train", "test"):
        names = [name for name in files if name.startswith(split)]
        table = pa.table(
            {
                "image": [{"bytes": files[name], "path": name} for name in names],
                "label": [CLASSES.index(name.split("/")[1]) for name in names],
            }
        ).replace_schema_metadata({b"huggingface": json.dumps(features).encode()})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


def make_tfrecords(folder: Path, files: dict[str, bytes]) -> Path:
    """As TensorFlow Datasets write them, two shards for the train split; the files' format is also TensorBoard's."""
    folder.mkdir()
    names = {split: [name for name in files if name.startswith(split)] for split in ("train", "test")}
    shards = {"train": (names["train"][::2], names["train"][1::2]), "test": (names["test"],)}
    for split, parts in shards.items():
        for number, part in enumerate(parts):
            with (folder / f"faces-{split}.tfrecord-{number:05d}-of-{len(parts):05d}").open("wb") as file:
                for name in part:
                    write_record(file, files[name], CLASSES.index(name.split("/")[1]))
    (folder / "label.labels.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "features.json").write_text("{}")
    return folder


def write_record(file: IO[bytes], image: bytes | None, label: int | bytes) -> None:
    """Writes one `tf.train.Example` by the rules of protocol buffers."""
    kind, value = (3, field(1, varint(label))) if isinstance(label, int) else (1, field(1, label))
    features = {b"label": field(kind, value), b"image/filename": field(1, field(1, b"x.png")), b"none": b""}
    if image is not None:
        features[b"image"] = field(1, field(1, image))
    example = b"".join(field(1, field(1, name) + field(2, feature)) for name, feature in features.items())
    RecordWriter(file).write(field(1, example))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    value %= 1 << 64
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def packed(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(gzip.compress(make_csv(path.with_name("plain.csv"), files).read_bytes()))
    return path


def folder_with_archives(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for split in ("train", "test"):
        inside = {name.removeprefix(f"{split}/"): data for name, data in files.items() if name.startswith(split)}
        make_zip(folder / f"{split}.zip", inside)
    return folder


def zip_in_zip(path: Path, files: dict[str, bytes]) -> Path:
    inner = make_zip(path.with_name("inner.zip"), files)
    return make_zip(path, {"download/inner.zip": inner.read_bytes()}, zipfile.ZIP_DEFLATED)


def tar_in_tar(path: Path, files: dict[str, bytes]) -> Path:
    inner = make_tar(path.with_name("inner.tar"), files)
    return make_tar(path, {"inner.tar": inner.read_bytes()})


Maker = Callable[[Path, dict[str, bytes]], Path]
READERS: dict[str, Maker] = {
    "folder": lambda at, files: make_folder(at / "in", files),
    "zip": lambda at, files: make_zip(at / "in.zip", files, zipfile.ZIP_DEFLATED),
    "tar": lambda at, files: make_tar(at / "in.tar", files),
    "tar.gz": lambda at, files: make_tar(at / "in.tar.gz", files, "w:gz"),
    "tgz with the name of a zip": lambda at, files: make_tar(at / "in.zip", files, "w:gz"),
    "tar.xz": lambda at, files: make_tar(at / "in.txz", files, "w:xz"),
    "zip in zip": lambda at, files: zip_in_zip(at / "in.zip", files),
    "tar in tar": lambda at, files: tar_in_tar(at / "in.tar", files),
    "a zip for each split": lambda at, files: folder_with_archives(at / "in", files),
    "csv": lambda at, files: make_csv(at / "in.csv", files),
    "csv.gz": lambda at, files: packed(at / "in.csv.gz", files),
    "csv in tar.gz": lambda at, files: make_tar(
        at / "in.tar.gz", {"fer/fer.csv": make_csv(at / "plain.csv", files).read_bytes()}, "w:gz"
    ),
    "parquet": lambda at, files: make_parquet(at / "in", files),
    "tfrecords": lambda at, files: make_tfrecords(at / "in", files),
    "tfrecords in tar": lambda at, files: make_tar(
        at / "in.tar", {f"faces/1.0.0/{p.name}": p.read_bytes() for p in make_tfrecords(at / "plain", files).iterdir()}
    ),
    "parquet in zip": lambda at, files: make_zip(
        at / "in.zip", {f"data/{p.name}": p.read_bytes() for p in make_parquet(at / "plain", files).iterdir()}
    ),
}
reader = pytest.mark.parametrize("make", READERS.values(), ids=READERS)


@reader
def test_every_reader_gives_the_same_images_labels_and_splits(make: Maker, tmp_path: Path) -> None:
    source = make(tmp_path, FILES)
    before = names_in(tmp_path)
    dataset = import_dataset(source, tmp_path / "data").dataset
    assert dataset.info.classes == CLASSES
    assert dataset.info.counts == {"train": dict.fromkeys(CLASSES, 3), "test": dict.fromkeys(CLASSES, 1)}
    found = {
        (split, dataset.info.classes[label], image.tobytes())
        for split, label, image in zip(
            dataset.splits.tolist(), dataset.labels.tolist(), dataset.images(range(len(dataset))), strict=True
        )
    }
    assert found == {
        (int(name.startswith("test")), name.split("/")[1], image.tobytes()) for name, image in FACES.items()
    }
    assert dataset.info.skipped == () and dataset.info.left_out == () and len(set(dataset.paths)) == len(dataset)
    assert names_in(tmp_path) == sorted([*before, "data"])


@reader
def test_every_reader_repeats_its_order_and_knows_how_many_there_are(make: Maker, tmp_path: Path) -> None:
    source = open_source(make(tmp_path, FILES))
    assert list(source) == list(source)
    assert len(list(source)) == source.expected_images == len(FILES)


@reader
def test_every_reader_counts_one_bad_image_and_imports_the_rest(make: Maker, tmp_path: Path) -> None:
    source = make(tmp_path, damaged(FILES))
    with pytest.raises(SourceError, match=r"At most 1.00% of the images may be unreadable. Received: 1 of 12: "):
        import_dataset(source, tmp_path / "data")
    info = import_dataset(source, tmp_path / "data", ImportOptions(max_bad=0.1)).dataset.info
    assert len(info.skipped) == 1 and sum(sum(counts.values()) for counts in info.counts.values()) == 11


@reader
def test_every_readers_second_import_is_free_and_names_are_given_to_labels(make: Maker, tmp_path: Path) -> None:
    source = make(tmp_path, FILES)
    options = ImportOptions(classes=("bad=angry,bad=sad,good=happy",))
    info = import_dataset(source, tmp_path / "data", options).dataset.info
    assert info.counts["train"] == {"bad": 6, "good": 3}
    assert import_dataset(source, tmp_path / "data", options).unchanged
    left = import_dataset(source, tmp_path / "b", ImportOptions(classes=("leave-out=angry",))).dataset.info
    assert left.classes == ("happy", "sad")
    assert ("angry", 4) in [(entry.path, entry.images) for entry in left.left_out]
    with pytest.raises(SourceError, match="--classes must name labels of the source. Received: 'joy'"):
        import_dataset(source, tmp_path / "c", ImportOptions(classes=("x=joy",)))


@reader
def test_every_reader_refuses_a_source_that_is_cut_off(make: Maker, tmp_path: Path) -> None:
    source = make(tmp_path, FILES)
    whole = [source] if source.is_file() else [p for p in source.rglob("*") if p.suffix in (".zip", ".parquet")]
    whole += [p for p in source.rglob("*.tfrecord-*")]
    for path in whole:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    if not whole:
        return
    with pytest.raises(SourceError, match="Received: "):
        import_dataset(source, tmp_path / "data")
    assert "data" not in names_in(tmp_path)


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil.png", "train\\..\\..\\evil.png"])
def test_a_tar_entry_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    source = make_tar(tmp_path / "in.tar", FILES | {name: FILES[BAD]})
    with pytest.raises(SourceError, match="must stay inside the archive.*do not trust this file"):
        import_dataset(source, tmp_path / "data")


def test_a_tar_or_a_nested_zip_that_unpacks_to_an_absurd_size_is_refused(tmp_path: Path) -> None:
    bomb = FILES | {"train/sad/bomb.png": bytes(40_000_000)}
    for source in (
        make_tar(tmp_path / "in.tar.gz", bomb, "w:gz"),
        make_zip(
            tmp_path / "out.zip",
            {"in.zip": make_zip(tmp_path / "in.zip", bomb, zipfile.ZIP_DEFLATED).read_bytes()},
            zipfile.ZIP_DEFLATED,
        ),
    ):
        with pytest.raises(SourceError, match=r"must unpack to at most 200 times its size.*do not trust"):
            import_dataset(source, tmp_path / "data")


def test_links_in_a_tar_are_told_and_not_followed(tmp_path: Path) -> None:
    source = make_tar(tmp_path / "in.tar", FILES)
    with tarfile.open(source, "a") as archive:
        link = tarfile.TarInfo("train/glad")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    info = import_dataset(source, tmp_path / "data").dataset.info
    assert [(entry.path, entry.reason) for entry in info.left_out] == [
        ("train/glad", "a link to /etc; links in a tar are not followed")
    ]


def test_archives_beside_images_are_passed_over_and_told_with_their_folder(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "in", FILES | {"old/more.zip": b"PK", "train/sad/notes.txt": b"words"})
    info = import_dataset(source, tmp_path / "data").dataset.info
    assert info.passed_over == {".txt": 1, ".zip": 1}
    assert open_dataset(tmp_path / "data").info.passed_over_in == {"old/": {".zip": 1}, "train/sad/": {".txt": 1}}


def test_a_readers_pixels_are_asked_for_by_threads_in_any_order(tmp_path: Path) -> None:
    for name, make in READERS.items():
        (tmp_path / name.replace(" ", "-")).mkdir()
        source = open_source(make(tmp_path / name.replace(" ", "-"), damaged(FILES)))
        items = list(source)[::-1]
        whole = []
        for item in items:
            if not item.problem:
                try:
                    whole.append(source.pixels(item))
                except UnreadableImage:
                    continue
        assert len(whole) == 11 and all(image.dtype == np.uint8 and image.shape == (16, 16, 1) for image in whole), name


def test_archives_with_names_alike_do_not_hide_one_another(tmp_path: Path) -> None:
    for part, split in enumerate(("train", "test")):
        make_zip(tmp_path / f"part{part}.zip", {name: data for name, data in FILES.items() if name.startswith(split)})
    inside = {f"faces.{part}.zip": (tmp_path / f"part{part}.zip").read_bytes() for part in range(2)}
    inside["faces.0.tar.gz"] = make_tar(
        tmp_path / "more.tar.gz", {"train/happy/new.png": FILES[BAD]}, "w:gz"
    ).read_bytes()
    listing = open_store(make_zip(tmp_path / "in.zip", inside)).listing
    assert len(listing.images) == len(FILES) + 1
    assert {path.split("/")[0] for path in listing.images} == {"faces.0.zip", "faces.0.tar.gz", "faces.1"}
