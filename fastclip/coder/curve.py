"""Accuracy by the number of support images: CODER-Adapter against Tip-Adapter, honestly."""

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch

from fastclip.coder._cache import CacheModel, fingerprints
from fastclip.coder.adapter import CoderAdapter
from fastclip.coder.protocol import deviations
from fastclip.coder.representation import Coder, unit_images
from fastclip.coder.search import Grid
from fastclip.coder.support import draw_shots
from fastclip.coder.tip_adapter import TipAdapter, TipAdapterF
from fastclip.engine.checks import Array, as_indices, check_range

MOST_VALIDATION = 4  # validation images of a class, as many as shots below that

METHODS: dict[str, Callable[[Coder, Array], CacheModel]] = {
    "CODER-Adapter": CoderAdapter,
    "CODER-Adapter, centred": lambda coder, weights: CoderAdapter(
        coder, weights, affinity="cosine", centre=True
    ),
    "CODER-Adapter, classes weigh equally": lambda coder, weights: CoderAdapter(
        coder, weights, weighting="class"
    ),
    "Tip-Adapter": lambda coder, weights: TipAdapter(weights),
    "Tip-Adapter-F": lambda coder, weights: TipAdapterF(weights, alpha=1.0, beta=5.5),
}


class CurvePoint(NamedTuple):
    """One method with one draw of support images."""

    method: str
    shots: int
    seed: int
    accuracy: float
    """On images that are neither support nor validation."""
    alpha: float
    beta: float
    test_images: int


