"""What people look at: pages made from results."""

from fastclip.report.demo import Demo, run_demo, write_page

__all__ = ["Demo", "run_demo", "write_page"]
