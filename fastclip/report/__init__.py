"""What people look at: pages made from results."""

from fastclip.report.demo import Demo, run_demo, write_page
from fastclip.report.hard_positives import (
    HardPositiveReport,
    measure_hard_positives,
    write_hard_positives_page,
)

__all__ = [
    "Demo",
    "HardPositiveReport",
    "measure_hard_positives",
    "run_demo",
    "write_hard_positives_page",
    "write_page",
]
