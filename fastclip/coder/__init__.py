"""CODER: images by their nearness to many texts, and classification by it (CVPR 2024)."""

from fastclip.coder.adapter import CoderAdapter
from fastclip.coder.classifier import CoderClassifier, Decisions
from fastclip.coder.prompts import KINDS, Prompts, TextTemplates, text_templates
from fastclip.coder.protocol import AUTHORS_THRESHOLDS, DEVIATIONS
from fastclip.coder.representation import Coder
from fastclip.coder.search import Grid, Round, Search
from fastclip.coder.support import draw_shots, support_features
from fastclip.coder.texts import ClassTexts, OneClass
from fastclip.coder.tip_adapter import TipAdapter, TipAdapterF

__all__ = [
    "AUTHORS_THRESHOLDS",
    "DEVIATIONS",
    "KINDS",
    "ClassTexts",
    "Coder",
    "CoderAdapter",
    "CoderClassifier",
    "Decisions",
    "Grid",
    "OneClass",
    "Prompts",
    "Round",
    "Search",
    "TextTemplates",
    "TipAdapter",
    "TipAdapterF",
    "draw_shots",
    "support_features",
    "text_templates",
]
