"""TTD: tags of captions, the pixels that show them, masks, and self-distillation."""

from .distillation import DistillationSettings, TaggedImages, distill
from .losses import distillation_loss
from .masks import tag_maps, tag_masks, text_mask
from .selection import TagSelection, select_tags
from .tags import Tag, extract_tags

__all__ = [
    "DistillationSettings",
    "Tag",
    "TagSelection",
    "TaggedImages",
    "distill",
    "distillation_loss",
    "extract_tags",
    "select_tags",
    "tag_maps",
    "tag_masks",
    "text_mask",
]