def few_shot_curve(
    coder: Coder,
    image_features: Array,
    labels: Array,
    *,
    shots: Iterable[int] = (1, 2, 4, 8, 16),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    methods: Iterable[str] = tuple(METHODS),
    grid: Grid | Sequence[Any] = Grid(),  # noqa: B008, a constant
    embed_support: Callable[[torch.Tensor], Array] | None = None,
    class_weights: Array | None = None,
    protocol: str | Collection[str] = "honest",
    initial: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[CurvePoint]:
    """Return the accuracy of each method, number of shots and seed.

    For each seed, validation images (as many per class as shots, 4 at most) and support images are
    drawn; alpha and beta are chosen on the first, and all other images are asked once. All methods
    have the same draws. The test images are the same for all numbers of shots. Of images with equal
    features only the first is used, so that none is in two of the three splits; a warning says how
    many the others are.

    The authors report the larger of two accuracies on the test images; theirs take other splits,
    too.

    Parameters
    ----------
    coder : Coder
    image_features : tensor or array [N, d], unit rows
    labels : integer tensor or array [N]
    shots : iterable of int, at least 1
    seeds : sequence of int
    methods : iterable of str
        Of `METHODS`.
    grid : Grid
        Tried for alpha and beta.
    embed_support : callable, optional
        Takes the rows of all images that are support for any seed, an int64 tensor [M], and returns
        features [M, d] of them as support, such as those of `support_features`. Default: their rows
        of ``image_features``.
    class_weights : tensor or array [C, d], unit rows, optional
        CLIP's classifier that all methods add to. Default: the name texts of ``coder``.
    protocol : "honest", "authors", or names of `DEVIATIONS`
        "template-weights": ``class_weights`` are needed, of `authors_few_shot`'s templates.
        "best-of-two-tests": ``initial`` is needed, and the test images are asked twice.
    initial : (alpha, beta), optional
        Of `authors_few_shot`.
    progress : callable, optional
        Called with the number of fits that are done and that of all.

    Raises
    ------
    ValueError
        A class has not enough images for the largest number of shots, validation and one test
        image (see `most_shots`), a method is unknown, ``embed_support`` returns other than M
        unit rows, or the protocol lacks what it needs.
    """
    wrong = deviations(protocol)
    if "template-weights" in wrong and class_weights is None:
        raise ValueError("class_weights: are needed for 'template-weights', got none")
    if ("best-of-two-tests" in wrong) != (initial is not None):
        raise ValueError(
            f"initial: is {initial}, allowed: (alpha, beta) with 'best-of-two-tests', else None"
        )
    images = unit_images("image_features", image_features, coder.features.shape[1])
    truth = as_indices("labels", labels, len(images), images.device)
    check_range("labels", truth, len(coder.class_names), "classes")
    numbers, chosen = sorted(shots), list(methods)
    for method in chosen:
        if method not in METHODS:
            raise ValueError(f"methods: holds {method!r}, allowed: {', '.join(METHODS)}")
    kept = first_of_equal(images)
    if len(kept) < len(images):
        warnings.warn(
            f"{len(images) - len(kept)} of {len(images)} images are left out: their features are "
            "those of another image, which would be in two splits",
            stacklevel=2,
        )
        images, truth = images[kept], truth[kept]
    if missing := shortage(numbers[-1], truth, coder.class_names):
        raise ValueError(missing)
    most = numbers[-1] + min(numbers[-1], MOST_VALIDATION)
    weights = coder.name_weights() if class_weights is None else class_weights
    points: list[CurvePoint] = []
    total = len(seeds) * len(numbers) * len(chosen)
    draws = {seed: draw_shots(truth, most, seed=seed).reshape(-1, most) for seed in seeds}
    support_of = _support(
        images, kept, [drawn[:, : numbers[-1]] for drawn in draws.values()], embed_support
    )
    for seed in seeds:
        drawn = draws[seed]
        test = torch.ones(len(images), dtype=torch.bool)
        test[drawn.flatten()] = False
        for count in numbers:
            # Validation images come from the end, so that support images are the same for all.
            support = drawn[:, :count].flatten()
            validation = drawn[:, most - min(count, MOST_VALIDATION) :].flatten()
            for method in chosen:
                model = METHODS[method](coder, weights).fit(support_of(support), truth[support])
                found = model.tune(images[validation], truth[validation], grid=grid)
                pairs = [(found.alpha, found.beta)] if initial is None else [initial, found[:2]]
                tested = [
                    (_accuracy(model, pair, images[test], truth[test]), pair) for pair in pairs
                ]
                right, (alpha, beta) = max(tested, key=lambda one: one[0])
                points.append(CurvePoint(method, count, seed, right, alpha, beta, int(test.sum())))
                if progress is not None:
                    progress(len(points), total)
    return points


def most_shots(labels: torch.Tensor, classes: int) -> int:
    """Return the largest number of shots that these labels allow; 0 if they allow none.

    Each class needs the shots, validation images and one test image.

    Examples
    --------
    >>> import torch
    >>> from fastclip.coder.curve import most_shots
    >>> most_shots(torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]), 2)
    1
    """
    fewest = int(torch.bincount(labels, minlength=classes).min())
    return max(0, min((fewest - 1) // 2, MOST_VALIDATION), fewest - 1 - MOST_VALIDATION)


def shortage(shots: int, labels: torch.Tensor, class_names: Sequence[str]) -> str:
    """Say which class has too few images for a number of shots; nothing if none has."""
    allowed = most_shots(labels, len(class_names))
    if shots <= allowed:
        return ""
    counts = torch.bincount(labels, minlength=len(class_names))
    smallest = int(counts.argmin())
    return (
        f"shots: {shots} need more than {shots + min(shots, MOST_VALIDATION)} images of each class "
        f"with those of the validation, {class_names[smallest]!r} has {int(counts[smallest])}, "
        + (f"allowed: up to {allowed}" if allowed else "which are too few for any number")
    )


def first_of_equal(images: torch.Tensor) -> torch.Tensor:
    """Rows of which no earlier one is equal."""
    first = {row: i for i, row in reversed(list(enumerate(fingerprints(images))))}
    return torch.tensor(sorted(first.values()), dtype=torch.int64, device=images.device)


def _accuracy(
    model: CacheModel, pair: tuple[float, float], images: torch.Tensor, labels: torch.Tensor
) -> float:
    model.alpha_, model.beta_ = pair
    return model.score(images, labels)


def _support(
    images: torch.Tensor,
    kept: torch.Tensor,
    drawn: Sequence[torch.Tensor],
    embed_support: Callable[[torch.Tensor], Array] | None,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what gives the features of support images by their rows among those ``kept``."""
    if embed_support is None or not drawn:
        return images.__getitem__
    rows = torch.cat([part.flatten() for part in drawn]).unique()
    features = unit_images("embed_support", embed_support(kept.cpu()[rows]), images.shape[1])
    if len(features) != len(rows):
        raise ValueError(f"embed_support: {len(rows)} rows are needed, got {len(features)}")
    features = features.to(images.device)
    return lambda support: features[torch.searchsorted(rows, support.contiguous())]
