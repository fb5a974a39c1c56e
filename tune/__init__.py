"""The Python API on one page; what is not named here may change. docs/python.md shows it at work.

    study = tune.run("studies/quickstart.yaml", trials=8)      # or a dict of what a study file holds
    study = tune.load_study("quickstart")                      # its trials, best, curves, why, export
    tune.load_export(study.export("model")).predict("face.png")

Names are loaded when they are used: `import tune` brings neither Ray nor TensorFlow.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune.api.data import (
        contact_sheet,
        describe_data,
        draw_faces,
        fetch_data,
        import_data,
        inspect_source,
        load_data,
        preview,
        verify_data,
    )
    from tune.api.exports import evaluate_export, load_export, predict, push_export, serve_export, verify_export
    from tune.api.plans import plan_study
    from tune.api.reports import compare_studies, serve_board, watch_study, write_report
    from tune.api.runs import ImageSpec, Interrupted, check_study, resume, run
    from tune.api.studies import Study, list_studies, load_study
    from tune.errors import EmotuneError

__all__ = [
    "EmotuneError",
    "ImageSpec",
    "Interrupted",
    "Study",
    "check_study",
    "compare_studies",
    "contact_sheet",
    "describe_data",
    "draw_faces",
    "evaluate_export",
    "fetch_data",
    "import_data",
    "inspect_source",
    "list_studies",
    "load_data",
    "load_export",
    "load_study",
    "plan_study",
    "predict",
    "preview",
    "push_export",
    "resume",
    "run",
    "serve_board",
    "serve_export",
    "verify_data",
    "verify_export",
    "watch_study",
    "write_report",
]

_MODULES = {
    "tune.api.data": "contact_sheet describe_data draw_faces fetch_data import_data inspect_source load_data "
    "preview verify_data",
    "tune.api.exports": "evaluate_export load_export predict push_export serve_export verify_export",
    "tune.api.plans": "plan_study",
    "tune.api.reports": "compare_studies serve_board watch_study write_report",
    "tune.api.runs": "ImageSpec Interrupted check_study resume run",
    "tune.api.studies": "Study list_studies load_study",
    "tune.errors": "EmotuneError",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Loads what is asked for from where it is written."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tune' has no attribute {name!r}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # tqdm 4.70's, of widgets that nothing here draws
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
