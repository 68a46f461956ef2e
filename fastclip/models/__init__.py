"""Pretrained CLIP models: features of images, texts and pixels, by way of open_clip."""

from fastclip.data.templates import templates

from ._dense import pixel_features
from ._load import load
from ._model import Model

__all__ = ["Model", "load", "pixel_features", "templates"]
