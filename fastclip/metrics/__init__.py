"""Figures of merit."""

from fastclip.metrics import openness
from fastclip.metrics.compositionality import (
    HardPositiveScores,
    HardPositiveSummary,
    TextSensitivity,
    hard_positive_scores,
    text_sensitivity,
)
from fastclip.metrics.hard_positives import HardPositiveReport, measure_hard_positives
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
from fastclip.metrics.segmentation import (
    CaptionMaskScorer,
    CaptionMaskScores,
    SegmentationScorer,
    SegmentationScores,
)
from fastclip.metrics.tagging import AveragePrecision, MeanAveragePrecision, TagScorer, TagScores

__all__ = [
    "AveragePrecision",
    "CaptionMaskScorer",
    "CaptionMaskScores",
    "HardPositiveReport",
    "HardPositiveScores",
    "HardPositiveSummary",
    "Margins",
    "MeanAveragePrecision",
    "RankSummary",
    "Retrieval",
    "SegmentationScorer",
    "SegmentationScores",
    "SimilarityHistograms",
    "TagScorer",
    "TagScores",
    "TextSensitivity",
    "alignment",
    "hard_positive_scores",
    "margins",
    "measure_hard_positives",
    "modality_gap",
    "openness",
    "retrieval",
    "similarity_histograms",
    "text_sensitivity",
    "uniformity",
]
