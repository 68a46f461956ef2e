"""The nouns of WordNet 3.0, and which of them could name the same thing."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

Relation = Literal["synonyms", "hypernyms", "hyponyms"]
RELATIONS: tuple[Relation, ...] = ("synonyms", "hypernyms", "hyponyms")


class _Synsets(NamedTuple):
    lemmas: list[tuple[str, ...]]  # of each synset
    above: list[tuple[int, ...]]  # its hypernyms
    below: list[tuple[int, ...]]
    of_lemma: dict[str, tuple[int, ...]]


def wordnet_nouns() -> tuple[str, ...]:
    """Return the 117,798 nouns of WordNet 3.0 in alphabetical order, in lower case.

    Names and numbers are among them; words of an expression have spaces between them.

    Examples
    --------
    >>> from fastclip.data.vocabularies import wordnet_nouns
    >>> nouns = wordnet_nouns()
    >>> len(nouns), nouns[60_010]
    (117798, 'krakow')
    """
    return tuple(sorted(_synsets().of_lemma))


def related(names: Iterable[str], relations: Iterable[Relation] = RELATIONS) -> frozenset[str]:
    """Return the nouns of WordNet that are true of what a name names, and the names themselves.

    All senses of a name count: "crane" brings birds and machines.

    Parameters
    ----------
    names : iterable of str
        Case and underscores make no difference. A name that WordNet lacks brings itself alone.
    relations : iterable of "synonyms", "hypernyms" and "hyponyms"
        The other words of its synsets; the words above these, up to "entity"; the words below.

    Returns
    -------
    frozenset of str
        In lower case, with spaces for underscores.

    Raises
    ------
    ValueError
        There is no such relation.

    Examples
    --------
    >>> from fastclip.data.vocabularies import related
    >>> words = related(["Mallard"])
    >>> sorted(words)[:4], "duck" in words, "goose" in words
    (['anas platyrhynchos', 'animal', 'animate being', 'animate thing'], True, False)
    """
    wanted = set(relations)
    for relation in wanted - set(RELATIONS):
        raise ValueError(f"relations holds {relation!r}, allowed: {', '.join(RELATIONS)}")
    synsets = _synsets()
    words = {plain(name) for name in names}
    own = {synset for word in words for synset in synsets.of_lemma.get(word, ())}
    found = set(own) if "synonyms" in wanted else set()
    if "hypernyms" in wanted:
        found |= _reached(own, synsets.above)
    if "hyponyms" in wanted:
        found |= _reached(own, synsets.below)
    return frozenset(words.union(*(synsets.lemmas[synset] for synset in found)))


def plain(name: str) -> str:
    """Lower case, with single spaces for underscores."""
    return " ".join(name.lower().replace("_", " ").split())


def _reached(start: Iterable[int], edges: list[tuple[int, ...]]) -> set[int]:
    """What lies one step or more away."""
    found: set[int] = set()
    ahead = [step for synset in start for step in edges[synset]]
    while ahead:
        synset = ahead.pop()
        if synset not in found:
            found.add(synset)
            ahead.extend(edges[synset])
    return found


def table_lines(name: str) -> list[str]:
    """The lines of a table that lies beside this file, compressed."""
    import pyarrow as pa

    packed = (files(__package__) / f"{name}.tsv.br").read_bytes()
    with pa.input_stream(pa.py_buffer(packed), compression="brotli") as stream:
        return str(stream.read(), "utf-8").splitlines()


@cache
def _synsets() -> _Synsets:
    lemmas, above = [], []
    for line in table_lines("wordnet-nouns"):
        words, _, lines = line.partition("\t")
        lemmas.append(tuple(words.split("|")))
        above.append(tuple(map(int, lines.split())))
    below: list[list[int]] = [[] for _ in lemmas]
    of_lemma = defaultdict(list)
    for synset, words_of in enumerate(lemmas):
        for word in words_of:
            of_lemma[word].append(synset)
        for hypernym in above[synset]:
            below[hypernym].append(synset)
    return _Synsets(
        lemmas,
        above,
        [tuple(synsets) for synsets in below],
        {word: tuple(synsets) for word, synsets in of_lemma.items()},
    )
