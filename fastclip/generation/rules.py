"""Edits of captions by tables of words: other words for the same, and words for something else."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .wordnet import WordNet


@dataclass(frozen=True)
class Edit:
    """A changed caption, and what was changed: "colour", "size", "relation", "attribute", "order",
    "synonym" or "antonym"."""

    text: str
    kind: str


_SAME: Mapping[str, Mapping[str, Sequence[str]]] = {
    "colour": {
        "black": ["ebony"],
        "white": ["ivory"],
        "red": ["crimson", "scarlet"],
        "blue": ["azure"],
        "green": ["emerald"],
        "yellow": ["golden"],
        "purple": ["violet"],
        "brown": ["chestnut"],
        "gray": ["grey"],
        "grey": ["gray"],
    },
    "size": {
        "big": ["large"],
        "large": ["big"],
        "small": ["little"],
        "little": ["small"],
        "huge": ["enormous"],
        "tiny": ["minuscule"],
    },
    "relation": {
        "in front of": ["ahead of"],
        "next to": ["beside"],
        "beside": ["next to"],
        "on top of": ["atop"],
        "underneath": ["beneath"],
        "under": ["beneath"],
        "behind": ["at the back of"],
        "inside": ["within"],
        "left of": ["to the left of"],
        "right of": ["to the right of"],
    },
    "attribute": {
        "metal": ["metallic"],
        "old": ["aged"],
        "wet": ["soaked"],
        "sleeping": ["slumbering"],
        "smiling": ["beaming"],
        "round": ["circular"],
    },
}
_OTHER: Mapping[str, Mapping[str, Sequence[str]]] = {
    "colour": {
        "black": ["white", "yellow"],
        "white": ["black", "purple"],
        "red": ["green", "blue"],
        "blue": ["orange", "red"],
        "green": ["red", "purple"],
        "yellow": ["blue", "purple"],
        "purple": ["yellow", "green"],
        "brown": ["blue", "white"],
        "orange": ["blue", "green"],
        "pink": ["green", "black"],
        "gray": ["red", "yellow"],
        "grey": ["red", "yellow"],
    },
    "size": {
        "big": ["small"],
        "large": ["small"],
        "small": ["large"],
        "little": ["big"],
        "huge": ["tiny"],
        "tiny": ["huge"],
        "tall": ["short"],
        "short": ["tall"],
        "long": ["short"],
    },
    "relation": {
        "in front of": ["behind"],
        "behind": ["in front of"],
        "left of": ["right of"],
        "right of": ["left of"],
        "above": ["below"],
        "below": ["above"],
        "on top of": ["under"],
        "underneath": ["on top of"],
        "under": ["on top of"],
        "inside": ["outside"],
        "outside": ["inside"],
        "next to": ["far from"],
        "beside": ["far from"],
        "near": ["far from"],
    },
    "attribute": {
        "old": ["new", "young"],
        "young": ["old"],
        "new": ["old"],
        "wet": ["dry"],
        "dry": ["wet"],
        "open": ["closed"],
        "closed": ["open"],
        "empty": ["full"],
        "full": ["empty"],
        "standing": ["lying"],
        "sitting": ["standing"],
        "sleeping": ["running"],
        "wooden": ["metal"],
        "metal": ["wooden"],
        "round": ["square"],
    },
}
_DETERMINERS = ("a", "an", "the", "one", "two", "three", "some", "his", "her", "their")
# Words that WordNet knows in other senses, and that captions use for the grammar alone.
_NOT_LOOKED_UP = frozenset(
    re.findall(
        r"\w+",
        "a an the and or of in on at by to with from for is are was be being this that it its his "
        "her their one two three as up down out over no not have has do does can will next left "
        "right top front back",
    )
)


def positives(caption: str, *, wordnet: WordNet | None = None) -> list[Edit]:
    """Return all captions that say the same in other words, by the rules.

    Parameters
    ----------
    caption : str
    wordnet : WordNet, optional
        Also replace words of one sense by a synonym.

    Returns
    -------
    list of Edit
        Each of one edit, in a fixed order; may be empty. ``a`` and ``an`` are put right.

    Examples
    --------
    >>> from fastclip.generation import positives
    >>> [edit.text for edit in positives("a black cat and a big dog")]
    ['an ebony cat and a big dog', 'a black cat and a large dog', 'a big dog and a black cat']
    """
    edits = list(_replaced(caption, _SAME))
    halves = _halves(caption)
    if halves:
        edits.append(Edit(f"{halves[1]} and {halves[0]}", "order"))
    if wordnet is not None:
        edits += _looked_up(caption, wordnet.synonyms, "synonym", _SAME)
    return _different(caption, edits)


def negatives(caption: str, *, wordnet: WordNet | None = None) -> list[Edit]:
    """Return all captions that say something else in nearly the same words, by the rules.

    Parameters, order and result are those of `positives`; WordNet gives antonyms.

    Examples
    --------
    >>> from fastclip.generation import negatives
    >>> [edit.text for edit in negatives("a wet cat and a big dog")]
    ['a wet cat and a small dog', 'a dry cat and a big dog', 'a big cat and a wet dog']
    """
    edits = list(_replaced(caption, _OTHER))
    halves = _halves(caption)
    if halves:
        edits += _exchanged(*halves)
    if wordnet is not None:
        edits += _looked_up(caption, wordnet.antonyms, "antonym", _OTHER)
    return _different(caption, edits)


def _replaced(caption: str, tables: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterator[Edit]:
    for kind, table in tables.items():
        # Longer ones first: "on top of" is one relation, not "on" and "top".
        either = "|".join(re.escape(old) for old in sorted(table, key=len, reverse=True))
        for match in re.finditer(rf"(?<![\w-])(?:{either})(?![\w-])", caption, re.IGNORECASE):
            if tables is _SAME and caption[: match.start()].lower().endswith("to the "):
                continue  # "to the left of" has it already
            for new in table[match[0].lower()]:
                yield Edit(_with(caption, match, new), kind)


def _with(caption: str, match: re.Match[str], new: str) -> str:
    if match[0][:1].isupper():
        new = new[:1].upper() + new[1:]
    before, after = caption[: match.start()], caption[match.end() :]
    article = re.search(r"(?<!\w)(an?)( +)$", before, re.IGNORECASE)
    if article:
        right = "an" if new[0].lower() in "aeiou" else "a"
        right = right.capitalize() if article[1][0].isupper() else right
        before = before[: article.start()] + right + article[2]
    return before + new + after


def _halves(caption: str) -> tuple[str, str] | None:
    """What stands before and after the only "and", where both are named with a determiner."""
    parts = re.split(r" and ", caption.rstrip(" ."))
    if len(parts) != 2:
        return None
    first, second = parts
    if any(half.split()[0].lower() not in _DETERMINERS for half in parts if half.split()):
        return None
    if not (first.split() and second.split()) or max(map(len, map(str.split, parts))) > 5:
        return None
    return first, second


def _exchanged(first: str, second: str) -> list[Edit]:
    """The words between determiner and noun, each in the other's place."""
    one, other = first.split(), second.split()
    if min(len(one), len(other)) < 3 or one[1:-1] == other[1:-1]:
        return []
    halves = (
        _article([one[0], *other[1:-1], one[-1]]),
        _article([other[0], *one[1:-1], other[-1]]),
    )
    return [Edit(" and ".join(halves), "order")]


def _article(words: list[str]) -> str:
    if words[0].lower() in ("a", "an"):
        words = ["an" if words[1][0].lower() in "aeiou" else "a", *words[1:]]
    return " ".join(words)


def _looked_up(
    caption: str,
    look_up: Callable[[str], list[str]],
    kind: str,
    tables: Mapping[str, Mapping[str, Sequence[str]]],
) -> list[Edit]:
    known = {word for table in tables.values() for words in table for word in words.split()}
    edits = []
    for match in re.finditer(r"[A-Za-z]+", caption):
        word = match[0].lower()
        if word not in known and word not in _NOT_LOOKED_UP:
            edits += [Edit(_with(caption, match, new), kind) for new in look_up(word)[:1]]
    return edits


def _different(caption: str, edits: list[Edit]) -> list[Edit]:
    found: dict[str, Edit] = {}
    for edit in edits:
        if edit.text.lower() != caption.lower():
            found.setdefault(edit.text, edit)
    return list(found.values())
