"""Drawings of named things, scenes composed of them, captions and exact masks."""

from .captions import (
    Contrast,
    article,
    caption,
    composed_captions,
    object_replaced,
    relation_swap,
    size_swap,
    sizes,
    tags,
    varied_caption,
)
from .compose import (
    Background,
    Placed,
    Scene,
    SceneMaker,
    compose,
    exchanged,
    generator,
    placed_alone,
)
from .drawings import Drawings, load_drawings, sources, split
from .vocabulary import is_held_out

__all__ = [
    "Background",
    "Contrast",
    "Drawings",
    "Placed",
    "Scene",
    "SceneMaker",
    "article",
    "caption",
    "compose",
    "composed_captions",
    "exchanged",
    "generator",
    "is_held_out",
    "load_drawings",
    "object_replaced",
    "placed_alone",
    "relation_swap",
    "size_swap",
    "sizes",
    "sources",
    "split",
    "tags",
    "varied_caption",
]
