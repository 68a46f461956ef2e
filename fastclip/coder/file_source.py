"""Texts about classes from published files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from fastclip.coder._json import decoded, parsed
from fastclip.coder.prompts import spaced
from fastclip.coder.texts import OneClass, Pair
from fastclip.data.checks import check_choice
from fastclip.data.vocabularies.wordnet import plain

FileKind = Literal["attributes", "sentences", "analogous", "synonyms", "one-to-one"]
"""What the texts of a file are."""

_NAMES = ("class", "classname", "name")
_DEFINITIONS = ("def_wiki", "def_wn", "wiktionary", "wordnet")
_TEXTS = ("texts", "gpt3", "syno")


class FileSource:
    """Published descriptions of classes, from a file.

    UTF-8, with or without a further ``.gz``, in one of these forms:

    ========================================  ====================================================
    an object from name to texts              classification by description, CuPL
    an object from name to an object from     CuPL with its questions; the texts of all of them
    questions to texts                        are the class's
    an object from name to an object from     CODER's one-to-one texts, of the ``kind`` of that name
    other names to texts
    a list of objects with ``classname`` and  Elevater
    ``gpt3``, or ``def_wiki`` and ``def_wn``
    a list of objects with ``name`` and       CODER's synonyms
    ``syno``
    lines of objects with ``class`` and       ``.jsonl``
    ``texts``, or ``wiktionary`` and
    ``wordnet``
    ========================================  ====================================================

    CODER's attributes and analogous classes are pickles, which are never read: they can run code.

    Parameters
    ----------
    path : str or path
    kind : "attributes", "sentences", "analogous", "synonyms" or "one-to-one"
        What the texts are. Definitions, put behind the name, are always sentences.
    dataset : str, optional
        Of lines with the key ``dataset``, those with this value alone.

    Raises
    ------
    ValueError
        The file has another form, or another kind of texts; the message names file and place.
    OSError
        The file cannot be read.
    """

    def __init__(
        self, path: str | os.PathLike[str], kind: FileKind, *, dataset: str | None = None
    ) -> None:
        check_choice("kind", kind, get_args(FileKind))
        self.name = Path(path).name
        self._kind = kind
        self._texts: dict[str, list[str]] = {}
        self._definitions: dict[str, list[str]] = {}
        self._pairs: dict[Pair, tuple[str, ...]] = {}
        try:
            for place, row in _rows(Path(path)):
                if dataset is None or row.get("dataset", dataset) == dataset:
                    self._add(place, row)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if not self._texts and not self._definitions and not self._pairs:
            of = "" if dataset is None else f" of dataset {dataset!r}"
            raise ValueError(f"{path}: no texts{of}")

    def describe(self, name: str) -> OneClass:
        """Return the texts of a class; case and underscores make no difference."""
        key = plain(name)
        texts = tuple(self._texts.get(key, ()))
        definitions = tuple(
            f"a photo of {spaced(name)}, {text.rstrip('.')}."
            for text in self._definitions.get(key, ())
        )
        if self._kind == "sentences":
            return OneClass(name, sentences=texts + definitions)
        if self._kind == "attributes":
            return OneClass(name, texts, definitions)
        if self._kind == "analogous":
            return OneClass(name, (), definitions, analogous=texts)
        return OneClass(name, (), definitions, synonyms=texts)

    def more_analogous(self, name: str, rejected: Sequence[str]) -> tuple[str, ...]:
        """Return nothing: a file has no more than `describe` returned."""
        return ()

    def contrast(self, name: str, other: str) -> tuple[str, ...]:
        """Return one-to-one texts, or attributes that the other class lacks."""
        if self._kind == "one-to-one":
            return self._pairs.get((plain(name), plain(other)), ())
        if self._kind != "attributes":  # whole sentences tell no pair apart
            return ()
        lacking = set(self._texts.get(plain(other), ()))
        return tuple(text for text in self._texts.get(plain(name), ()) if text not in lacking)

    def _add(self, place: str, row: dict[str, Any]) -> None:
        names = [row[key] for key in _NAMES if key in row]
        if not names or not isinstance(names[0], str) or not plain(names[0]):
            raise ValueError(f"{place}: a class is needed, {' or '.join(_NAMES)}, got {row!r:.60}")
        name = plain(names[0])
        if "pairs" in row:
            if self._kind != "one-to-one":
                raise ValueError(
                    f"{place}: holds texts that tell it from {next(iter(row['pairs']))!r}, another "
                    "class, allowed: texts; or read it as kind 'one-to-one'"
                )
            for other, texts in row["pairs"].items():
                pair = name, plain(other)
                self._pairs[pair] = self._pairs.get(pair, ()) + tuple(
                    _texts(f"{place}, {other!r}", texts)
                )
            return
        if "syno" in row and self._kind != "synonyms":
            raise ValueError(f"{place}: holds synonyms, allowed with kind 'synonyms' alone")
        for fields, target in ((_TEXTS, self._texts), (_DEFINITIONS, self._definitions)):
            found = [text for key in fields for text in _texts(f"{place}, {key}", row.get(key))]
            if found and self._kind == "one-to-one":
                raise ValueError(
                    f"{place}: a text for each other class is needed, as "
                    '{"cat": {"dog": ["pointed ears"]}}, for kind \'one-to-one\''
                )
            if found:
                target.setdefault(name, []).extend(found)


def _texts(place: str, value: Any) -> list[str]:
    """A text, several, or none, without those that are empty."""
    if value is None:
        return []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            raise ValueError(f"{place}: texts are needed, got {json.dumps(text):.60}")
    return [text.strip() for text in ([value] if isinstance(value, str) else value) if text.strip()]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects with ``class`` and what is known of it, and where each is."""
    text = decoded(path)
    if ".jsonl" in path.suffixes:
        lines = enumerate(text.split("\n"), 1)  # not splitlines, which splits texts at U+2028
        contents = [(f"line {i}", line) for i, line in lines if line.strip()]
        yield from ((place, _object(place, parsed(line, place))) for place, line in contents)
        return
    content = parsed(text)
    if isinstance(content, list):
        rows = enumerate(content, 1)
        yield from ((f"object {i}", _object(f"object {i}", row)) for i, row in rows)
    elif isinstance(content, dict):
        names = {plain(name) for name in content}
        for name, value in content.items():
            yield repr(name), {"class": name, **_inner(repr(name), name, value, names)}
    else:
        raise ValueError(f"an object, a list of objects or lines of objects are needed{_got(text)}")


def _inner(place: str, name: str, value: Any, names: set[str]) -> dict[str, Any]:
    """Texts of a class, of its questions, or for each other class."""
    if not isinstance(value, dict):
        return {"texts": value}
    others = [key for key in value if plain(key) in names - {plain(name)}]
    if not others:
        return {
            "texts": [text for key in value for text in _texts(f"{place}, {key!r}", value[key])]
        }
    strange = [key for key in value if key not in others]
    if strange:
        raise ValueError(
            f"{place}: holds texts of {others[0]!r}, another class, beside {strange[0]!r}, which "
            "is none; either all or none must be classes"
        )
    return {"pairs": value}


def _object(place: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{place}: an object is needed{_got(json.dumps(row))}")
    return row


def _got(text: str) -> str:
    return f", got {text.strip()[:40]}" if text.strip() else ", the file is empty"
