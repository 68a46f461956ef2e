"""What people look at: pages made from results."""

from fastclip.report.demo import Demo, run_demo, write_page
from fastclip.report.pictures import Pictures, run_pictures

__all__ = ["Demo", "Pictures", "run_demo", "run_pictures", "write_page"]
