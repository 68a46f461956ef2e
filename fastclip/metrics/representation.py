"""How images and texts lie in their common space."""

from typing import NamedTuple, SupportsFloat, SupportsIndex

import torch

from fastclip.engine.checks import Array, as_integer, as_rows
from fastclip.engine.packing import pack
from fastclip.metrics._inputs import (
    Inputs,
    as_class_groups,
    as_inputs,
    check_same_width,
    rows,
    within_groups,
)
from fastclip.ops.gaussian_potential import gaussian_potential
from fastclip.ops.similarity import similarity
from fastclip.ops.topk import topk

_SCORES = 1 << 22  # at a time: bounds the blocks of scores
_ROWS = 1 << 14  # at a time: bounds the copies in float64


def alignment(image_features: Array, labels: Array, text_features: Array) -> float:
    r"""Return the mean squared distance of images and their texts; lower is better aligned.

    .. math:: \operatorname{mean}_x \lVert v_x - t_{y(x)} \rVert^2

    For unit rows 2 - 2 times the mean cosine of pairs: the inter-modal alignment of Wang and Isola
    (`arXiv:2005.10242 <https://arxiv.org/abs/2005.10242>`_). In float64.

    Parameters
    ----------
    image_features : tensor or array [N, d], float32, float16 or bfloat16, N >= 1
    labels : integer tensor or array [N]
        The text of each image.
    text_features : tensor or array [C, d]

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape, value or device, or holds NaN or infinity.

    Examples
    --------
    >>> import torch, fastclip
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> round(fastclip.metrics.alignment(images, torch.arange(500), captions), 4)
    1.3802
    """
    inputs = _one_prompt("text_features", image_features, labels, text_features)
    total = sum(
        float((images.double() - inputs.keys[of_these].double()).square().sum())
        for images, of_these in zip(
            inputs.images.split(_ROWS), inputs.labels.split(_ROWS), strict=True
        )
    )
    return total / len(inputs.images)


def uniformity(features: Array, t: SupportsFloat = 2.0) -> float:
    r"""Return how evenly rows of one kind fill their space; lower is more even.

    .. math:: \log \operatorname{mean}_{i < j} \exp(-t \, \lVert x_i - x_j \rVert^2)

    The intra-modal uniformity of Wang and Isola, by :func:`fastclip.gaussian_potential`, to which
    arguments, errors and memory belong.

    Examples
    --------
    >>> import fastclip
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> round(fastclip.metrics.uniformity(captions), 3)
    -1.841
    """
    return gaussian_potential(as_rows("features", features), t=t).item()


def modality_gap(image_features: Array, text_features: Array) -> float:
    r"""Return the distance between the mean image and the mean text.

    .. math:: \lVert \operatorname{mean}_x v_x - \operatorname{mean}_c t_c \rVert

    Liang et al., *Mind the Gap* (`arXiv:2203.02053 <https://arxiv.org/abs/2203.02053>`_). In
    float64.

    Parameters
    ----------
    image_features : tensor or array [N, d], float32, float16 or bfloat16, N >= 1
    text_features : tensor or array [C, d], C >= 1

    Raises
    ------
    TypeError, ValueError
        As `alignment`.

    Examples
    --------
    >>> import fastclip
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> round(fastclip.metrics.modality_gap(images, captions), 4)
    0.8514
    """
    images, texts = rows("image_features", image_features), rows("text_features", text_features)
    check_same_width("text_features", texts, images)
    return float(torch.linalg.vector_norm(_mean(images) - _mean(texts)))


class Margins(NamedTuple):
    """Result of :func:`margins`, for each image."""

    true: torch.Tensor
    """[N] float32: the exact score of its own class."""
    wrong: torch.Tensor
    """[N] float32: the largest one of another class."""

    @property
    def margin(self) -> torch.Tensor:
        """[N]: true less wrong; negative where the image is taken for another class."""
        return self.true - self.wrong


def margins(image_features: Array, labels: Array, class_features: Array) -> Margins:
    """Return the score of each image with its own class and with the best wrong one.

    Parameters
    ----------
    image_features : tensor or array [N, d], float32, float16 or bfloat16, N >= 1
    labels : integer tensor or array [N]
        The class of each image.
    class_features : tensor or array [C, d], C >= 2

    Raises
    ------
    TypeError, ValueError
        As `alignment`.

    Examples
    --------
    >>> import torch, fastclip
    >>> classes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> fastclip.metrics.margins(torch.tensor([[0.8, 0.6]]), torch.tensor([1]), classes).margin
    tensor([-0.2000])
    """
    inputs = _one_prompt("class_features", image_features, labels, class_features)
    if inputs.classes < 2:
        raise ValueError("class_features: at least two classes are needed, got one")
    return Margins(inputs.targets()[1], _best_but(inputs.images, inputs.labels, inputs.keys))


