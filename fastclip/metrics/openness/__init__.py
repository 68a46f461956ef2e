"""Accuracy while the vocabulary grows: Ren et al., Delving into the Openness of CLIP, 2023."""

from fastclip.metrics.openness.adversarial import AdversarialVocabulary, adversarial_vocabulary
from fastclip.metrics.openness.expansion import (
    ExpansionCurve,
    VocabularyExpansion,
    vocabulary_expansion,
)
from fastclip.metrics.openness.measure import Openness, measure_openness
from fastclip.metrics.openness.repe import retrieval_enhanced, retrieve_captions
from fastclip.metrics.openness.size import accuracy_by_size

__all__ = [
    "AdversarialVocabulary",
    "ExpansionCurve",
    "Openness",
    "VocabularyExpansion",
    "accuracy_by_size",
    "adversarial_vocabulary",
    "measure_openness",
    "retrieval_enhanced",
    "retrieve_captions",
    "vocabulary_expansion",
]
