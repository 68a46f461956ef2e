"""CODER: images by their nearness to many texts, and classification by it (CVPR 2024)."""

from fastclip.coder.adapter import CoderAdapter
from fastclip.coder.classifier import CoderClassifier, Decisions, confusable_pairs
from fastclip.coder.curve import METHODS, CurvePoint, few_shot_curve
from fastclip.coder.endpoint_source import EndpointSource
from fastclip.coder.file_source import FileSource
from fastclip.coder.generate import generate_texts
from fastclip.coder.measure import CoderReport, measure_coder
from fastclip.coder.prompts import KINDS, Prompts, TextTemplates, text_templates
from fastclip.coder.protocol import (
    AUTHORS_THRESHOLDS,
    DEVIATIONS,
    FewShotSettings,
    authors_few_shot,
)
from fastclip.coder.representation import Coder
from fastclip.coder.search import Grid, Round, Search
from fastclip.coder.sources import Source, WordNetSource
from fastclip.coder.support import draw_shots, support_features
from fastclip.coder.texts import ClassTexts, OneClass
from fastclip.coder.tip_adapter import TipAdapter, TipAdapterF

__all__ = [
    "AUTHORS_THRESHOLDS",
    "DEVIATIONS",
    "KINDS",
    "METHODS",
    "ClassTexts",
    "Coder",
    "CoderAdapter",
    "CoderClassifier",
    "CoderReport",
    "CurvePoint",
    "Decisions",
    "EndpointSource",
    "FewShotSettings",
    "FileSource",
    "Grid",
    "OneClass",
    "Prompts",
    "Round",
    "Search",
    "Source",
    "TextTemplates",
    "TipAdapter",
    "TipAdapterF",
    "WordNetSource",
    "authors_few_shot",
    "confusable_pairs",
    "draw_shots",
    "few_shot_curve",
    "generate_texts",
    "measure_coder",
    "support_features",
    "text_templates",
]
