"""Feature files and the features that come with the package."""

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
    "write_features",
]
