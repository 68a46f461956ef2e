"""What people look at: pages made from results."""

from fastclip.coder import CoderReport, measure_coder
from fastclip.demo import Demo, Pictures, run_demo, run_pictures
from fastclip.metrics import HardPositiveReport, measure_hard_positives
from fastclip.metrics.openness import Openness, measure_openness
from fastclip.report.classification import write_classification
from fastclip.report.coder import write_coder
from fastclip.report.demo import write_page
from fastclip.report.hard_positives import write_hard_positives_page
from fastclip.report.openness import write_openness
from fastclip.report.overlays import Panel, draw_labels, draw_panels

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
