"""Tags of captions: their nouns, noun phrases or words."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

from fastclip.data.checks import check_choice, check_strings
from fastclip.ttd._nouns import NOT_THINGS, expression, is_noun, singular, stop_words

Kind = Literal["nouns", "phrases", "content-words", "words"]
Tagger = Literal["wordnet", "hanta"]
_Part = Literal["noun", "plural", "adjective", "other"]

_WORD = re.compile(r"([^\W_]+(?:[-'](?!s\b)[^\W_]+)*)(?:'s\b)?")  # without a final 's


class Tag(NamedTuple):
    """A word or phrase of a caption."""

    text: str
    """In lower case; of nouns and phrases, in singular."""
    spans: tuple[tuple[int, int], ...]
    """Where the caption has it, ``caption[start:end]``, from left to right."""


class _Word(NamedTuple):
    text: str
    start: int
    end: int


def extract_tags(
    captions: Sequence[str], *, kind: Kind = "nouns", tagger: Tagger = "wordnet"
) -> list[tuple[Tag, ...]]:
    """Return the tags of each caption, each once, in the order in which they come up.

    ================= ==========================================================================
    kind
    ================= ==========================================================================
    ``nouns``         Nouns that can name a thing, and expressions that WordNet has, such as
                      "traffic light", as one tag. Not "a lot", "a picture of", "in front of".
    ``phrases``       Nouns with the nouns and adjectives before them: "old red car". Needs the
                      tagger "hanta".
    ``content-words`` Every word but articles, pronouns, prepositions and the like.
    ``words``         Every word, as in figure 2 of TTD.
    ================= ==========================================================================

    Nouns are found by one of two taggers. The choice never depends on what happens to be installed.

    =========== ================================================================================
    ``wordnet`` A word is a noun if WordNet's list, which ships, has it as one, and a list of some
                500 stop words has not; what ends in -ing or -ed must mean a physical thing. Needs
                nothing. Words are taken without their context: "watch" is never a noun, "light"
                neither, and what is newer than 2006 is unknown.
    ``hanta``   HanTa (Wartena, 2019), a hidden Markov model, finds parts of speech in their
                context: ``pip install 'fastclip-kernels[tags]'``, 14 MB, no network. About 1 ms a
                caption.
    =========== ================================================================================

    Parameters
    ----------
    captions : sequence of str
        In English.
    kind : "nouns", "phrases", "content-words" or "words"
    tagger : "wordnet" or "hanta"
        Of nouns and phrases.

    Returns
    -------
    list of tuples of Tag
        One tuple for each caption, empty for one without tags.

    Raises
    ------
    TypeError
        captions is no sequence of str.
    ValueError
        There is no such kind or tagger, or the tagger finds no phrases.
    ImportError
        HanTa is asked for but not installed.

    Examples
    --------
    >>> from fastclip.ttd import extract_tags
    >>> tags, none = extract_tags(["Two black dogs and a dog at a traffic light", "so it is"])
    >>> tags
    (Tag(text='dog', spans=((10, 14), (21, 24))), Tag(text='traffic light', spans=((30, 43),)))
    >>> none
    ()
    >>> [tag.text for tag in extract_tags(["a dog runs"], kind="words")[0]]
    ['a', 'dog', 'runs']
    """
    check_choice("kind", kind, get_args(Kind))
    check_choice("tagger", tagger, get_args(Tagger))
    if kind == "phrases" and tagger == "wordnet":
        raise ValueError("tagger: 'wordnet' finds no adjectives, so no phrases; allowed: hanta")
    check_strings("captions", captions)
    if kind in ("nouns", "phrases") and tagger == "hanta":
        _hanta()  # say what is missing before any work
    return [_once(_tags(_words(caption), kind, tagger)) for caption in captions]


def _words(caption: str) -> list[_Word]:
    plain = caption.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return [_Word(match[1].lower(), *match.span(1)) for match in _WORD.finditer(plain)]


def _tags(words: list[_Word], kind: Kind, tagger: Tagger) -> Iterable[_Word]:
    if kind == "words":
        return words
    if kind == "content-words":
        return (word for word in words if word.text not in stop_words("grammar"))
    texts = [word.text for word in words]
    parts = [_by_wordnet(text) for text in texts] if tagger == "wordnet" else _by_hanta(texts)
    return _phrases(words, parts) if kind == "phrases" else _nouns(words, parts)


def _nouns(words: list[_Word], parts: list[_Part]) -> Iterator[_Word]:
    texts = [word.text for word in words]
    i = 0
    while i < len(words):
        count, text = expression(texts, i) or (1, "")
        # Men who are riding horses are not men with riding horses.
        verb = texts[i].endswith("ing") and i > 0 and parts[i - 1] in ("noun", "plural")
        if count > 1 and parts[i + count - 1] != "other" and not verb:
            yield _Word(text, words[i].start, words[i + count - 1].end)
            i += count
            continue
        if parts[i] in ("noun", "plural"):
            yield words[i]._replace(text=_singular(words[i], parts[i]))
        i += 1


def _phrases(words: list[_Word], parts: list[_Part]) -> Iterator[_Word]:
    """Runs of nouns and adjectives, up to their last noun."""
    i = 0
    while i < len(words):
        end = i
        while end < len(words) and parts[end] != "other":
            end += 1
        last = max((j for j in range(i, end) if parts[j] in ("noun", "plural")), default=None)
        if last is not None:
            before = [word.text for word in words[i:last]]
            text = " ".join([*before, _singular(words[last], parts[last])])
            yield _Word(text, words[i].start, words[last].end)
        i = end + 1


def _singular(word: _Word, part: _Part) -> str:
    return singular(word.text, known_plural=part == "plural")


def _by_wordnet(word: str) -> _Part:
    if is_noun(word):
        return "noun"
    return "adjective" if word in stop_words("colours", "adjectives") else "other"


def _by_hanta(words: list[str]) -> list[_Part]:
    """The tags of HanTa are those of the British National Corpus (C5)."""
    found = _hanta().tag_sent(words) if words else []
    return [_part(word, tag) for word, (_, _, tag) in zip(words, found, strict=True)]


def _part(word: str, tag: str) -> _Part:
    left_out = stop_words("grammar", *NOT_THINGS)
    if word in left_out or singular(word) in left_out:
        return "other"
    if tag == "NN2":
        return "plural"
    if tag.startswith(("NN", "NP")):
        return "noun"
    return "adjective" if tag.startswith("AJ") else "other"


@cache
def _hanta() -> Any:
    try:
        from HanTa.HanoverTagger import HanoverTagger
    except ImportError as error:
        raise ImportError(
            "tagger: 'hanta' needs the package HanTa: pip install 'fastclip-kernels[tags]'",
            name="HanTa",
        ) from error
    return HanoverTagger("morphmodel_en.pgz")


def _once(tags: Iterable[_Word]) -> tuple[Tag, ...]:
    spans: dict[str, list[tuple[int, int]]] = {}
    for text, start, end in tags:
        spans.setdefault(text, []).append((start, end))
    return tuple(Tag(text, tuple(places)) for text, places in spans.items())
