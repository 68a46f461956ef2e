"""Feature files, the features that come with the package, and scenes with ground truth."""

from . import scenes
from .features import FeatureFileError, FeatureMetadata, Features, write_features
from .reading import read_features
from .samples import load_sample, samples

__all__ = [
    "FeatureFileError",
    "FeatureMetadata",
    "Features",
    "load_sample",
    "read_features",
    "samples",
    "scenes",
    "write_features",
]
