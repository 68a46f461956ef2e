"""The demonstration on what ships: the small model on drawings, features of CLIP on photos."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastclip.data import Features, load_sample
from fastclip.data.scenes import (
    Drawings,
    SceneMaker,
    caption,
    compose,
    composed_captions,
    load_drawings,
    placed_alone,
)
from fastclip.metrics import Retrieval, retrieval
from fastclip.models import load
from fastclip.models.tiny import known_names
from fastclip.ops import TopK, pack, rank, topk

KS = (1, 5, 10)
VOCABULARIES = {"objects365": "Objects365", "openimages": "Open Images", "coco": "COCO"}

COUNTERPART = 0.95
"""Cosine from which a name counts as a counterpart: equal names reach 1, names that differ in an
underscore, as many of LVIS do, 0.92 to 0.99."""

_EXAMPLES = 12


@dataclass(frozen=True, eq=False)
class Demo:
    """Results of :func:`run_demo`; all features have rows of unit length.

    Attributes
    ----------
    images, captions : Features
        Row i of one belongs to row i of the other.
    to_captions : TopK
        The 10 best captions of each image.
    retrieval : Retrieval
        Of images and captions, for ``KS``.
    lvis : Features
    vocabularies, nearest : dict
        For each name in ``VOCABULARIES``: its features, and the one nearest to each LVIS class.
    seconds : float
        Time of all searches.
    """

    images: Features
    captions: Features
    to_captions: TopK
    retrieval: Retrieval
    lvis: Features
    vocabularies: dict[str, Features]
    nearest: dict[str, TopK]
    seconds: float

    @property
    def recalls(self) -> dict[str, dict[int, float]]:
        """Recall at 1, 5 and 10 in both directions."""
        return {
            "image to text": self.retrieval.image_to_text.recall,
            "text to image": self.retrieval.text_to_image.recall,
        }

    @property
    def scores(self) -> int:
        """How many scores the searches looked at."""
        names = sum(map(len, self.vocabularies.values()))
        return 3 * len(self.images) * len(self.captions) + len(self.lvis) * names

    def counterparts(self, vocabulary: str) -> int:
        """Count the LVIS classes with a name of cosine >= ``COUNTERPART`` in ``vocabulary``."""
        return int((self.nearest[vocabulary].values >= COUNTERPART).sum())

    def selection(self) -> list[int]:
        """Choose 12 LVIS classes, from the best to the worst counterpart.

        They lie at evenly spaced quantiles of the best cosine over the three vocabularies.
        """
        best = torch.cat([found.values for found in self.nearest.values()], dim=1).amax(dim=1)
        order = best.argsort(descending=True, stable=True)
        return [int(row) for row in order[evenly_spaced(len(order), _EXAMPLES)]]

    def match(self, vocabulary: str, row: int) -> dict[str, Any]:
        """Name and score of the nearest name to an LVIS class."""
        found = self.nearest[vocabulary]
        return match(self.vocabularies[vocabulary], found, row, 0)


def run_demo() -> Demo:
    """Search the shipped features: captions of images, images of captions, names like LVIS's.

    Examples
    --------
    >>> from fastclip.demo import run_demo
    >>> run_demo().recalls["image to text"]
    {1: 0.552, 5: 0.808, 10: 0.892}
    """
    images, captions, lvis = (
        load_sample(name).normalized() for name in ("coco-images", "coco-captions", "lvis")
    )
    vocabularies = {name: load_sample(name).normalized() for name in VOCABULARIES}
    start = time.perf_counter()
    to_captions = topk(images.features, captions.features, k=max(KS))
    found = retrieval(images.features, captions.features, ks=KS)
    nearest = {
        name: topk(lvis.features, vocabulary.features, k=1)
        for name, vocabulary in vocabularies.items()
    }
    seconds = time.perf_counter() - start
    return Demo(images, captions, to_captions, found, lvis, vocabularies, nearest, seconds)


def match(keys: Features, found: TopK, row: int, place: int) -> dict[str, Any]:
    """Return name and score of what was found for a row, at a place from 0."""
    assert keys.names is not None
    name = keys.names[int(found.indices[row, place])]
    return {"name": name.strip(), "score": found.values[row, place].item()}


def evenly_spaced(length: int, count: int) -> torch.Tensor:
    """Return ``count`` places from the first to the last of ``length``."""
    return torch.arange(count) * (length - 1) // (count - 1)


CAPTIONS = 100_000
SCENES = 200
_SHOWN = 128  # pixels of a side on the page
_SEED = 1


@dataclass(frozen=True)
class Example:
    """A picture as the page shows it."""

    picture: torch.Tensor  # [3, H, W], from 0 to 1
    right: str
    rank: int  # of what is right, from 1
    matches: list[tuple[str, float]]  # what was found, with scores, best first


@dataclass(frozen=True, eq=False)
class Pictures:
    """Results of :func:`run_pictures`. Ranks are from 0.

    Attributes
    ----------
    drawings : Drawings
        D drawings of artwork that the model was not trained on, of names that it was.
    names : tuple of str
        All names that the model was trained on.
    named : TopK
        [D, 5]: the best names of each drawing.
    name_ranks : tensor [D]
        Where the right name stands among all.
    scenes : tensor [S, 3, 128, 128]
        Pictures of two drawings each, from 0 to 1.
    own_captions : tuple of str
        Captions of the S scenes.
    captions : tuple of str
        All that were searched.
    found : TopK
        [S, 5]: the best captions of each scene.
    caption_ranks : tensor [S]
        Where a scene's own caption stands among all.
    seconds : float
        Time of the search for captions: packing, the best 5 and the rank.
    """

    drawings: Drawings
    names: tuple[str, ...]
    named: TopK
    name_ranks: torch.Tensor
    scenes: torch.Tensor
    own_captions: tuple[str, ...]
    captions: tuple[str, ...]
    found: TopK
    caption_ranks: torch.Tensor
    seconds: float

    def shown_drawings(self) -> list[Example]:
        """Choose 12 drawings, evenly spaced from the best to the worst rank of the right name."""
        images = compose(
            self.drawings,
            [placed_alone(self.drawings, i) for i in range(len(self.drawings))],
            _SHOWN,
        )[0]
        right = [self.drawings.names[i] for i in self.drawings.name_index]
        return _examples(images, right, self.names, self.named, self.name_ranks, 12)

    def shown_scenes(self) -> list[Example]:
        """Choose 12 scenes, evenly spaced from the best to the worst rank of their own caption."""
        return _examples(
            self.scenes, self.own_captions, self.captions, self.found, self.caption_ranks, 12
        )


def run_pictures(captions: int = CAPTIONS, *, progress: bool = False) -> Pictures:
    """Name the shipped drawings, and find the captions of scenes made of them.

    Parameters
    ----------
    captions : int, at least 200
        How many to search: those of the scenes, and others composed of names that the small model
        knows.
    progress : bool, default False
        Show a bar on stderr while captions are encoded.

    Raises
    ------
    ValueError
        There are fewer captions than scenes.

    Examples
    --------
    >>> from fastclip.demo import run_pictures
    >>> pictures = run_pictures(captions=200)
    >>> pictures.found.indices.shape
    torch.Size([200, 5])
    """
    if captions < SCENES:
        raise ValueError(f"captions: must be at least {SCENES}, one for each scene, got {captions}")
    from fastclip.models.tiny.evaluate import encode_names, encode_pictures, pictures_of_one

    model = load("tiny")
    names = tuple(known_names())
    shipped = load_drawings()
    drawings = shipped.of_names(i for i, name in enumerate(shipped.names) if name in set(names))
    images = encode_pictures(model, pictures_of_one(drawings, range(len(drawings))))
    name_features = encode_names(model, names)
    right = torch.tensor([names.index(drawings.names[i]) for i in drawings.name_index])

    maker = SceneMaker(drawings, _SEED)
    scenes = [maker.scene(i, "pair") for i in range(SCENES)]
    own = tuple(caption(drawings, scene) for scene in scenes)
    different = tuple(dict.fromkeys(own))
    others = composed_captions(names, captions - len(different), seed=_SEED, without=own)
    searched = different + others
    texts = model.encode_text(searched, batch_size=1024, progress=progress)
    queries = encode_pictures(model, compose(drawings, scenes, model.image_size[0])[0])
    target = torch.tensor([different.index(text) for text in own])
    start = time.perf_counter()
    keys = pack(texts)
    found, ranks = topk(queries, keys, 5), rank(queries, keys, target)
    seconds = time.perf_counter() - start
    return Pictures(
        drawings,
        names,
        topk(images, name_features, 5),
        rank(images, name_features, right),
        compose(drawings, scenes, _SHOWN)[0],
        own,
        searched,
        found,
        ranks,
        seconds,
    )


def share_within(ranks: torch.Tensor, k: int) -> float:
    """Return the share of ``ranks`` that are among the first k."""
    return float((ranks < k).float().mean())


def _examples(
    images: torch.Tensor,
    right: Sequence[str],
    keys: Sequence[str],
    found: TopK,
    ranks: torch.Tensor,
    count: int,
) -> list[Example]:
    """``count`` rows, evenly spaced from the best to the worst rank."""
    order = ranks.argsort(stable=True)
    rows = order[evenly_spaced(len(order), count)]
    return [
        Example(
            images[row],
            right[row],
            int(ranks[row]) + 1,
            [
                (keys[key], score)
                for key, score in zip(
                    found.indices[row].tolist(), found.values[row].tolist(), strict=True
                )
            ],
        )
        for row in rows.tolist()
    ]
