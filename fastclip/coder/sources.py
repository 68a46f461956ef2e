"""Where texts about classes come from."""

import re
from collections.abc import Sequence
from typing import Protocol

import torch

from fastclip.coder.prompts import spaced
from fastclip.coder.texts import OneClass, Pair
from fastclip.data.vocabularies.senses import Sense, noun_senses
from fastclip.data.vocabularies.wordnet import plain


class Source(Protocol):
    """What `generate_texts` asks; any object with these is a source.

    One that waits for others, as for answers from the network, may have an attribute ``workers``:
    how many threads ask it at the same time.
    """

    name: str
    """Kept in `ClassTexts.sources`."""

    def describe(self, name: str) -> OneClass:
        """Return what is known of one class."""

    def more_analogous(self, name: str, rejected: Sequence[str]) -> tuple[str, ...]:
        """Return similar-looking things beyond ``rejected``; none if no more are known."""

    def contrast(self, name: str, other: str) -> tuple[str, ...]:
        """Return what the first class shows that tells it from the second."""


class TextEncoder(Protocol):
    """`fastclip.models.Model`, or any other with its ``encode_text``."""

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        """Return unit rows."""


class WordNetSource:
    """WordNet's nouns, which ship with fastclip.

    Of the meaning of a class name: the other words for it are synonyms; what it and the things
    that it is a kind of have as parts, and what its definition names after "with" or "having",
    are attributes; the definition, put behind the name, is a sentence; sister terms are analogous
    classes. A class has everything that the other one lacks as one-to-one texts.

    Parameters
    ----------
    model : Model, optional
        Picks the meaning whose definition is nearest to "a photo of {name}", as in the paper.
        Default: the most frequent meaning.
    attributes, analogous : int
        How many of each at most.
    """

    name = "WordNet 3.0"

    def __init__(
        self, model: TextEncoder | None = None, *, attributes: int = 12, analogous: int = 5
    ) -> None:
        self._model = model
        self._attributes = attributes
        self._analogous = analogous
        self._sense_of: dict[str, Sense | None] = {}

    def describe(self, name: str) -> OneClass:
        """Return what is known of one class; only its name if WordNet lacks the noun."""
        sense = self._sense(name)
        if sense is None:
            return OneClass(name)
        return OneClass(
            name,
            self._traits(sense),
            (f"a photo of {spaced(name)}, {sense.definition}.",),
            sense.sisters[: self._analogous],
            tuple(lemma for lemma in sense.lemmas if lemma != plain(name)),
        )

    def more_analogous(self, name: str, rejected: Sequence[str]) -> tuple[str, ...]:
        """Return sister terms beyond ``rejected``."""
        sense = self._sense(name)
        known = set(rejected)
        more = [sister for sister in sense.sisters if sister not in known] if sense else []
        return tuple(more[: self._analogous])

    def contrast(self, name: str, other: str) -> tuple[str, ...]:
        """Return attributes that the other class lacks, and the definition if it is another."""
        mine, theirs = self._sense(name), self._sense(other)
        if mine is None or theirs is None or mine == theirs:
            return ()
        lacking = set(self._traits(theirs))
        traits = [trait for trait in self._traits(mine) if trait not in lacking]
        return (*traits, mine.definition)

    def _traits(self, sense: Sense) -> tuple[str, ...]:
        found = re.findall(r"\b(?:with|having) ([^;,()]+)", sense.definition)
        traits = dict.fromkeys([trait.strip() for trait in found] + list(sense.parts))
        return tuple(traits)[: self._attributes]

    def _sense(self, name: str) -> Sense | None:
        if name not in self._sense_of:
            senses = noun_senses(name)
            best = 0
            if len(senses) > 1 and self._model is not None:
                rows = self._model.encode_text(
                    [f"a photo of {spaced(name)}", *(sense.definition for sense in senses)]
                )
                best = int((rows[1:] @ rows[0]).argmax())
            self._sense_of[name] = senses[best] if senses else None
        return self._sense_of[name]


def all_pairs(names: Sequence[str]) -> list[Pair]:
    """Return every two different names, in both orders."""
    return [(name, other) for name in names for other in names if name != other]
