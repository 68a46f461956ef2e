"""Figures of merit."""

from fastclip.metrics import openness
from fastclip.metrics.compositionality import (
    HardPositiveScores,
    HardPositiveSummary,
    TextSensitivity,
    hard_positive_scores,
    text_sensitivity,
)
from fastclip.metrics.representation import (
    Margins,
    SimilarityHistograms,
    alignment,
    margins,
    modality_gap,
    similarity_histograms,
    uniformity,
)
from fastclip.metrics.retrieval import RankSummary, Retrieval, retrieval

__all__ = [
    "HardPositiveScores",
    "HardPositiveSummary",
    "Margins",
    "RankSummary",
    "Retrieval",
    "SimilarityHistograms",
    "TextSensitivity",
    "alignment",
    "hard_positive_scores",
    "margins",
    "modality_gap",
    "openness",
    "retrieval",
    "similarity_histograms",
    "text_sensitivity",
    "uniformity",
]
