"""Figures of merit.

Functions take all data at once. The classes `TagScorer`, `MeanAveragePrecision`,
`SegmentationScorer`, `CaptionMaskScorer`, `RetrievalRecall`, `HardPositives` and ``Openness`` take
it batch by batch: they are metrics of torchmetrics, which
``pip install 'fastclip-kernels[metrics]'`` installs, and are imported when they are first asked
for.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from fastclip.metrics.segmentation import CaptionMaskScorer as CaptionMaskScorer
    from fastclip.metrics.segmentation import CaptionMaskScores as CaptionMaskScores
    from fastclip.metrics.segmentation import SegmentationScorer as SegmentationScorer
    from fastclip.metrics.segmentation import SegmentationScores as SegmentationScores
    from fastclip.metrics.streaming import HardPositives as HardPositives
    from fastclip.metrics.streaming import Openness as Openness
    from fastclip.metrics.streaming import RetrievalRecall as RetrievalRecall
    from fastclip.metrics.tagging import AveragePrecision as AveragePrecision
    from fastclip.metrics.tagging import MeanAveragePrecision as MeanAveragePrecision
    from fastclip.metrics.tagging import TagScorer as TagScorer
    from fastclip.metrics.tagging import TagScores as TagScores

__all__ = [
    "HardPositiveReport",
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
    "measure_hard_positives",
    "modality_gap",
    "openness",
    "retrieval",
    "similarity_histograms",
    "text_sensitivity",
    "uniformity",
]

_ON_TORCHMETRICS = {
    "AveragePrecision": "tagging",
    "CaptionMaskScorer": "segmentation",
    "CaptionMaskScores": "segmentation",
    "HardPositives": "streaming",
    "MeanAveragePrecision": "tagging",
    "Openness": "streaming",
    "RetrievalRecall": "streaming",
    "SegmentationScorer": "segmentation",
    "SegmentationScores": "segmentation",
    "TagScorer": "tagging",
    "TagScores": "tagging",
}
if find_spec("torchmetrics") is not None:  # else ``import *`` would fail
    __all__ += list(_ON_TORCHMETRICS)


def __getattr__(name: str) -> Any:
    if name in _ON_TORCHMETRICS:
        module = importlib.import_module(f"fastclip.metrics.{_ON_TORCHMETRICS[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'fastclip.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
