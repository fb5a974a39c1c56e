"""Says of a source's file whether it is an image, may be one, or is plainly something else. Opens nothing itself.

An image is known by its first bytes; names only save looking. What has an image's suffix is taken for one, and is a bad
image if it cannot be decoded; what has another known suffix is passed over unless its first bytes say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Final

IMAGE_SUFFIXES: Final = frozenset(
    f".{suffix}"
    for suffix in "avif bmp dib gif heic heif ico jfif jp2 jpe jpeg jpg pam pbm pcx pgm png pnm ppm tga tif tiff "
    "webp".split()
)
_OTHER_SUFFIXES: Final = frozenset(
    f".{suffix}"
    for suffix in (
        "7z aac arrow avi bak bat bib bin bz2 c cfg ckpt conf cpp css csv dat data db doc docx eps exe feather gz "
        "h h5 hdf5 htm html identifier idx ini ipynb jar java js json jsonl keras lnk lock log lst m mat md md5 "
        "mkv mov mp3 mp4 mpg names npy npz odt onnx parquet pb pdf pickle pkl ppt pptx ps pt pth pts py pyc r rar "
        "rst rtf sav sh sha256 sql sqlite svg tar tbz tbz2 tex tfrecord tfrecords tgz toml tsv txt txz url wav wmv "
        "xls xlsx xml xz yaml yml zip zst"
    ).split()
)
RECORD_SUFFIXES: Final = (".tfrecord", ".tfrecords")
_OTHER_NAMES: Final = frozenset(
    "thumbs.db ehthumbs.db desktop.ini icon\r readme license licence copying notice authors changelog changes citation "
    "contributing makefile dockerfile version md5sums sha1sums sha256sums".split(" ")
)
_OTHER_FOLDERS: Final = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
_BEGINNINGS: Final = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|II\*\0|MM\0\*|P[1-7][ \t\r\n]+[#\dW]|P[fF][\r\n]"
    rb"|BM....\0\0\0\0....[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0|....ftyp(?:avi[fs]|hei[cfsx]|mif1|msf1)"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51|8BPS\0|DDS \x7c|qoif|icns|\x59\xa6\x6a\x95|\x01\xda[\0\x01][\x01\x02]"
    rb"|\0\0\x01\0[^\0]\0|\x0a[\0-\x05]\x01[\x01\x02\x04\x08]",
    re.DOTALL,
)
_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}$")  # TFDS: fer2013-train.tfrecord-00000-of-00001
BEGINNING_BYTES: Final = 32


class FileKind(Enum):
    """What a file is: `DOUBTFUL` has no known suffix and does not begin like an image, but may still be decoded."""

    IMAGE = "image"
    DOUBTFUL = "doubtful"


def is_image(path: str) -> bool:
    """Whether a path names an image that is meant: hidden files and what macOS adds to zips are not."""
    return _hidden(path) is None and _suffix(path) in IMAGE_SUFFIXES


def file_kind(path: str, beginning: Callable[[], bytes]) -> FileKind | str:
    """Says what a file is.

    Args:
        path: relative to the source, with forward slashes.
        beginning: returns its first `BEGINNING_BYTES`; asked only where the name does not say enough.

    Returns:
        What it is, or the name under which it is counted among the files that are passed over.
    """
    passed_over = _hidden(path)
    if passed_over is not None:
        return passed_over
    suffix = _suffix(path)
    if suffix in IMAGE_SUFFIXES or _BEGINNINGS.match(beginning()):
        return FileKind.IMAGE
    name = path.rpartition("/")[2]
    if name.casefold() in _OTHER_NAMES:
        return name.strip()
    return suffix if suffix in _OTHER_SUFFIXES else FileKind.DOUBTFUL


def hidden_parent(path: str) -> str | None:
    """Returns the part of a path down to the first folder that is hidden or that a system made for itself, if any."""
    parts = path.split("/")[:-1]
    for depth, part in enumerate(parts, start=1):
        if part.startswith(".") or part in _OTHER_FOLDERS:
            return "/".join(parts[:depth])
    return None


def folder_label(folder: str) -> str:
    """Returns under which name a folder found by `hidden_parent` is counted."""
    name = folder.rpartition("/")[2]
    return name if name in _OTHER_FOLDERS else "hidden folders"


def _hidden(path: str) -> str | None:
    folder, name = hidden_parent(path), path.rpartition("/")[2]
    if folder is not None:
        return folder_label(folder)
    return name if name == ".DS_Store" else "hidden" if name.startswith(".") else None


def _suffix(path: str) -> str:
    stem, dot, suffix = _SHARD.sub("", path).rpartition("/")[2].rpartition(".")
    return f"{dot}{suffix}".lower() if stem else ""
