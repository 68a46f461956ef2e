"""Lists of words and of classes that come with the package."""

from .class_lists import ClassList, class_list, imagenet_names, read_class_list
from .names import vocabulary
from .senses import Sense, noun_senses
from .wordnet import related, wordnet_nouns

__all__ = [
    "ClassList",
    "Sense",
    "class_list",
    "imagenet_names",
    "noun_senses",
    "read_class_list",
    "related",
    "vocabulary",
    "wordnet_nouns",
]
