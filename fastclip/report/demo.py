"""A page on the demonstration."""

import os
from pathlib import Path
from typing import Any

import torch

from fastclip.config import config
from fastclip.data.html import data_uri
from fastclip.demo import (
    COUNTERPART,
    VOCABULARIES,
    Demo,
    Pictures,
    evenly_spaced,
    match,
    share_within,
)
from fastclip.ops import similarity
from fastclip.report import page

_EXAMPLES = 12


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
    >>> from fastclip.demo import run_demo, run_pictures
    >>> from fastclip.report import write_page
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "demo.html"
    ...     write_page(path, run_demo(), run_pictures(captions=200))
    ...     path.read_text().splitlines()[0]
    '<!doctype html>'
    """
    from fastclip.report import figures

    cosines = {title: demo.nearest[name].values[:, 0] for name, title in VOCABULARIES.items()}
    page.write_page(
        Path(path),
        "demo.html.j2",
        demo=demo,
        recall_figure=figures.recall_bars(demo.recalls),
        cosine_figure=figures.cosine_histograms(cosines, COUNTERPART),
        groups=_gallery(demo),
        pictures=pictures,
        share_within=share_within,
        drawn=_drawn,
        vocabularies=VOCABULARIES,
        counterpart=COUNTERPART,
        config=config(),
    )


def _drawn(image: torch.Tensor) -> str:
    """[3, H, W] from 0 to 1 as a PNG within the page."""
    from PIL import Image

    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0)
    return data_uri(Image.fromarray(pixels.numpy()), format="PNG", optimize=True)


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
        examples = rows[evenly_spaced(len(rows), _EXAMPLES // len(outcomes))]
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
        "matches": [match(demo.captions, demo.to_captions, row, place) for place in range(3)],
    }
