"""Questions about more queries and keys than memory holds: streamed from files, resumable."""

from ._run import SweepStatus, SweepSummary, read, run, status

__all__ = ["SweepStatus", "SweepSummary", "read", "run", "status"]
