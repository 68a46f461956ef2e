"""Zero-shot classification: the names of a vocabulary that fit images best."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, SupportsIndex, TypeAlias

import torch

from fastclip.data import (
    ImageSource,
    Unreadable,
    embed_images,
    embed_texts,
    find_images,
    read_features,
)
from fastclip.data.checks import check_strings, did_you_mean
from fastclip.data.files import folder_or_temporary
from fastclip.data.job_folder import Progress
from fastclip.data.vocabularies.class_lists import PHOTO
from fastclip.data.vocabularies.wordnet import plain
from fastclip.engine.checks import as_integer
from fastclip.models import Model, load
from fastclip.ops import logsumexp, pack, topk

_K = 5
_TEXT_BATCH = 1024

Labels: TypeAlias = Literal["folders"] | Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Classification:
    """What `classify` found: N images that could be read, V names, k names of each image.

    Attributes
    ----------
    names : tuple of str
        The vocabulary.
    image_names : tuple of str
        As `fastclip.data.find_images` names them.
    indices : int64 tensor [N, k]
        Places in `names`, the best first; of equal cosines the lower place.
    cosines : float32 tensor [N, k]
    probabilities : float32 tensor [N, k]
        Of the softmax over all V names, at the model's temperature.
    labels : int64 tensor [N] or None
        The place in `names` of the right one; -1 where it is not known. None if none is known.
    unreadable : tuple of Unreadable
        Images that were skipped, and why.
    source : ImageSource
        All images; `places` [N] says which of them the rows are.
    places : tuple of int
    model : str
        What the model is called.
    templates : tuple of str
        The prompts.
    """

    names: tuple[str, ...]
    image_names: tuple[str, ...]
    indices: torch.Tensor
    cosines: torch.Tensor
    probabilities: torch.Tensor
    labels: torch.Tensor | None
    unreadable: tuple[Unreadable, ...]
    source: ImageSource
    places: tuple[int, ...]
    model: str
    templates: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image_names)

    @property
    def k(self) -> int:
        """How many names each image has."""
        return self.indices.shape[1]

    @property
    def labelled(self) -> int:
        """Number of the images whose right name is known."""
        return 0 if self.labels is None else int((self.labels >= 0).sum())

    def accuracy(self, k: int = 1) -> float:
        """Return the share of the labelled images whose right name is among the first ``k``.

        NaN where no image is labelled.
        """
        if self.labels is None or not self.labelled:
            return float("nan")
        right = (self.indices[:, :k] == self.labels[:, None]).any(1)
        return float(right[self.labels >= 0].double().mean())

    def confusions(self, most: int = 10) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return the most frequent pairs of a right name and another one that came first.

        Each with the rows of its images. Of equally frequent pairs, the one whose names come first.
        """
        if self.labels is None:
            return []
        wrong = ((self.labels >= 0) & (self.indices[:, 0] != self.labels)).nonzero()[:, 0].tolist()
        pair = {row: (int(self.labels[row]), int(self.indices[row, 0])) for row in wrong}
        counts = Counter(pair.values())
        order = sorted(counts, key=lambda one: (-counts[one], one))[:most]
        rows = {one: tuple(row for row in wrong if pair[row] == one) for one in order}
        return [(self.names[a], self.names[b], rows[a, b]) for a, b in order]


