"""Figures of merit."""

from fastclip.metrics import openness
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
    "Margins",
    "RankSummary",
    "Retrieval",
    "SimilarityHistograms",
    "alignment",
    "margins",
    "modality_gap",
    "openness",
    "retrieval",
    "similarity_histograms",
    "uniformity",
]
