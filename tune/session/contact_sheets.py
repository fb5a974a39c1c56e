"""What each preprocessing method of a study feeds the network, as pictures for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from trainables.places import is_bucket
from tune.errors import DatasetError
from tune.session.study_data import SYNTHETIC
from tune.study.studies import StudyFiles

_RUN = "preprocessing"


def write_contact_sheets(study: StudyFiles, folder: Path) -> None:
    """Writes a picture for each method that the study may choose, at the strengths of its default configuration.

    A row a class: an original, what is evaluated, and random variants of what is trained on.

    Args:
        study: the study.
        folder: gets a run `preprocessing` with an image `preprocessing/METHOD` each.

    Raises:
        DatasetError: the study's data set is not on this machine, or another one lies there now.
        EmotuneError: a pipeline of the user's own breaks the contract.
    """
    import cv2

    from trainables.dataset.node_cache import open_data
    from trainables.preprocessing.methods import strengths_of
    from tune.dataset.preview import preview_sheet
    from tune.report.event_files import EventFile, image

    spec = study.spec
    where = str(SYNTHETIC) if spec.data == "synthetic" else spec.data
    if is_bucket(where):
        raise DatasetError(f"Contact sheets are drawn of data sets on this machine. Received: {where}. Copy it here.")
    dataset = open_data(where)
    if dataset.info.fingerprint != study.state().fingerprint:
        raise DatasetError(f"The data set must be the study's. Received: {where}, which is another by now.")
    choices = spec.possible_values("preprocessing") if "preprocessing" in spec.space.defaults() else []
    chosen = [spec.space.complete({"preprocessing": method}) for method in choices] or [spec.space.defaults()]
    file = EventFile(folder / _RUN)
    for config in map(spec.trial_config, chosen):
        method = config.preprocessing
        sheet = preview_sheet(dataset, method, strengths_of(config), seed=spec.seed, code=config.code)
        picture = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes()
        file.write([image(f"{_RUN}/{method}", picture, *sheet.shape[:2])])
    file.close()
