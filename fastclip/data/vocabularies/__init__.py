"""Lists of words and of classes that come with the package."""

from .wordnet import related, wordnet_nouns

__all__ = ["related", "wordnet_nouns"]
