"""Synonyms and antonyms from the database files of WordNet, which do not come with fastclip."""

import os
from functools import lru_cache
from pathlib import Path

_PARTS = ("adj", "verb", "noun", "adv")  # the order in which a word is looked up


class WordNet:
    """The folder of WordNet's database: ``index.noun``, ``data.noun`` and so on.

    Debian's package ``wordnet-base`` puts them into ``/usr/share/wordnet``; nltk and
    https://wordnet.princeton.edu have them as ``dict``.

    Parameters
    ----------
    folder : path-like

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        An index is damaged, or, when a word is looked up, its entry.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._senses_of: dict[str, dict[str, list[int]]] = {}
        self._data: dict[str, bytes] = {}
        for part in _PARTS:
            index, data = (Path(folder) / f"{kind}.{part}" for kind in ("index", "data"))
            for file in (index, data):
                if not file.is_file():
                    raise FileNotFoundError(f"{file}: no such file, a folder of WordNet has it")
            self._data[part] = data.read_bytes()
            self._senses_of[part] = {}
            for number, line in enumerate(index.read_text("latin-1").split("\n"), 1):
                if line and not line.startswith(" "):
                    try:
                        word, senses = _index_entry(line)
                    except (ValueError, IndexError) as error:
                        raise ValueError(
                            f"{index}, line {number}: is no entry of WordNet's index: {line:.60}"
                        ) from error
                    self._senses_of[part][word] = senses
        self._senses = lru_cache(maxsize=4096)(self._look_up)

    def synonyms(self, word: str) -> list[str]:
        """Return single words that mean the same; none for a word of several senses."""
        if sum(len(part.get(word.lower(), ())) for part in self._senses_of.values()) != 1:
            return []
        found = self._senses(word)[0]
        return [other for other in found if other != word.lower() and " " not in other]

    def antonyms(self, word: str) -> list[str]:
        """Return words for the opposite of the first sense of a word."""
        return self._senses(word)[1]

    def _look_up(self, word: str) -> tuple[list[str], list[str]]:
        for part in _PARTS:
            senses = self._senses_of[part].get(word.lower())
            if senses:
                words, pointers = self._synset(part, senses[0])
                lower = [w.lower() for w in words]
                own = lower.index(word.lower()) + 1 if word.lower() in lower else 0
                opposites = [
                    self._synset(part, target)[0][number - 1]
                    for source, target, number in pointers
                    if source in (0, own) and number
                ]
                return lower, opposites
        return [], []

    def _synset(self, part: str, offset: int) -> tuple[list[str], list[tuple[int, int, int]]]:
        """Words, and the antonyms: number of the word here, offset there, number there."""
        try:
            return self._parsed(self._data[part], offset)
        except (ValueError, IndexError) as error:
            file = self._folder / f"data.{part}"
            raise ValueError(f"{file}: holds no whole entry at byte {offset:,}") from error

    @staticmethod
    def _parsed(data: bytes, offset: int) -> tuple[list[str], list[tuple[int, int, int]]]:
        fields = data[offset : data.index(b"|", offset)].decode("latin-1").split()
        count = int(fields[3], 16)
        words = [w.partition("(")[0].replace("_", " ") for w in fields[4 : 4 + 2 * count : 2]]
        at = 4 + 2 * count
        pointers = [fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at]))]
        return words, [
            (int(ends[:2], 16), int(target), int(ends[2:], 16))
            for symbol, target, _, ends in pointers
            if symbol == "!"
        ]


def _index_entry(line: str) -> tuple[str, list[int]]:
    """A word, and where its senses are, the most frequent one first."""
    fields = line.split()
    return fields[0].replace("_", " "), [int(offset) for offset in fields[-int(fields[2]) :]]
