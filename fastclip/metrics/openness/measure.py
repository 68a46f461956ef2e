"""All measures of openness at once: of growing vocabularies, and of the words that do harm."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, SupportsIndex

import torch

from fastclip.data import Features
from fastclip.data.html import SHOWN, percent, table, together
from fastclip.data.vocabularies import ClassList
from fastclip.data.vocabularies.wordnet import plain
from fastclip.metrics.openness.adversarial import AdversarialVocabulary, adversarial_vocabulary
from fastclip.metrics.openness.expansion import VocabularyExpansion, vocabulary_expansion
from fastclip.metrics.openness.size import accuracy_by_size
from fastclip.metrics.representation import (
    SimilarityHistograms,
    alignment,
    margins,
    modality_gap,
    similarity_histograms,
    uniformity,
)
from fastclip.ops import pack

_BINS = 200


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

    def _repr_html_(self) -> str:
        found = self.expansion
        rows = [
            ("Acc-C, each group alone", percent(found.acc_c)),
            ("Acc-E, groups join with their images", percent(found.acc_e)),
            ("Acc-S, groups join without", percent(found.acc_s)),
            (f"all {len(self.classes):,} classes", percent(found.acc_full)),
        ]
        facts = f"Openness: {len(self.images):,} images, {len(self.classes):,} classes"
        shown = table(
            f"{facts} in {len(self.classes.group_names):,} groups", ["", "accuracy"], rows
        )
        words = self.adversarial
        if words is None:
            return shown
        worst = zip(words.names[:SHOWN], words.accuracy.tolist(), words.images, strict=False)
        return together(
            shown,
            table(
                f"Words that take the most images, of {self.words:,}",
                ["word", "accuracy with it", "images that it takes"],
                ((name, percent(accuracy), f"{len(taken):,}") for name, accuracy, taken in worst),
                total=len(words.names),
            ),
        )


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
    """Measure all that a report on openness shows.

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
    >>> from fastclip.metrics.openness import measure_openness
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
