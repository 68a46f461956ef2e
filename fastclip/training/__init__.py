"""Fine-tuning of CLIP models on captions with hard negatives and hard positives."""

from .data import ItemData, TrainingData, similar_images
from .loop import train
from .losses import LOSSES, BatchFeatures, clip_loss, hard_positive_loss, negclip_loss, svlc_loss
from .settings import RunSettings, TrainingSettings
from .validation import Validation, read_classes

__all__ = [
    "LOSSES",
    "BatchFeatures",
    "ItemData",
    "RunSettings",
    "TrainingData",
    "TrainingSettings",
    "Validation",
    "clip_loss",
    "hard_positive_loss",
    "negclip_loss",
    "read_classes",
    "similar_images",
    "svlc_loss",
    "train",
]
