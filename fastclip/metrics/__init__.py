"""Figures of merit."""

from fastclip.metrics.retrieval import recall

__all__ = ["recall"]
