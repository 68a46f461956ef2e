"""What people look at: pages made from results."""

from fastclip.report.coder import CoderReport, measure_coder, write_coder
from fastclip.report.demo import Demo, run_demo, write_page
from fastclip.report.hard_positives import (
    HardPositiveReport,
    measure_hard_positives,
    write_hard_positives_page,
)
from fastclip.report.openness import Openness, measure_openness, write_openness
from fastclip.report.overlays import Panel, draw_labels, draw_panels
from fastclip.report.pictures import Pictures, run_pictures

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
    "write_coder",
    "write_hard_positives_page",
    "write_openness",
    "write_page",
]
