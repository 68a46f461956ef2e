"""The measured cases of fastclip.metrics.openness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cases import Case, caption_mixes, reference

import fastclip
from fastclip.metrics.openness import (
    AdversarialVocabulary,
    VocabularyExpansion,
    adversarial_vocabulary,
    vocabulary_expansion,
)

_CHUNK = 256  # images that a peer takes at a time


def labelled_images(count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy copies of real images, their classes, and real captions as the classes' features."""
    images, captions = (
        fastclip.data.load_sample(name).normalized().features[:classes]
        for name in ("coco-images", "coco-captions")
    )
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    noise = torch.randn(count, images.shape[1], generator=generator) * 0.03
    return torch.nn.functional.normalize(images[labels] + noise), labels, captions


def authors_loop(
    images: torch.Tensor,
    labels: torch.Tensor,
    classes: torch.Tensor,
    groups: torch.Tensor,
    trials: int,
    seed: int,
) -> tuple[float, float, float]:
    """The public script on features: a prediction of all present images at each step."""
    generator = np.random.RandomState(seed)
    count = int(groups.max()) + 1
    of_image = groups[labels]

    def step(present: list[int]) -> tuple[float, float]:
        members = torch.cat([(groups == group).nonzero()[:, 0] for group in present])
        rows = torch.isin(of_image, torch.tensor(present)).nonzero()[:, 0]
        predicted = members[(images[rows] @ classes[members].T).argmax(1)]
        right = (predicted == labels[rows]).double()
        return float(right.mean()), float(right[of_image[rows] == present[0]].mean())

    acc_c, acc_e, acc_s = [], [], []
    for target in range(count):
        acc = step([target])[0]
        acc_c.append(acc)
        others = [group for group in range(count) if group != target]
        for _ in range(trials):
            present, pooled, own = [target], [acc], []
            for group in generator.permutation(others).tolist():
                present.append(group)
                acc, conditional = step(present)
                pooled.append(acc)
                own.append(conditional)
            acc_e.append(np.mean(pooled))
            acc_s.append(np.mean(own))
    return float(np.mean(acc_c)), float(np.mean(acc_e)), float(np.mean(acc_s))


def expansion_case(count: int) -> Case:
    images, labels, classes = labelled_images(count, 100)
    groups = torch.arange(100) // 5
    drawn = vocabulary_expansion(
        images, labels, classes, groups, permutations=3, seed=42, protocol="authors"
    )
    full = (images.double() @ classes.double().T).argmax(1) == labels

    def check(who: str, answer: Any) -> None:
        if isinstance(answer, VocabularyExpansion):
            assert answer.acc_full == float(full.double().mean())
            expected = (answer.acc_c + 19 * answer.acc_s) / 20  # over all orders
            tolerance = 1e-12 + 5 * answer.standard_error_e + answer.standard_error_s * 5
            np.testing.assert_allclose(answer.acc_e, expected, rtol=0, atol=tolerance)
            return
        # A peer rounds otherwise and may exchange near-ties.
        ours = drawn.acc_c, drawn.acc_e, drawn.acc_s
        np.testing.assert_allclose(answer, ours, atol=1e-3)

    loop = "the script's loop on features in torch, 3 orders per group"
    return Case(
        description=f"vocabulary expansion, {count:,} images, 100 classes in 20 groups, "
        f"Acc-C {drawn.acc_c:.3f}, all classes {drawn.acc_full:.3f}",
        work=2.0 * count * 100 * images.shape[1],
        ours={
            "fastclip, all orders": lambda: vocabulary_expansion(images, labels, classes, groups),
            "fastclip, 3 orders per group": lambda: vocabulary_expansion(
                images, labels, classes, groups, permutations=3
            ),
        },
        peers={loop: lambda: authors_loop(images, labels, classes, groups, 3, 42)},
        check=check,
        slow=(loop,),
    )


def adversarial_case(count: int, candidates: int) -> Case:
    images, labels, classes = labelled_images(count, 100)
    words = caption_mixes(candidates, 1)
    names = [f"word {word}" for word in range(candidates)]
    scores = fastclip.similarity(images, classes)
    own = scores.gather(1, labels[:, None])[:, 0]
    right = (scores.argmax(1) == labels).nonzero()[:, 0]
    rows, thresholds = images[right], own[right]

    def dense() -> torch.Tensor:
        """Counts of the images that each word takes, without the words' combination."""
        counts = torch.zeros(candidates, dtype=torch.int64)
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            counts += (rows[part] @ words.T > thresholds[part, None]).sum(0)
        return counts

    def check(who: str, answer: Any) -> None:
        if isinstance(answer, AdversarialVocabulary):
            some = answer.indices[[0, 1, 50, 99]]
            exact = reference.count_above(rows, words[some], thresholds.numpy(), "key")
            taken = [len(answer.images[place]) for place in (0, 1, 50, 99)]
            assert exact.tolist() == taken
            assert answer.accuracy[0] == (len(rows) - taken[0]) / count
            assert answer.combined_accuracy[0] == answer.accuracy[0]
            return
        best = int(answer.max())
        ours = adversarial_vocabulary(images, labels, classes, words, names, top=1, combine=0)
        assert abs(best - len(ours.images[0])) <= 1 + 1e-3 * best  # near-ties, rounded otherwise

    packed = fastclip.pack(words)
    return Case(
        description=f"adversarial words, {count:,} images x {candidates:,} words "
        f"x {images.shape[1]} float32, {len(rows):,} images right without",
        work=2.0 * len(rows) * candidates * images.shape[1],
        ours={
            "fastclip, 100 words and the worst three": lambda: adversarial_vocabulary(
                images, labels, classes, words, names
            ),
            "fastclip, packed words": lambda: adversarial_vocabulary(
                images, labels, classes, packed, names
            ),
        },
        peers={f"torch mm + compare + sum in chunks of {_CHUNK}": dense},
        check=check,
    )


CASES: dict[str, Callable[[], Case]] = {
    "openness": lambda: expansion_case(10_000),
    "adversarial-words": lambda: adversarial_case(10_000, 117_000),
}
