"""A report on openness: how accuracy falls as the vocabulary grows, and which words do the most."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import torch

from fastclip.config import config
from fastclip.data import Features
from fastclip.data.files import replacing
from fastclip.data.vocabularies import ClassList
from fastclip.data.vocabularies.wordnet import plain
from fastclip.metrics import (
    SimilarityHistograms,
    alignment,
    margins,
    modality_gap,
    similarity_histograms,
    uniformity,
)
from fastclip.metrics.openness import (
    AdversarialVocabulary,
    VocabularyExpansion,
    accuracy_by_size,
    adversarial_vocabulary,
    vocabulary_expansion,
)
from fastclip.ops import pack
from fastclip.report.template import page_template

if TYPE_CHECKING:
    from PIL.Image import Image

_WORDS_SHOWN = 12
_IMAGES_SHOWN = 4
_SIDE = 96  # pixels of an example image
_BINS = 200

Picture = Callable[[str], "Image"]


@dataclass(frozen=True, eq=False)
class Openness:
    """Results of :func:`measure_openness`.

    Attributes
    ----------
    classes : ClassList
    images : tuple of str
        Names of the N images.
    expansion : VocabularyExpansion
    histograms : SimilarityHistograms
    space : dict of str to float
        Alignment, uniformity of images and of texts, modality gap, and the mean margin between the
        right and the best wrong class.
    sizes : tuple of int
        Sizes of vocabularies.
    size_accuracy : Tensor
        The expected accuracy with a random vocabulary of each size.
    words : int
        How many candidates there are.
    adversarial : AdversarialVocabulary or None
        None without candidates.
    random_accuracy : float or None
        With as many random words as the adversarial combination has.
    """

    classes: ClassList
    images: tuple[str, ...]
    expansion: VocabularyExpansion
    histograms: SimilarityHistograms
    space: dict[str, float]
    sizes: tuple[int, ...]
    size_accuracy: torch.Tensor
    words: int
    adversarial: AdversarialVocabulary | None
    random_accuracy: float | None


def measure_openness(
    images: Features,
    labels: Sequence[int],
    classes: ClassList,
    class_features: torch.Tensor,
    words: Features | None = None,
    *,
    permutations: Literal["all"] | SupportsIndex = "all",
    seed: int = 0,
    protocol: Literal["exact", "authors"] = "exact",
    exclude: Iterable[str] = (),
    top: int = 100,
    combine: int = 3,
) -> Openness:
    """Measure all that the report shows.

    Parameters
    ----------
    images : Features
        N named rows of unit length.
    labels : sequence of N int
        The class of each image.
    classes : ClassList
        C classes.
    class_features : Tensor [C, d]
        Rows of unit length.
    words : Features, optional
        Named candidates for the adversarial words, which no image is of; they also let the
        vocabulary grow beyond the classes.
    permutations, seed, protocol
        As in :func:`fastclip.metrics.openness.vocabulary_expansion`.
    exclude : iterable of str
        Words that are no candidates, whatever their case and underscores.
    top, combine : int
        As in :func:`fastclip.metrics.openness.adversarial_vocabulary`.

    Raises
    ------
    TypeError, ValueError
        As from the metrics.

    Examples
    --------
    >>> import fastclip
    >>> from fastclip.data.vocabularies import ClassList
    >>> from fastclip.report import measure_openness
    >>> images = fastclip.data.load_sample("coco-images").normalized()
    >>> captions = fastclip.data.load_sample("coco-captions").normalized()
    >>> classes = ClassList(  # a class for each image, in five groups
    ...     names=captions.names,
    ...     groups=tuple(i % 5 for i in range(500)),
    ...     group_names=tuple("abcde"),
    ...     folders=images.names,
    ...     templates=(("{}",),) * 5,
    ... )
    >>> found = measure_openness(images, range(500), classes, captions.features)
    >>> found.expansion.acc_full, round(found.expansion.acc_c, 3)
    (0.552, 0.746)
    """
    of_image = torch.tensor(list(labels))
    rows = images.features
    inputs = rows, of_image, class_features
    groups = torch.tensor(classes.groups)
    expansion = vocabulary_expansion(
        *inputs,
        groups,
        permutations=permutations,
        seed=seed,
        protocol=protocol,
        class_names=classes.names,
    )
    space = {
        "alignment": alignment(rows, of_image, class_features),
        "uniformity of images": uniformity(rows),
        "uniformity of texts": uniformity(class_features),
        "modality gap": modality_gap(rows, class_features),
        "mean margin": float(margins(*inputs).margin.double().mean()),
    }
    candidates = None if words is None else _without(words, exclude)
    keys = None if candidates is None else pack(candidates.features, copy=False)
    count = 0 if candidates is None else len(candidates)
    sizes = _sizes(len(classes), count)
    adversarial, random_accuracy = None, None
    if candidates is not None:
        assert candidates.names is not None
        adversarial = adversarial_vocabulary(
            *inputs, keys, candidates.names, top=top, combine=combine
        )
        together = len(adversarial.combined_names)
        random_accuracy = float(accuracy_by_size(*inputs, keys, [len(classes) + together])[0])
    return Openness(
        classes=classes,
        images=tuple(images.names or ()),
        expansion=expansion,
        histograms=similarity_histograms(*inputs, groups, bins=_BINS),
        space=space,
        sizes=sizes,
        size_accuracy=accuracy_by_size(*inputs, keys, sizes),
        words=count,
        adversarial=adversarial,
        random_accuracy=random_accuracy,
    )


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
    >>> from fastclip.report import measure_openness, write_openness
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
    with replacing(target / "results.json") as part:
        text = json.dumps(results(found, title), indent=1, ensure_ascii=False, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")

    page = page_template("openness.html.j2").render(
        title=title,
        found=found,
        figures={name: figures.page_svg(draw, name) for name, draw in drawn.items()},
        worst=_words(found, picture),
        config=config(),
    )
    with replacing(target / "report.html") as part:
        part.write_text(page, encoding="utf-8")


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


def _without(words: Features, exclude: Iterable[str]) -> Features:
    """Leave out words; ``words`` itself if none is."""
    if words.names is None:
        raise ValueError("words: names are needed")
    unwanted = {plain(word) for word in exclude}
    kept = [i for i, name in enumerate(words.names) if plain(name) not in unwanted]
    if not kept:
        raise ValueError("exclude: leaves no word")
    if len(kept) == len(words):
        return words
    names = [words.names[i] for i in kept]
    return Features(words.features[torch.tensor(kept)], names, words.metadata)


def _sizes(classes: int, words: int) -> tuple[int, ...]:
    """1, 2, 5, 10, 20, 50, ... up to all, with the number of classes among them."""
    total = classes + words
    steps = {digit * 10**power for power in range(12) for digit in (1, 2, 5)}
    return tuple(sorted({step for step in steps if 1 < step < total} | {classes, total}))


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
                    {"name": image, "uri": None if picture is None else _data_uri(picture(image))}
                    for image in names
                ],
            }
        )
    return shown


def _data_uri(image: Image) -> str:
    """The image, made small, as it stands in the page itself."""
    small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
