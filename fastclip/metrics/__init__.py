"""Figures of merit."""

from fastclip.metrics.retrieval import RankSummary, Retrieval, retrieval

__all__ = ["RankSummary", "Retrieval", "retrieval"]
