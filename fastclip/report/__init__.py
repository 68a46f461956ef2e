"""What people look at: pages made from results."""

import importlib
from typing import TYPE_CHECKING, Any

from fastclip.demo import Demo, Pictures, run_demo, run_pictures
from fastclip.metrics import HardPositiveReport, measure_hard_positives
from fastclip.metrics.openness import Openness, measure_openness
from fastclip.report.classification import write_classification
from fastclip.report.coder import write_coder
from fastclip.report.demo import write_page
from fastclip.report.hard_positives import write_hard_positives_page
from fastclip.report.openness import write_openness
from fastclip.report.overlays import Panel, draw_labels, draw_panels

if TYPE_CHECKING:
    from fastclip.coder import CoderReport, measure_coder

__all__ = [
    "CoderReport",
    "Demo",
    "HardPositiveReport",
    "Openness",
    "Panel",
    "Pictures",
    "draw_labels",
    "draw_panels",
    "measure_coder",
    "measure_hard_positives",
    "measure_openness",
    "run_demo",
    "run_pictures",
    "write_classification",
    "write_coder",
    "write_hard_positives_page",
    "write_openness",
    "write_page",
]


def __getattr__(name: str) -> Any:
    if name in ("CoderReport", "measure_coder"):  # beside scikit-learn, which other pages spare
        return getattr(importlib.import_module("fastclip.coder"), name)
    raise AttributeError(f"module 'fastclip.report' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
