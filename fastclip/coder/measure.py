"""What the texts of classes do for zero-shot classification: measures for a report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fastclip.coder.classifier import CoderClassifier, Decisions
from fastclip.coder.protocol import deviations
from fastclip.coder.representation import Coder
from fastclip.ops import TopK

STEPS = {
    "names": ("name",),
    "and synonyms": ("name", "synonym"),
    "and attributes": ("name", "synonym", "attribute", "sentence"),
    "and analogous classes": ("name", "synonym", "attribute", "sentence", "analogous"),
}
"""Kinds of text that join one after the other."""

_NEIGHBOURS = 5
_PAIRS = 12
_DRAWS = 5  # random choices of texts, for each number of them


@dataclass(frozen=True, eq=False)
class CoderReport:
    """Results of `measure_coder`; what needs labels is empty without them.

    Attributes
    ----------
    class_names, image_names : tuple of str
    labels : int64 tensor [N] or None
    decisions : Decisions
    neighbours : TopK
        The nearest texts of each image.
    texts : tuple of str
    accuracy : dict
        For each of `STEPS` and "and reranking".
    density : list of (texts per class, mean accuracy, lowest, highest)
        First stage, with the name and this many other texts of each class, drawn at random.
    confusions : list of (true name, other name, before reranking, after)
        The pairs that are taken for each other most often.
    """

    class_names: tuple[str, ...]
    image_names: tuple[str, ...]
    labels: torch.Tensor | None
    decisions: Decisions
    neighbours: TopK
    texts: tuple[str, ...]
    accuracy: dict[str, float]
    density: list[tuple[int, float, float, float]]
    confusions: list[tuple[str, str, int, int]]


def measure_coder(
    coder: Coder,
    classifier: CoderClassifier,
    image_features: torch.Tensor,
    image_names: Sequence[str],
    labels: torch.Tensor | None = None,
) -> CoderReport:
    """Classify images and, with labels, measure what each kind of text adds.

    Parameters
    ----------
    coder : Coder
    classifier : CoderClassifier
        Fitted to ``coder``.
    image_features : tensor [N, d], unit rows, N >= 1
    image_names : sequence of N str
    labels : int64 tensor [N], optional
    """
    leaky = "labels-choose" in deviations(classifier.protocol)
    decisions = classifier.decide(image_features, labels if leaky else None)
    accuracy: dict[str, float] = {}
    density: list[tuple[int, float, float, float]] = []
    confusions: list[tuple[str, str, int, int]] = []
    if labels is not None:
        for step, kinds in STEPS.items():
            accuracy[step] = _right(_first_stage(coder, image_features, kinds), labels)
        accuracy["and reranking"] = _right(decisions.classes, labels)
        density = _density(coder, image_features, labels)
        confusions = _confusions(coder.class_names, decisions, labels)
    return CoderReport(
        coder.class_names,
        tuple(image_names),
        labels,
        decisions,
        coder.neighbours(image_features, min(_NEIGHBOURS, len(coder.texts))),
        coder.texts,
        accuracy,
        density,
        confusions,
    )


def _first_stage(coder: Coder, images: torch.Tensor, kinds: Sequence[str]) -> torch.Tensor:
    classifier = CoderClassifier(kinds=kinds, rerank=False)
    return torch.as_tensor(classifier.fit(coder).class_scores(images)).argmax(1)


def _right(classes: torch.Tensor, labels: torch.Tensor) -> float:
    return float((classes == labels).double().mean())


def _density(
    coder: Coder, images: torch.Tensor, labels: torch.Tensor
) -> list[tuple[int, float, float, float]]:
    """Accuracy with 0, 1, 2, 4, ... texts of each class beside its name and synonyms."""
    names = coder.prompts.of_kinds(("name", "synonym"))
    class_of = coder.prompts.class_of
    others = torch.bincount(class_of[~names], minlength=len(coder.class_names))
    counts = [0]
    while counts[-1] < int(others.max()):
        counts.append(min(max(1, 2 * counts[-1]), int(others.max())))
    result = []
    for count in counts:
        found = []
        for seed in range(_DRAWS if 0 < count < counts[-1] else 1):
            generator = torch.Generator().manual_seed(seed)
            order = torch.randperm(len(class_of), generator=generator)
            order = order[~names[order]]
            order = order[class_of[order].argsort(stable=True)]
            place = torch.arange(len(order)) - (others.cumsum(0) - others)[class_of[order]]
            rows = names.clone()
            rows[order[place < count]] = True
            part = CoderClassifier(rerank=False).fit(coder.subset(rows))
            found.append(_right(torch.as_tensor(part.class_scores(images)).argmax(1), labels))
        result.append((count, sum(found) / len(found), min(found), max(found)))
    return result


def _confusions(
    names: Sequence[str], decisions: Decisions, labels: torch.Tensor
) -> list[tuple[str, str, int, int]]:
    def pairs(classes: torch.Tensor) -> Counter[tuple[int, int]]:
        wrong = classes != labels
        return Counter(zip(labels[wrong].tolist(), classes[wrong].tolist(), strict=True))

    before, after = pairs(decisions.first_stage), pairs(decisions.classes)
    most = sorted({*before, *after}, key=lambda pair: (-max(before[pair], after[pair]), pair))
    return [(names[a], names[b], before[a, b], after[a, b]) for a, b in most[:_PAIRS]]