class SimilarityHistograms(NamedTuple):
    """Result of :func:`similarity_histograms`: how many scores lie between two edges."""

    edges: torch.Tensor
    """[B + 1] float64."""
    true: torch.Tensor
    """[B] int64: of images with their own class."""
    wrong: torch.Tensor
    """[B] int64: of images with all other classes."""
    steps: torch.Tensor
    """[M, B] int64: of images with the best wrong class where the vocabulary is their own group
    and the first 0, 1, ..., M - 1 others."""


def similarity_histograms(
    image_features: Array,
    labels: Array,
    class_features: Array,
    groups: Array,
    *,
    bins: SupportsIndex = 200,
) -> SimilarityHistograms:
    """Count scores of right and wrong classes, and of the best wrong one as groups join.

    When names join a vocabulary the scores of the right class stay; the best wrong one moves. Other
    groups join in the order of their numbers. Where an image's own group has no other class,
    the first step leaves it out.

    Parameters
    ----------
    image_features : tensor or array [N, d], float32, float16 or bfloat16, N >= 1
        Rows of unit length.
    labels : integer tensor or array [N]
        The class of each image.
    class_features : tensor or array [C, d]
        Rows of unit length.
    groups : integer tensor or array [C]
        The group of each class, 0 to M - 1, M >= 2, or -1: in none.
    bins : int, 1 to 2^31
        B, of equal width from -1 to 1. Scores beyond, by rounding, are in the first or last one.

    Returns
    -------
    SimilarityHistograms
        Beyond the inputs, 8 N M bytes and about 50 MB.

    Raises
    ------
    TypeError, ValueError
        As `alignment`, or bins is no integer; a group has no class or no image, an image is of a
        class in no group.

    Examples
    --------
    >>> import torch, fastclip
    >>> found = fastclip.metrics.similarity_histograms(
    ...     torch.eye(4), torch.arange(4), torch.eye(4), torch.tensor([0, 0, 1, 1]), bins=4
    ... )
    >>> found.true.tolist(), found.wrong.tolist(), found.steps.tolist()
    ([0, 0, 0, 4], [0, 0, 12, 0], [[0, 0, 4, 0], [0, 0, 4, 0]])
    """
    bins = as_integer("bins", bins)
    if not 1 <= bins <= 2**31:
        raise ValueError(f"bins: must be at least 1 and at most 2^31, got {bins}")
    inputs = _one_prompt("class_features", image_features, labels, class_features)
    ids, count = as_class_groups(groups, inputs)
    inputs, ids = within_groups(inputs, ids)
    true = _histogram(inputs.targets()[1], bins)
    every = torch.zeros_like(true)
    step = max(1, _SCORES // inputs.classes)
    for images in inputs.images.split(step):
        every += _histogram(similarity(images, inputs.keys), bins)
    own = ids[inputs.labels]
    best = torch.stack([_best_of_group(inputs, ids, group) for group in range(count)], 1)
    others = torch.arange(count, device=own.device).expand(len(own), count)
    others = others[others != own[:, None]].view(len(own), count - 1)
    order = torch.cat([own[:, None], others], 1)
    running = best.gather(1, order).cummax(1).values
    steps = torch.stack([_histogram(column, bins) for column in running.T])
    edges = torch.arange(bins + 1, dtype=torch.float64) * 2 / bins - 1
    return SimilarityHistograms(edges, true, every - true, steps)


def _one_prompt(name: str, image_features: Array, labels: Array, features: Array) -> Inputs:
    keys = rows(name, features)  # names the argument as the caller does
    images = rows("image_features", image_features)
    check_same_width(name, keys, images)
    return as_inputs(images, labels, keys)


def _mean(features: torch.Tensor) -> torch.Tensor:
    total = torch.stack([part.double().sum(0) for part in features.split(_ROWS)]).sum(0)
    return total / len(features)


def _best_but(images: torch.Tensor, own: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """[N]: the largest score with a row of ``keys`` but ``own``; -inf if there is none."""
    best = topk(images, pack(keys, copy=False), min(2, len(keys)))
    scores = best.values.masked_fill(best.indices == own[:, None], -torch.inf)
    return scores.amax(1)


def _best_of_group(inputs: Inputs, ids: torch.Tensor, group: int) -> torch.Tensor:
    members = (ids == group).nonzero()[:, 0]
    place = torch.full_like(ids, -1)
    place[members] = torch.arange(len(members), device=ids.device)
    return _best_but(inputs.images, place[inputs.labels], inputs.keys[members])


def _histogram(scores: torch.Tensor, bins: int) -> torch.Tensor:
    """[bins]: of finite scores."""
    finite = scores[scores.isfinite()].double()
    place = ((finite + 1) * (bins / 2)).floor().clamp(0, bins - 1).long()
    return torch.bincount(place, minlength=bins).cpu()
