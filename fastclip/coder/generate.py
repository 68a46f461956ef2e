"""The Auto Text Generator: from class names to what is known of them in words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fastclip.coder.prompts import spaced
from fastclip.coder.sources import FileSource, Source, TextEncoder, WordNetSource, all_pairs
from fastclip.coder.texts import ClassTexts, OneClass, Pair
from fastclip.data.vocabularies.wordnet import plain

SAME = 0.9
"""The cosine above which an analogous class is one of the other classes, as in the paper."""

_MOST_REQUESTS = 6
_SHOWN = 5  # names in a warning

Progress = Callable[[int, int], None]


def generate_texts(
    class_names: Sequence[str],
    source: str | os.PathLike[str] | Source | Sequence[Source] = "wordnet",
    *,
    model: TextEncoder | None = None,
    pairs: Iterable[Pair] | None = None,
    progress: Progress | None = None,
) -> ClassTexts:
    """Return attributes, analogous classes, synonyms and one-to-one texts of classes.

    Analogous classes that name one of the other classes are rejected, and the source is asked for
    others, up to six times. With a model, those are rejected whose name, in "a photo of {}", has a
    cosine above 0.9 with one of the other classes; without, equal names alone.

    Parameters
    ----------
    class_names : sequence of C str
        Different from each other.
    source : "wordnet", path of a JSON file, Source, or sequence of Source
        Of a file, the texts are attributes: use `FileSource` for others. The texts of several
        sources are merged, each asked in turn.
    model : Model, optional
        Encodes texts: to reject analogous classes, and to pick meanings in WordNet.
    pairs : iterable of (name, other name), optional
        Which one-to-one texts are wanted. Default: all C (C - 1); for sources that cost money,
        `confusable_pairs`.
    progress : callable, optional
        Called with the number of requests that are done and that of all.

    Returns
    -------
    ClassTexts
        Kinds of text that classes lack are in `ClassTexts.missing`; a UserWarning names classes of
        which nothing but the name is known.

    Raises
    ------
    TypeError, ValueError
        There are no names, one is empty or occurs twice, or a pair is not of two of them.

    Examples
    --------
    >>> from fastclip.coder import generate_texts
    >>> known = generate_texts(["zebra", "giraffe"])
    >>> known.classes[0].sentences
    ('a photo of zebra, any of several fleet black-and-white striped African equines.',)
    >>> known.classes[0].analogous[:2], known.classes[1].synonyms
    (('quagga', 'horse'), ('camelopard', 'giraffa camelopardalis'))
    """
    names = tuple(class_names)
    wanted = all_pairs(names) if pairs is None else list(pairs)
    ClassTexts(tuple(map(OneClass, names)), dict.fromkeys(wanted, ()))  # checks both
    result: ClassTexts | None = None
    sources = _sources(source, model)
    different = _Different(names, model)
    total = len(sources) * (len(names) + len(wanted))
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for one in sources:
        classes = []
        for row, name in enumerate(names):
            described = one.describe(name)
            chosen = _analogous(one, described, row, different)
            classes.append(replace(described, name=name, analogous=chosen))
            count()
        one_to_one = {}
        for pair in wanted:
            features = one.contrast(*pair)
            if features:
                one_to_one[pair] = features
            count()
        found = ClassTexts(tuple(classes), one_to_one, (one.name,))
        result = found if result is None else result.merged(found)
    assert result is not None
    unknown = [one.name for one in result.classes if one == OneClass(one.name)]
    if unknown:
        warnings.warn(f"nothing but the name is known of {_some(unknown, names)}", stacklevel=2)
    return result


def lacking(known: ClassTexts) -> list[str]:
    """Return a line for each kind of text that classes lack."""
    lines = []
    for kind, names in known.missing().items():
        if names:
            lines.append(f"no {kind.replace('_', '-')} of {_some(names, known.names)}")
    return lines


def _some(names: Sequence[str], of: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{len(names)} of {len(of)} classes: {shown}"


def _sources(
    source: str | os.PathLike[str] | Source | Sequence[Source], model: TextEncoder | None
) -> list[Source]:
    if isinstance(source, (str, os.PathLike)):
        if source == "wordnet":
            return [WordNetSource(model)]
        if not Path(source).is_file():
            raise FileNotFoundError(f"source: is {str(source)!r}, allowed: 'wordnet' or a file")
        return [FileSource(source, "attributes")]
    if isinstance(source, Sequence):
        sources: list[Source] = [*source]
    else:
        sources = [source]
    if not sources:
        raise ValueError("source: at least one is needed, got none")
    return sources


class _Different:
    """Which analogous classes are none of the other classes."""

    def __init__(self, names: Sequence[str], model: TextEncoder | None) -> None:
        self._names = [plain(name) for name in names]
        self._model = model
        self._rows = None if model is None else model.encode_text(_prompts(names))

    def __call__(self, candidates: list[str], own: int) -> list[str]:
        """Return the candidates that no class has for a name, and no class but ``own`` is like."""
        candidates = [name for name in candidates if plain(name) not in self._names]
        if self._model is None or self._rows is None or not candidates:
            return candidates
        cosines = self._model.encode_text(_prompts(candidates)) @ self._rows.T
        cosines[:, own] = -1.0
        like = (cosines > SAME).any(1).tolist()
        return [name for name, is_like in zip(candidates, like, strict=True) if not is_like]


def _analogous(
    source: Source, described: OneClass, own: int, different: _Different
) -> tuple[str, ...]:
    """Return as many analogous classes as the source named first, none of them another class."""
    wanted = len(described.analogous)
    accepted: list[str] = []
    seen: list[str] = []
    for request in range(1 + _MOST_REQUESTS):
        candidates = source.more_analogous(described.name, seen) if request else described.analogous
        new = [name for name in dict.fromkeys(candidates) if name not in seen]
        seen += new
        accepted += different(new, own)
        if len(accepted) >= wanted or not new:
            break
    return tuple(accepted[:wanted])


def _prompts(names: Sequence[str]) -> list[str]:
    return [f"a photo of {spaced(name)}" for name in names]
