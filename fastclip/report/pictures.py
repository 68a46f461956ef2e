"""The demonstration on pictures: the small model names drawings and finds what scenes show."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fastclip.data.scenes import (
    Drawings,
    SceneMaker,
    caption,
    compose,
    composed_captions,
    load_drawings,
    placed_alone,
)
from fastclip.ops import TopK, pack, rank, topk

CAPTIONS = 100_000
SCENES = 200
_SHOWN = 128  # pixels of a side on the page
_SEED = 1


@dataclass(frozen=True)
class Example:
    """A picture as the page shows it."""

    picture: str  # data URI
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
        Of the S scenes.
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
        """12 drawings, evenly spaced from the best to the worst rank of the right name."""
        images = compose(
            self.drawings,
            [placed_alone(self.drawings, i) for i in range(len(self.drawings))],
            _SHOWN,
        )[0]
        right = [self.drawings.names[i] for i in self.drawings.name_index]
        return _examples(images, right, self.names, self.named, self.name_ranks, 12)

    def shown_scenes(self) -> list[Example]:
        """12 scenes, evenly spaced from the best to the worst rank of their own caption."""
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
    >>> from fastclip.report import run_pictures
    >>> pictures = run_pictures(captions=200)
    >>> pictures.found.indices.shape
    torch.Size([200, 5])
    """
    if captions < SCENES:
        raise ValueError(f"captions: must be at least {SCENES}, one for each scene, got {captions}")
    from fastclip.models import load
    from fastclip.models.tiny import known_names
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
    """Share of ``ranks`` that are among the first k."""
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
    rows = order[torch.arange(count) * (len(order) - 1) // (count - 1)]
    return [
        Example(
            _data_uri(images[row]),
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


def _data_uri(image: torch.Tensor) -> str:
    """[3, H, W] from 0 to 1 as a PNG that stands in the page itself."""
    from PIL import Image

    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
