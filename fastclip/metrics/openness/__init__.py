"""Accuracy while the vocabulary grows: Ren et al., Delving into the Openness of CLIP, 2023."""

from fastclip.metrics.openness.expansion import (
    ExpansionCurve,
    VocabularyExpansion,
    vocabulary_expansion,
)

__all__ = ["ExpansionCurve", "VocabularyExpansion", "vocabulary_expansion"]
