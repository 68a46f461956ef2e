"""Figures of merit."""

from fastclip.metrics import openness
from fastclip.metrics.retrieval import RankSummary, Retrieval, retrieval

__all__ = ["RankSummary", "Retrieval", "openness", "retrieval"]
