"""The error tree. The command line catches its root once.

EmotuneError                 exit code 2
├── DatasetError             a data set folder is missing, damaged or unfit         (trainables)
│   └── SourceError          what is to be imported cannot be read or trusted
├── PlaceError               a bucket cannot be reached or is misnamed               (trainables)
├── PreprocessingError       an unknown method or a strength out of range           (trainables)
├── OwnCodeError             a model of the user's own breaks its contract           (trainables)
│   └── OwnImportError       it cannot be imported on this machine                   (trainables)
├── ApplicationError         one of Keras' applications cannot be built, or has no weights   (trainables)
├── StudyFileError           a study file or search space breaks a rule
├── StudyError               a study on disk is missing, damaged or not the one meant
│   └── ClusterError         a Ray cluster cannot be reached, or is unfit for the study
├── DiskFull                 no space is left for a study; it can be resumed
├── JobError                 a cluster's jobs server does not answer, or a job is not as it has to be
├── ExportError              an export cannot be written or read
├── ImageError               an image to classify cannot be read
├── ServeError               an export, or the board, cannot be served here
└── EveryTrialFailed         exit code 5
"""

from __future__ import annotations

import shlex

from trainables.errors import (
    ApplicationError,
    DatasetError,
    EmotuneError,
    OwnCodeError,
    OwnImportError,
    PlaceError,
    PreprocessingError,
    nearest,
)

__all__ = [
    "ApplicationError",
    "ClusterError",
    "DatasetError",
    "DiskFull",
    "EmotuneError",
    "EveryTrialFailed",
    "ExportError",
    "ImageError",
    "JobError",
    "OwnCodeError",
    "OwnImportError",
    "PlaceError",
    "PreprocessingError",
    "ServeError",
    "SourceError",
    "StudyError",
    "StudyFileError",
    "disk_full",
    "nearest",
]


class SourceError(DatasetError):
    """What is to be imported cannot be read, or cannot be trusted."""


class StudyFileError(EmotuneError):
    """A study file or search space breaks a rule."""


class StudyError(EmotuneError):
    """A study on disk is missing, damaged, or not the one that is meant."""


class ClusterError(StudyError):
    """A Ray cluster cannot be reached, or is unfit for the study."""


class DiskFull(EmotuneError):
    """No space is left for a study; it can be resumed when there is."""


def disk_full(study: str) -> DiskFull:
    """Returns the error for a study, by its folder or address."""
    return DiskFull(
        f"no space is left on the disk of {study}; everything written so far is kept. Free some, then: "
        f"emotune resume {shlex.quote(study)}"
    )


class JobError(EmotuneError):
    """A cluster's jobs server does not answer, or a job is not as it has to be."""


class ExportError(EmotuneError):
    """An export cannot be written or read."""


class ImageError(EmotuneError):
    """An image to classify cannot be read."""


class ServeError(EmotuneError):
    """An export, or the board, cannot be served here."""


class EveryTrialFailed(EmotuneError):
    """No trial of the study ended with a score."""

    exit_code = 5
