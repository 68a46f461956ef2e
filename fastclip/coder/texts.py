"""What is known of classes in words, in memory and in a file that people can edit."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from fastclip.coder._json import read_json
from fastclip.coder.prompts import (
    KINDS,
    Prompts,
    TextTemplates,
    fill,
    spaced,
    text_templates,
)
from fastclip.coder.protocol import deviations
from fastclip.data.files import dump_json

FORMAT = "fastclip.class-texts"
VERSION = 1

Pair = tuple[str, str]


@dataclass(frozen=True)
class OneClass:
    """What is known of one class.

    Parameters
    ----------
    name : str
    attributes : tuple of str
        What it has, such as "long ears": completes "a rabbit which has ...".
    sentences : tuple of str
        Whole texts about it, used as they are.
    analogous : tuple of str
        Names of other things that look similar.
    synonyms : tuple of str
        Other names of it.

    Raises
    ------
    TypeError, ValueError
        A text is no str, or is empty.
    """

    name: str
    attributes: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    analogous: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        for key in TEXT_FIELDS:
            object.__setattr__(self, key, _texts(f"{key} of {self.name!r}", getattr(self, key)))


TEXT_FIELDS = ("attributes", "sentences", "analogous", "synonyms")


@dataclass(frozen=True)
class ClassTexts:
    """What is known of C classes in words: the product of the text generator.

    Parameters
    ----------
    classes : tuple of C OneClass
        With different names; C >= 1.
    one_to_one : mapping from (name, other name) to tuple of str
        What one class shows that tells it from another, such as "a long tail".
    sources : tuple of str
        Where the texts come from.

    Raises
    ------
    TypeError, ValueError
        No classes, a name that occurs twice, a pair of classes that are not there, or a text
        that is no str or empty.

    Examples
    --------
    >>> from fastclip.coder import ClassTexts, OneClass
    >>> known = ClassTexts(
    ...     (OneClass("cat", attributes=("whiskers",)), OneClass("dog", synonyms=("hound",))),
    ...     {("cat", "dog"): ("pointed ears",)},
    ... )
    >>> known.prompts().texts
    ('cat which has whiskers', 'a photo of cat', 'a photo of dog', 'a photo of hound')
    >>> known.missing()["attributes"]
    ('dog',)
    """

    classes: tuple[OneClass, ...]
    one_to_one: Mapping[Pair, tuple[str, ...]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if not self.classes:
            raise ValueError("classes: at least one is needed, got none")
        seen: set[str] = set()
        for one in self.classes:
            if not isinstance(one, OneClass):
                raise TypeError(f"classes: OneClass is needed, got {type(one).__name__}")
            if one.name in seen:
                raise ValueError(f"classes: the name {one.name!r} occurs twice")
            seen.add(one.name)
        pairs = {}
        for pair, features in self.one_to_one.items():
            name, other = pair
            if name == other or name not in seen or other not in seen:
                raise ValueError(
                    f"one_to_one: two different names of classes are needed, got {pair!r}"
                )
            pairs[name, other] = _texts(f"one_to_one of {pair!r}", features)
        object.__setattr__(self, "one_to_one", pairs)
        object.__setattr__(self, "sources", _texts("sources", self.sources))

    @property
    def names(self) -> tuple[str, ...]:
        """The C names."""
        return tuple(one.name for one in self.classes)

    def missing(self) -> dict[str, tuple[str, ...]]:
        """Return, for each kind of text, the classes without one.

        ``"one_to_one"`` holds the classes that no text tells from any other.
        """
        told = {name for (name, _), features in self.one_to_one.items() if features}
        result = {
            key: tuple(one.name for one in self.classes if not getattr(one, key))
            for key in TEXT_FIELDS
        }
        result["one_to_one"] = tuple(name for name in self.names if name not in told)
        return result

    def merged(self, other: ClassTexts) -> ClassTexts:
        """Return the texts of both, those of ``self`` first; repeats are dropped.

        Raises
        ------
        ValueError
            The classes differ.
        """
        if set(self.names) != set(other.names):
            differ = sorted(set(self.names) ^ set(other.names))
            raise ValueError(f"other: must be about the same classes, differs in {differ[:5]}")
        theirs = {one.name: one for one in other.classes}
        classes = [
            OneClass(
                one.name,
                **{key: getattr(one, key) + getattr(theirs[one.name], key) for key in TEXT_FIELDS},
            )
            for one in self.classes
        ]
        pairs = {
            pair: (*self.one_to_one.get(pair, ()), *other.one_to_one.get(pair, ()))
            for pair in {**self.one_to_one, **other.one_to_one}
        }
        return ClassTexts(tuple(classes), pairs, self.sources + other.sources)

    def prompts(
        self,
        templates: TextTemplates | str | os.PathLike[str] = "default",
        *,
        protocol: str | Collection[str] = "honest",
    ) -> Prompts:
        """Return the texts to encode.

        Parameters
        ----------
        templates : TextTemplates, or what `text_templates` takes
        protocol : "honest", "authors", or names of `DEVIATIONS`
            "authors": with what the public scripts do to names, synonyms and, in "textures",
            frames. The words of one-to-one texts and of "textures" are fastclip's own, for the
            authors' may not ship; `benches/coder_templates.py` makes a file of theirs.

        Returns
        -------
        Prompts
            Spaces stand for underscores in names.
        """
        if not isinstance(templates, TextTemplates):
            templates = text_templates(templates)
        return _make_prompts(self, templates, protocol)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file for people to edit, all of it or nothing.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "sources": self.sources,
            "classes": [
                {"name": one.name, **{key: getattr(one, key) for key in TEXT_FIELDS}}
                for one in self.classes
            ],
            "one_to_one": [
                {"name": name, "other": other, "features": features}
                for (name, other), features in self.one_to_one.items()
            ],
        }
        dump_json(Path(path), content, indent=1, ensure_ascii=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ClassTexts:
        """Read what `save` wrote; every key but the names may be left out.

        Raises
        ------
        ValueError
            Another format or version, or something in it is not allowed.
        OSError
            The file cannot be read.
        """
        content = read_json(path)
        try:
            return cls._from_json(content)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def _from_json(cls, content: Any) -> ClassTexts:
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"an object with format {FORMAT!r} is needed")
        if content.get("version") != VERSION:
            raise ValueError(f"version {content.get('version')!r}, allowed: {VERSION}")
        for key in ("classes", "one_to_one", "sources"):
            if not isinstance(content.get(key, []), list):
                raise ValueError(f"{key}: a list is needed, got {content[key]!r:.60}")
        pairs: dict[Pair, tuple[str, ...]] = {}
        for entry in content.get("one_to_one", []):
            _check_keys(entry, ("name", "other", "features"))
            pair = entry["name"], entry["other"]
            for name in pair:
                _check_text("name of one_to_one", name)
            features = _texts(f"one_to_one of {pair!r}", entry["features"])
            pairs[pair] = (*pairs.get(pair, ()), *features)
        classes = []
        for entry in content.get("classes", []):
            _check_keys(entry, [key.name for key in fields(OneClass)], needed=("name",))
            classes.append(OneClass(**entry))
        return cls(tuple(classes), pairs, content.get("sources", ()))


def _make_prompts(
    known: ClassTexts, templates: TextTemplates, protocol: str | Collection[str]
) -> Prompts:
    wrong = deviations(protocol)
    texts: list[str] = []
    class_of: list[int] = []
    kind_of: list[int] = []

    def read(name: str) -> str:
        return name if "raw-names" in wrong else spaced(name)

    for index, one in enumerate(known.classes):
        name = read(one.name)
        synonyms = ["None"] * len(one.synonyms) if "none-synonyms" in wrong else one.synonyms
        of_kind: Mapping[str, list[str]] = {
            "attribute": [
                fill(templates.attribute, name=name, attribute=a) for a in one.attributes
            ],
            "sentence": list(one.sentences),
            "analogous": [
                fill(templates.analogous, name=name, other=read(a)) for a in one.analogous
            ],
            "name": [fill(templates.name, name=spaced(one.name))],
            "synonym": [fill(templates.name, name=spaced(s)) for s in synonyms],
        }
        for kind, of_class in of_kind.items():
            texts += of_class
            class_of += [index] * len(of_class)
            kind_of += [KINDS.index(kind)] * len(of_class)

    frames = templates.one_to_one
    if "glued-frames" in wrong and templates == text_templates("textures"):
        frames = (frames[0] + frames[1], *frames[2:])
    row = {name: i for i, name in enumerate(known.names)}
    pair_texts, pair_of = [], []
    for (name, other), features in known.one_to_one.items():
        for feature in features:
            for frame in frames:
                pair_texts.append(fill(frame, name=read(name), other=read(other), feature=feature))
                pair_of.append((row[name], row[other]))
    return Prompts(
        known.names,
        tuple(texts),
        torch.tensor(class_of, dtype=torch.int64),
        torch.tensor(kind_of, dtype=torch.int64),
        tuple(pair_texts),
        torch.tensor(pair_of, dtype=torch.int64).reshape(-1, 2),
    )


def _check_keys(entry: Any, keys: Iterable[str], needed: Iterable[str] | None = None) -> None:
    allowed = tuple(keys)
    if not isinstance(entry, dict):
        raise ValueError(f"an object with {', '.join(allowed)} is needed, got {entry!r}")
    for key in set(entry) - set(allowed):
        raise ValueError(f"{key!r} in {entry}, allowed: {', '.join(allowed)}")
    for key in allowed if needed is None else needed:
        if key not in entry:
            raise ValueError(f"{key!r} is missing in {entry}")


def _texts(name: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Check texts and drop repeats."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise TypeError(f"{name}: a sequence of str is needed, got {type(texts).__name__}")
    found = tuple(dict.fromkeys(texts))
    for text in found:
        _check_text(name, text)
    return found


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name}: str is needed, got {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{name}: a text is empty")
