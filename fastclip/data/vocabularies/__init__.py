"""Lists of words and of classes that come with the package."""

from .class_lists import ClassList, class_list, imagenet_names, read_class_list
from .wordnet import related, wordnet_nouns

__all__ = [
    "ClassList",
    "class_list",
    "imagenet_names",
    "read_class_list",
    "related",
    "wordnet_nouns",
]
