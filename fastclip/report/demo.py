"""The demonstration on the shipped features: two searches, their figures, and a page on them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastclip.config import config
from fastclip.data import Features, load_sample
from fastclip.data.files import replacing
from fastclip.metrics import Retrieval, retrieval
from fastclip.ops import TopK, similarity, topk
from fastclip.report.pictures import Pictures, share_within
from fastclip.report.template import page_template

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
        """How many LVIS classes have a name of cosine >= ``COUNTERPART`` in ``vocabulary``."""
        return int((self.nearest[vocabulary].values >= COUNTERPART).sum())

    def selection(self) -> list[int]:
        """12 LVIS classes, from the best to the worst counterpart.

        They lie at evenly spaced quantiles of the best cosine over the three vocabularies.
        """
        best = torch.cat([found.values for found in self.nearest.values()], dim=1).amax(dim=1)
        order = best.argsort(descending=True, stable=True)
        return [int(row) for row in order[_evenly_spaced(len(order), _EXAMPLES)]]

    def match(self, vocabulary: str, row: int) -> dict[str, Any]:
        """Name and score of the nearest name to an LVIS class."""
        found = self.nearest[vocabulary]
        return _match(self.vocabularies[vocabulary], found, row, 0)


def run_demo() -> Demo:
    """Search the shipped features: captions of images, images of captions, names like LVIS's.

    Examples
    --------
    >>> from fastclip.report import run_demo
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


def write_page(path: str | os.PathLike[str], demo: Demo, pictures: Pictures) -> None:
    """Write one HTML file on both results that loads nothing from elsewhere.

    The same results, times included, on the same configuration give the same bytes.

    Parameters
    ----------
    path : path
        An existing file is replaced; the new one appears whole or not at all.
    demo : Demo
    pictures : Pictures

    Raises
    ------
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastclip.report import run_demo, run_pictures, write_page
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = pathlib.Path(folder) / "demo.html"
    ...     write_page(page, run_demo(), run_pictures(captions=200))
    ...     page.read_text().splitlines()[0]
    '<!doctype html>'
    """
    from fastclip.report import figures

    cosines = {title: demo.nearest[name].values[:, 0] for name, title in VOCABULARIES.items()}
    page = page_template("demo.html.j2").render(
        demo=demo,
        recall_figure=figures.recall_bars(demo.recalls),
        cosine_figure=figures.cosine_histograms(cosines, COUNTERPART),
        groups=_gallery(demo),
        pictures=pictures,
        share_within=share_within,
        vocabularies=VOCABULARIES,
        counterpart=COUNTERPART,
        config=config(),
    )
    with replacing(Path(path)) as part:
        part.write_text(page, encoding="utf-8")


def _gallery(demo: Demo) -> list[dict[str, Any]]:
    """Four images of each outcome, evenly spaced through those in the order of the file."""
    targets = torch.arange(len(demo.images)).unsqueeze(1)
    hit = demo.to_captions.indices == targets
    rank = torch.where(hit.any(dim=1), hit.to(torch.int8).argmax(dim=1), hit.shape[1])  # from 0
    outcomes = {
        "Right caption first": rank == 0,
        "Right caption second or third": (rank == 1) | (rank == 2),
        "Right caption not among the first three": rank > 2,
    }
    groups = []
    for title, chosen in outcomes.items():
        rows = chosen.nonzero()[:, 0]
        examples = rows[_evenly_spaced(len(rows), _EXAMPLES // len(outcomes))]
        groups.append(
            {
                "title": title,
                "count": len(rows),
                "examples": [_example(demo, row, int(rank[row])) for row in examples.tolist()],
            }
        )
    return groups


def _example(demo: Demo, row: int, rank: int) -> dict[str, Any]:
    assert demo.images.names is not None
    assert demo.captions.names is not None
    score = similarity(demo.images.features[row : row + 1], demo.captions.features[row : row + 1])
    return {
        "image": demo.images.names[row],
        "caption": demo.captions.names[row].strip(),
        "score": score.item(),
        "rank": rank + 1,
        "matches": [_match(demo.captions, demo.to_captions, row, place) for place in range(3)],
    }


def _match(keys: Features, found: TopK, row: int, place: int) -> dict[str, Any]:
    assert keys.names is not None
    name = keys.names[int(found.indices[row, place])]
    return {"name": name.strip(), "score": found.values[row, place].item()}


def _evenly_spaced(length: int, count: int) -> torch.Tensor:
    """``count`` places from the first to the last of ``length``."""
    return torch.arange(count) * (length - 1) // (count - 1)
