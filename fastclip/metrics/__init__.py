"""Figures of merit."""

from fastclip.metrics.compositionality import (
    HardPositiveScores,
    HardPositiveSummary,
    TextSensitivity,
    hard_positive_scores,
    text_sensitivity,
)
from fastclip.metrics.retrieval import RankSummary, Retrieval, retrieval

__all__ = [
    "HardPositiveScores",
    "HardPositiveSummary",
    "RankSummary",
    "Retrieval",
    "TextSensitivity",
    "hard_positive_scores",
    "retrieval",
    "text_sensitivity",
]
