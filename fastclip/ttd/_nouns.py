"""Nouns and their singular by WordNet's list and a list of stop words, without a tagger."""

from functools import cache, lru_cache
from importlib.resources import files

from fastclip.data.vocabularies import noun_senses
from fastclip.data.vocabularies.wordnet import _synsets

NOT_THINGS = ("numbers", "pictures", "places", "words")
"""Kinds of stop words that are nouns: "a lot", "a picture of", "in front of"."""

_PHYSICAL = frozenset(("physical object", "causal agent", "matter"))
_LONGEST_EXPRESSION = 4  # words
_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth",
    "geese": "goose", "mice": "mouse", "oxen": "ox", "knives": "knife", "wives": "wife",
    "calves": "calf", "halves": "half", "wolves": "wolf", "loaves": "loaf", "leaves": "leaf",
    "shelves": "shelf", "scarves": "scarf", "hooves": "hoof", "thieves": "thief", "elves": "elf",
    "passersby": "passerby",
}  # fmt: skip
_NO_SINGULAR = frozenset({
    "glasses", "sunglasses", "goggles", "jeans", "pants", "shorts", "trousers", "scissors",
    "binoculars", "tights", "clothes", "headphones", "news", "series", "species",
})  # fmt: skip


@cache
def stop_words(*kinds: str) -> frozenset[str]:
    """The stop words of these kinds, of all if none is named."""
    text = (files(__package__) / "stop_words.txt").read_text("utf-8")
    lines = [line.partition(":") for line in text.splitlines() if not line.startswith("#")]
    return frozenset(
        word for kind, _, words in lines if not kinds or kind in kinds for word in words.split()
    )


@lru_cache(maxsize=1 << 16)
def singular(word: str, *, known_plural: bool = False) -> str:
    """A noun in lower case without its plural ending, where WordNet has that.

    A ``known_plural`` that WordNet lacks loses its ending too.
    """
    nouns = _synsets().of_lemma
    if word in _NO_SINGULAR or word.endswith("ss"):
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("men") and word[:-3] + "man" in nouns:
        return word[:-3] + "man"
    if not word.endswith("s") or len(word) < 4:
        return word
    candidates = [word[:-1]]
    if word.endswith("ies"):
        candidates.append(word[:-3] + "y")
    if word.endswith("es"):
        candidates.append(word[:-2])
    for candidate in candidates:
        if candidate in nouns:
            return candidate
    if word in nouns or not known_plural:
        return word
    return word[:-1]


@lru_cache(maxsize=1 << 16)
def is_noun(word: str) -> bool:
    """Whether a word in lower case is most probably a noun that names a thing.

    WordNet has it as a noun, and it is no stop word. Forms such as "riding" and "parked", which
    mostly belong to verbs, have to be a physical thing in their most frequent sense.
    """
    lemma = singular(word)
    if word in stop_words() or lemma in stop_words(*NOT_THINGS):
        return False
    if len(lemma) < 2 or lemma.isdigit() or lemma not in _synsets().of_lemma:
        return False
    return not lemma.endswith(("ing", "ed")) or _is_physical(lemma)


def _is_physical(noun: str) -> bool:
    return bool(_PHYSICAL & noun_senses(noun)[0].kinds)


def expression(words: list[str], start: int) -> tuple[int, str] | None:
    """The longest expression of WordNet, in singular, that begins with word ``start``.

    Returns how many words it has, at least 2, and its text.
    """
    nouns = _synsets().of_lemma
    forbidden = stop_words("grammar", *NOT_THINGS)
    for count in range(min(_LONGEST_EXPRESSION, len(words) - start), 1, -1):
        part = words[start : start + count]
        text = " ".join([*part[:-1], singular(part[-1])])
        if text in nouns and not forbidden.intersection(part):
            return count, text
    return None
