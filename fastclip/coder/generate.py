"""The Auto Text Generator: from class names to what is known of them in words."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fastclip.coder.file_source import FileSource
from fastclip.coder.prompts import spaced
from fastclip.coder.protocol import deviations
from fastclip.coder.sources import Source, TextEncoder, WordNetSource, all_pairs
from fastclip.coder.texts import ClassTexts, OneClass, Pair
from fastclip.data.parallel import in_order
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
    protocol: str | Collection[str] = "honest",
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
    protocol : "honest", "authors", or names of `DEVIATIONS`
        "six-requests" among them, as in "authors": all that the requests bring is kept.
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
        There are no names, one is empty or occurs twice, a pair is not of two of them, or the
        protocol is unknown.

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
    asks_on = "six-requests" in deviations(protocol)
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
        workers = getattr(one, "workers", 1)
        classes = []
        for described in in_order(
            partial(_describe, one, names, different, asks_on), range(len(names)), workers
        ):
            classes.append(described)
            count()
        one_to_one = {}
        contrasts = in_order(partial(_contrast, one), wanted, workers)
        for pair, features in zip(wanted, contrasts, strict=True):
            if features:
                one_to_one[pair] = features
            count()
        found = ClassTexts(tuple(classes), one_to_one, (one.name,))
        result = found if result is None else result.merged(found)
    assert result is not None
    told = {name for name, _ in result.one_to_one}
    unknown = [
        one.name for one in result.classes if one == OneClass(one.name) and one.name not in told
    ]
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


def _describe(
    source: Source, names: Sequence[str], different: _Different, asks_on: bool, row: int
) -> OneClass:
    described = source.describe(names[row])
    chosen = _analogous(source, described, row, different, asks_on)
    return replace(described, name=names[row], analogous=chosen)


def _contrast(source: Source, pair: Pair) -> tuple[str, ...]:
    return source.contrast(*pair)


class _Different:
    """Which analogous classes are none of the other classes."""

    def __init__(self, names: Sequence[str], model: TextEncoder | None) -> None:
        self._names = [plain(name) for name in names]
        self._model = model
        self._rows = None if model is None else model.encode_text(_prompts(names))
        self._lock = threading.Lock()

    def __call__(self, candidates: list[str], own: int) -> list[str]:
        """Return the candidates that no class has for a name, and no class but ``own`` is like."""
        candidates = [name for name in candidates if plain(name) not in self._names]
        if self._model is None or self._rows is None or not candidates:
            return candidates
        with self._lock:  # models need not be safe to call from several threads
            cosines = self._model.encode_text(_prompts(candidates)) @ self._rows.T
        cosines[:, own] = -1.0
        like = (cosines > SAME).any(1).tolist()
        return [name for name, is_like in zip(candidates, like, strict=True) if not is_like]


def _analogous(
    source: Source, described: OneClass, own: int, different: _Different, asks_on: bool
) -> tuple[str, ...]:
    """Return as many analogous classes as the source named first, none of them another class.

    With ``asks_on``, all that six requests bring, as soon as one was rejected.
    """
    wanted = len(described.analogous)
    accepted: list[str] = []
    seen: list[str] = []
    for request in range(1 + _MOST_REQUESTS):
        known = [*seen[:-1], seen[-1][:-1]] if asks_on and seen else seen
        candidates = (
            source.more_analogous(described.name, known) if request else described.analogous
        )
        new = [name for name in dict.fromkeys(candidates) if name not in seen]
        seen += new
        accepted += different(new, own)
        if asks_on and len(accepted) < len(seen):
            continue
        if len(accepted) >= wanted or not new:
            break
    return tuple(accepted if asks_on else accepted[:wanted])


def _prompts(names: Sequence[str]) -> list[str]:
    return [f"a photo of {spaced(name)}" for name in names]
