"""TTD: tags of captions, the pixels that show them, masks, and self-distillation."""

from .bias import SingleTagBias, single_tag_bias
from .distillation import DistillationSettings, TaggedImages, distill
from .labels import Segmentation, image_maps, label_features
from .losses import distillation_loss
from .masks import tag_maps, tag_masks, text_mask
from .segment import encode_tags, segment
from .selection import TagSelection, select_tags
from .tags import Tag, extract_tags
from .tcl import TCL_TEMPLATES, segment_as_tcl
from .views import dense_features

__all__ = [
    "TCL_TEMPLATES",
    "DistillationSettings",
    "Segmentation",
    "SingleTagBias",
    "Tag",
    "TagSelection",
    "TaggedImages",
    "dense_features",
    "distill",
    "distillation_loss",
    "encode_tags",
    "extract_tags",
    "image_maps",
    "label_features",
    "segment",
    "segment_as_tcl",
    "select_tags",
    "single_tag_bias",
    "tag_maps",
    "tag_masks",
    "text_mask",
]
