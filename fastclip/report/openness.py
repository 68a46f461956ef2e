"""A report on openness: how accuracy falls as the vocabulary grows, and which words do the most."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fastclip.config import config
from fastclip.data.files import replacing
from fastclip.data.html import thumbnail
from fastclip.metrics.openness import Openness
from fastclip.report.page import write_page, write_results

if TYPE_CHECKING:
    from PIL.Image import Image

_WORDS_SHOWN = 12
_IMAGES_SHOWN = 4
_SIDE = 96  # pixels of an example image

Picture = Callable[[str], "Image"]


def write_openness(
    folder: str | os.PathLike[str],
    found: Openness,
    *,
    title: str,
    picture: Picture | None = None,
) -> None:
    """Write ``report.html``, its figures as PNG and ``results.json`` into a folder.

    Parameters
    ----------
    folder : path
        Exists; files of these names are replaced, each whole or not at all.
    found : Openness
    title : str
        What was measured.
    picture : callable, optional
        From the name of an image to a PIL image, for the examples on the page.

    Raises
    ------
    OSError
        A file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from fastclip.data import Features
    >>> from fastclip.data.vocabularies import ClassList
    >>> from fastclip.metrics.openness import measure_openness
    >>> from fastclip.report import write_openness
    >>> classes = ClassList(("a", "b", "c"), (0, 0, 1), ("g", "h"), ("a", "b", "c"), (("{}",),) * 2)
    >>> images = Features(torch.eye(3), ["a/1.png", "b/1.png", "c/1.png"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_openness(
    ...         folder, measure_openness(images, range(3), classes, torch.eye(3)), title="letters"
    ...     )
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['expansion.png', 'report.html', 'results.json', 'similarity.png', 'vocabulary.png']
    """
    from fastclip.report import openness_figures as figures

    target = Path(folder)
    drawn = {
        "expansion": figures.expansion_curves(found.expansion),
        "vocabulary": figures.size_curve(found.sizes, found.size_accuracy, len(found.classes)),
        "similarity": figures.similarity(found.histograms),
    }
    for name, draw in drawn.items():
        with replacing(target / f"{name}.png") as part:
            figures.write_png(part, draw)
    write_results(target, results(found, title))
    write_page(
        target / "report.html",
        "openness.html.j2",
        title=title,
        found=found,
        figures={name: figures.page_svg(draw, name) for name, draw in drawn.items()},
        worst=_words(found, picture),
        config=config(),
    )


def results(found: Openness, title: str) -> dict[str, Any]:
    """All numbers of the report, for ``results.json``; unknown ones are None."""
    expansion = found.expansion
    result: dict[str, Any] = {
        "title": title,
        "fastclip": config()["fastclip"],
        "images": len(found.images),
        "classes": len(found.classes),
        "acc_c": expansion.acc_c,
        "acc_e": expansion.acc_e,
        "acc_s": expansion.acc_s,
        "acc_full": expansion.acc_full,
        "delta_e": expansion.delta_e,
        "delta_s": expansion.delta_s,
        "standard_error_e": _number(expansion.standard_error_e),
        "standard_error_s": _number(expansion.standard_error_s),
        "groups": [
            {"name": name, "acc_c": c, "acc_e": e, "acc_s": s}
            for name, c, e, s in zip(
                found.classes.group_names,
                expansion.group_acc_c.tolist(),
                expansion.group_acc_e.tolist(),
                expansion.group_acc_s.tolist(),
                strict=True,
            )
        ],
        "curves": {
            name: {"mean": curve.mean.tolist(), "std": [_number(x) for x in curve.std.tolist()]}
            for name, curve in (
                ("extensibility", expansion.extensibility),
                ("stability", expansion.stability),
            )
        },
        "by_vocabulary_size": {
            "sizes": list(found.sizes),
            "accuracy": found.size_accuracy.tolist(),
        },
        "space": found.space,
        "similarity": {name: x.tolist() for name, x in found.histograms._asdict().items()},
        "adversarial": None,
    }
    words = found.adversarial
    if words is not None:
        result["adversarial"] = {
            "candidates": found.words,
            "accuracy_without": words.accuracy_without,
            "words": [
                {"word": name, "accuracy": accuracy, "images": len(taken)}
                for name, accuracy, taken in zip(
                    words.names, words.accuracy.tolist(), words.images, strict=True
                )
            ],
            "together": {
                "words": list(words.combined_names),
                "accuracy": list(words.combined_accuracy),
                "accuracy_with_random_words": found.random_accuracy,
            },
        }
    return result


def _number(x: float) -> float | None:
    return x if x == x else None


def _words(found: Openness, picture: Picture | None) -> list[dict[str, Any]]:
    """The worst words with some of the images that they take, evenly spaced among these."""
    words = found.adversarial
    if words is None:
        return []
    shown = []
    for place, name in enumerate(words.names[:_WORDS_SHOWN]):
        taken = words.images[place]
        count = min(_IMAGES_SHOWN, len(taken))
        rows = taken[torch.arange(count) * len(taken) // max(count, 1)].tolist()
        names = [found.images[row] for row in rows]
        shown.append(
            {
                "name": name,
                "accuracy": float(words.accuracy[place]),
                "images": len(taken),
                "examples": [
                    {"name": image, "uri": None if picture is None else _thumbnail(picture(image))}
                    for image in names
                ],
            }
        )
    return shown


def _thumbnail(image: Image) -> str:
    return thumbnail(image, _SIDE, format="PNG", optimize=True)
