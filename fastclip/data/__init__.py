"""Feature files, shipped features, jobs that compute features, scenes, and vocabularies."""

import importlib
from typing import TYPE_CHECKING, Any

from . import scenes, vocabularies
from .captioned_images import CaptionedImages, find_captioned_images
from .coco import read_coco
from .embedding import EmbeddingSummary, Encoder, embed_images, embed_texts
from .features import FeatureFileError, FeatureMetadata, Features, write_features
from .hard_positives import (
    HardPositiveItem,
    HardPositiveSet,
    SkippedItem,
    complete_items,
    read_hard_positives,
)
from .image_sources import ImageSource, find_images
from .item_images import ItemImages, find_item_images
from .job import Unreadable
from .label_maps import LabelledImages, read_ade20k, read_mask_folder, read_voc
from .reading import read_features
from .rle import decode_rle, encode_rle
from .rows import Rows, open_rows
from .samples import load_sample, samples
from .tag_masks import TagMask, read_tag_masks
from .texts import read_texts

if TYPE_CHECKING:
    from fastclip.neighbors import deduplicate

__all__ = [
    "CaptionedImages",
    "EmbeddingSummary",
    "Encoder",
    "FeatureFileError",
    "FeatureMetadata",
    "Features",
    "HardPositiveItem",
    "HardPositiveSet",
    "ImageSource",
    "ItemImages",
    "LabelledImages",
    "Rows",
    "SkippedItem",
    "TagMask",
    "Unreadable",
    "complete_items",
    "decode_rle",
    "deduplicate",
    "embed_images",
    "embed_texts",
    "encode_rle",
    "find_captioned_images",
    "find_images",
    "find_item_images",
    "load_sample",
    "open_rows",
    "read_ade20k",
    "read_coco",
    "read_features",
    "read_hard_positives",
    "read_mask_folder",
    "read_tag_masks",
    "read_texts",
    "read_voc",
    "samples",
    "scenes",
    "vocabularies",
    "write_features",
]


def __getattr__(name: str) -> Any:
    if name == "deduplicate":  # belongs to data, but computes: it lies above this package
        return importlib.import_module("fastclip.neighbors").deduplicate
    raise AttributeError(f"module 'fastclip.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
