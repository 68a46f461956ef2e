"""What a noun can mean: definitions, synonyms, parts and sister terms of WordNet 3.0."""

from functools import cache
from typing import NamedTuple

from .wordnet import _synsets, plain, table_lines


class Sense(NamedTuple):
    """One meaning of a noun; all names in lower case, without underscores."""

    lemmas: tuple[str, ...]
    """The words for it."""
    definition: str
    parts: tuple[str, ...]
    """What it has: its own parts first, then those of what it is a kind of."""
    sisters: tuple[str, ...]
    """One word for each other thing directly under what it is a kind of, in WordNet's order from
    its own place on, and from the start after the last."""
    kinds: frozenset[str]
    """All words for what it is a kind of, up to "entity"."""


class _Line(NamedTuple):
    definition: str
    numbers: tuple[int, ...]  # of each lemma: 1 where this is its most frequent meaning
    parts: tuple[int, ...]


def noun_senses(name: str) -> tuple[Sense, ...]:
    """Return the meanings of a noun, the most frequent one first.

    Parameters
    ----------
    name : str
        Case and underscores make no difference.

    Returns
    -------
    tuple of Sense
        Empty if WordNet lacks the noun.

    Examples
    --------
    >>> from fastclip.data.vocabularies.senses import noun_senses
    >>> zebra = noun_senses("Zebra")[0]
    >>> zebra.definition
    'any of several fleet black-and-white striped African equines'
    >>> zebra.sisters[:2], zebra.parts[:1]
    (('quagga', 'horse'), ('hoof',))
    """
    word, synsets, lines = plain(name), _synsets(), _lines()

    def number(row: int) -> int:
        return lines[row].numbers[synsets.lemmas[row].index(word)]

    return tuple(_sense(row) for row in sorted(synsets.of_lemma.get(word, ()), key=number))


def _sense(row: int) -> Sense:
    synsets, lines = _synsets(), _lines()
    kinds = [row]  # the synset, then what it is a kind of, nearest first
    for kind in kinds:
        kinds.extend(above for above in synsets.above[kind] if above not in kinds)
    parts = dict.fromkeys(part for kind in kinds for part in lines[kind].parts)
    sisters: dict[int, None] = {}
    for above in synsets.above[row]:
        below = synsets.below[above]
        at = below.index(row)
        sisters.update(dict.fromkeys(below[at + 1 :] + below[:at]))
    return Sense(
        synsets.lemmas[row],
        lines[row].definition,
        tuple(dict.fromkeys(synsets.lemmas[part][0] for part in parts)),
        tuple(dict.fromkeys(synsets.lemmas[sister][0] for sister in sisters)),
        frozenset(word for kind in kinds[1:] for word in synsets.lemmas[kind]),
    )


@cache
def _lines() -> list[_Line]:
    lines = []
    for line in table_lines("wordnet-senses"):
        definition, numbers, parts = line.split("\t")
        lines.append(
            _Line(definition, tuple(map(int, numbers.split())), tuple(map(int, parts.split())))
        )
    return lines