def classify(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | ImageSource,
    names: Sequence[str],
    model: str | os.PathLike[str] | Model = "tiny",
    *,
    pretrained: str | None = None,
    model_name: str | None = None,
    k: SupportsIndex | None = None,
    templates: Sequence[str] = PHOTO,
    labels: Labels = "folders",
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Classification:
    """Classify images without training: return the k names of a vocabulary that fit each best.

    A name is the mean of its prompts' features, each of unit length, brought to unit length again:
    CLIP's ensemble, as open_clip's ``build_zero_shot_classifier`` makes it. The names of an image
    are those of the largest cosines, exactly as `fastclip.topk` finds them, without the matrix of
    images by names.

    Parameters
    ----------
    images : path-like, sequence of path-like, or ImageSource
        What `fastclip.data.find_images` lists: a folder, a pattern, files. Images that cannot be
        read are skipped and reported.
    names : sequence of V str, V >= 1
        The vocabulary, such as ``fastclip.data.vocabularies.vocabulary("lvis")``. Duplicates count
        once.
    model : str, path-like or Model
        As in `fastclip.models.load`. The default ships with fastclip and is for trying things out.
    pretrained : str, optional
        Weights of the architecture, such as ``"openai"``.
    model_name : str, optional
        What a Model is called, if it is given as one.
    k : int, optional, 1 <= k <= V
        Default: 5, or V if that is less.
    templates : sequence of str
        Prompts with ``{}`` for the name: `fastclip.models.templates`.
    labels : "folders", sequence of str, or None
        The right name of each image, in the order of the source and also for those that cannot be
        read; an empty string where it is not known. ``"folders"``: the name of the folder that an
        image is in, where that is a name of the vocabulary. Case and underscores make no
        difference.
    cache : path-like, optional
        A folder to keep features in: what was computed there is not computed again.
    progress : callable, optional
        Called with "images" or "names", it returns a function for the number done and that of all.

    Returns
    -------
    Classification

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, OSError
        As the functions above; there is no name, a label that is none of them, or a number of
        labels that is not that of the images.

    Examples
    --------
    >>> import fastclip, tempfile
    >>> from pathlib import Path
    >>> from fastclip.data.scenes import load_drawings
    >>> from fastclip.data.scenes.writing import write_scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_scenes(load_drawings(), Path(folder), count=2, seed=0, kind="single")
    ...     found = fastclip.classify(f"{folder}/images", ["boat", "cow", "horse", "tree"])
    >>> [found.names[i] for i in found.indices[:, 0]]
    ['horse', 'cow']
    """
    check_strings("names", names)
    vocabulary = tuple(dict.fromkeys(names))
    if not vocabulary:
        raise ValueError("names: is empty, allowed: at least one name")
    best = min(_K, len(vocabulary)) if k is None else as_integer("k", k)
    if not 1 <= best <= len(vocabulary):
        raise ValueError(f"k: is {best}, allowed: 1 to {len(vocabulary)}, the number of names")
    source = images if isinstance(images, ImageSource) else find_images(images)
    truth = _labels(labels, source, images, vocabulary)
    encoder = model if isinstance(model, Model) else load(model, pretrained)
    name = model_name if isinstance(model, Model) else os.fspath(model)
    bars = progress or (lambda what: lambda done, total: None)

    with folder_or_temporary(cache) as folder:
        key = [name, pretrained, encoder.precision]
        place = folder / f"images-{_digest(*key, source.digest())}"
        summary = embed_images(
            source, encoder, place, model_name=name, pretrained=pretrained, progress=bars("images")
        )
        rows = read_features(place)
        place = folder / f"names-{_digest(*key, vocabulary, tuple(templates))}"
        embed_texts(
            vocabulary,
            encoder,
            place,
            model_name=name,
            pretrained=pretrained,
            templates=templates,
            batch_size=_TEXT_BATCH,
            progress=bars("names"),
        )
        texts = pack(read_features(place).normalized().features)
        found = rows.normalized().features
        values, indices = topk(found, texts, best)
        exponents = encoder.logit_scale * values.double()
        exponents -= logsumexp(found, texts, encoder.logit_scale).double()[:, None]
    unreadable = {image.index for image in summary.unreadable}
    places = tuple(row for row in range(len(source)) if row not in unreadable)
    return Classification(
        names=vocabulary,
        image_names=tuple(source.names[row] for row in places),
        indices=indices,
        cosines=values,
        probabilities=exponents.clamp(max=0).exp().float(),
        labels=None if truth is None else truth[list(places)],
        unreadable=summary.unreadable,
        source=source,
        places=places,
        model=" ".join(filter(None, (name or "model", pretrained))),
        templates=tuple(templates),
    )


def _labels(
    labels: Labels, source: ImageSource, images: object, names: Sequence[str]
) -> torch.Tensor | None:
    """Return the place of each image's name, -1 where it is not known; None where none is."""
    if labels is None:
        return None
    place_of: dict[str, int] = {}
    for place, name in enumerate(names):
        place_of.setdefault(plain(name), place)
    if isinstance(labels, str):
        if labels != "folders":
            raise ValueError(f"labels: is {labels!r}, allowed: 'folders', a sequence or None")
        given = [PurePath(name).parent.name for name in source.names]
        listed = isinstance(images, Sequence) and not isinstance(images, str)
        if listed and len(set(given)) == 1:
            return None  # the one folder of files that were given by name says nothing of them
        found = [place_of.get(plain(folder), -1) for folder in given]
        return torch.tensor(found) if max(found, default=-1) >= 0 else None
    check_strings("labels", labels)
    if len(labels) != len(source):
        raise ValueError(f"labels: {len(labels)}, allowed: one for each of {len(source)} images")
    exact = {name: place for place, name in enumerate(names)}
    found = []
    for row, label in enumerate(labels):
        at = exact.get(label, place_of.get(plain(label), -1))
        if at < 0 and label:
            raise ValueError(
                f"labels[{row}]: {label!r} is no name of the vocabulary"
                + did_you_mean(label, names)
            )
        found.append(at)
    return torch.tensor(found)


def _digest(*parts: object) -> str:
    """Short, for the name of a folder: the job in it compares what it was asked by itself."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
