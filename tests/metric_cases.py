"""Each metric of torchmetrics with batches of uneven sizes, and what it says of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from fastclip import metrics
from fastclip.metrics.openness import vocabulary_expansion

Batch = dict[str, torch.Tensor]

SIZES = (3, 1, 6, 2, 4)  # of batches


class Case(NamedTuple):
    make: Callable[..., Any]
    """Takes the arguments of `torchmetrics.Metric`."""
    batches: list[Batch]
    expected: dict[str, torch.Tensor]
    """What a function, or a single update, says of all batches."""
    tolerance: float = 0.0


def cases() -> dict[str, Case]:
    generator = torch.Generator().manual_seed(0)

    def flags(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator) < 0.4

    def unit(*shape: int) -> torch.Tensor:
        rows = torch.randn(shape, generator=generator)
        return torch.nn.functional.normalize(rows, dim=-1)

    def labels(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    total = sum(SIZES)
    scores = labels(-9, 10, total, 4) / 10  # ties
    ranking = _split(scores=scores, present=flags(total, 4))
    maps = _split(labels=labels(0, 5, total, 6, 7), truth=labels(-1, 5, total, 6, 7))
    masks = _split(masks=flags(total, 3, 4), truth=flags(total, 3, 4), counted=flags(total, 3, 4))
    masks[1] = {
        "masks": torch.zeros(1, 3, 4) > 0,
        "truth": torch.zeros(1, 3, 4) > 0,
    }  # an empty one
    found = {
        "tags": _by_one_update(
            metrics.TagScorer, _split(selected=flags(total), present=flags(total))
        ),
        "ranking": _by_one_update(lambda **kw: metrics.MeanAveragePrecision(4, **kw), ranking),
        "binned": _by_one_update(
            lambda **kw: metrics.MeanAveragePrecision(4, bins=7, low=-0.5, high=0.8, **kw), ranking
        ),
        "maps": _by_one_update(lambda **kw: metrics.SegmentationScorer(5, **kw), maps),
        "masks": _by_one_update(metrics.CaptionMaskScorer, masks, 1e-15),
    }

    centres, images = unit(total, 8), unit(total, 8)
    per_image = labels(1, 4, total)
    of_text = torch.arange(total).repeat_interleave(per_image)
    texts = centres[of_text] + unit(len(of_text), 8)
    images = centres + images
    batches = []
    for rows in torch.arange(total).split(list(SIZES)):
        own = (of_text >= rows[0]) & (of_text <= rows[-1])
        batches.append(
            {
                "image_features": images[rows],
                "text_features": texts[own],
                "image_of_text": of_text[own] - rows[0],
            }
        )
    for captions in ("best", "each"):
        both = metrics.retrieval(images, texts, of_text, ks=(1, 3), captions=captions)
        expected = {
            f"{way}_R@{k}": share
            for way, summary in both._asdict().items()
            for k, share in summary.recall.items()
        }
        found[f"retrieval {captions}"] = Case(
            lambda captions=captions, **kw: metrics.RetrievalRecall(
                (1, 3), captions=captions, **kw
            ),
            batches,
            _tensors(expected),
        )

    items = {
        "image_features": images,
        "captions": images + unit(total, 8),
        "hard_positives": images + unit(total, 8),
        "hard_negatives": images + unit(total, 8),
    }
    whole = vars(metrics.hard_positive_scores(**items, resamples=0))
    names = (
        "original_accuracy", "augmented_accuracy", "brittleness", "positive_rejected",
        "caption_rejected", "both_rejected", "ties", "score_change",
    )  # fmt: skip
    found["hard positives"] = Case(
        metrics.HardPositives, _split(**items), _tensors({n: whole[n] for n in names}), 1e-14
    )

    groups = torch.tensor([0, 1, -1, 0, 1, 2])
    prompts = unit(6, 2, 8)
    of_image = torch.tensor([0, 1, 3, 4, 5])[torch.arange(total) % 5]
    pictures = prompts[of_image].sum(1) + 2 * unit(total, 8)
    for permutations in ("all", 2):
        expansion = vocabulary_expansion(
            pictures, of_image, prompts, groups, permutations=permutations
        )
        expected = {
            n: getattr(expansion, n)
            for n in ("acc_c", "acc_e", "acc_s", "acc_full", "delta_e", "delta_s")
        }
        found[f"openness {permutations}"] = Case(
            lambda permutations=permutations, **kw: metrics.Openness(
                groups, permutations=permutations, **kw
            ),
            [
                batch | {"class_features": prompts}
                for batch in _split(image_features=pictures, labels=of_image)
            ],
            _tensors(expected),
            1e-12,
        )
    return found


def _split(**arguments: torch.Tensor) -> list[Batch]:
    parts = {name: rows.split(list(SIZES)) for name, rows in arguments.items()}
    return [{name: rows[i] for name, rows in parts.items()} for i in range(len(SIZES))]


def _by_one_update(make: Callable[..., Any], batches: list[Batch], tolerance: float = 0) -> Case:
    metric = make()
    names = batches[0]
    metric.update(**{n: torch.cat([b.get(n, _all_true(b)) for b in batches]) for n in names})
    return Case(make, batches, dict(metric.compute()), tolerance)


def _all_true(batch: Batch) -> torch.Tensor:
    """What an argument that is left out means: all is true."""
    return torch.ones_like(next(iter(batch.values())))


def _tensors(numbers: dict[str, float]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(x, dtype=torch.float64) for name, x in numbers.items()}


def assert_scores(found: dict[str, torch.Tensor], case: Case) -> None:
    """Check names, dtypes, shapes and values; NaN equals NaN."""
    assert list(found) == list(case.expected)
    for name, expected in case.expected.items():
        torch.testing.assert_close(
            found[name], expected, rtol=case.tolerance, atol=case.tolerance, equal_nan=True
        )
