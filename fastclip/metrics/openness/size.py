"""Accuracy by the size of the vocabulary, for any number of words."""

from collections.abc import Sequence
from typing import SupportsIndex

import torch

from fastclip.engine.checks import Array, as_integers
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.packing import pack
from fastclip.metrics._inputs import Prompts, as_inputs, check_same_width
from fastclip.metrics.openness._outcomes import unpacked
from fastclip.ops.count_above import count_above
from fastclip.ops.group_beats import group_beats


def accuracy_by_size(
    image_features: Array,
    labels: Array,
    class_features: Array,
    distractor_features: Array | PackedKeys | None,
    sizes: Sequence[SupportsIndex],
    *,
    prompts: Prompts = "max",
) -> torch.Tensor:
    r"""Return the expected accuracy with a random vocabulary of each size.

    The vocabulary of an image of class y is y and n - 1 other classes; from n = C on, all classes
    and n - C distractors. Over all choices, an image that b of m words beat survives k of them with
    probability

    .. math:: \binom{m - b}{k} \bigg/ \binom{m}{k}

    so that one count per image gives the whole curve. A class that is as good as the image's own
    beats it if its index is lower; a distractor has to be better.

    Parameters
    ----------
    image_features : tensor or array [N, d], float32, float16 or bfloat16, N >= 1
    labels : integer tensor or array [N]
        The class of each image.
    class_features : tensor or array [C, d], or [C, P, d] with P prompts per class
    distractor_features : tensor or array [D, d], PackedKeys or None
        Words that no image is of. None: there are none.
    sizes : sequence of int, each from 1 to C + D
    prompts : "max" or "mean"
        As in :func:`vocabulary_expansion`.

    Returns
    -------
    Tensor [len(sizes)] float64
        Beyond the inputs, 2 N C bytes, and what ``count_above`` needs.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.metrics.alignment`, or a size is no integer.

    Examples
    --------
    >>> import torch, fastclip
    >>> images, classes = torch.eye(2), torch.eye(2)
    >>> words = torch.tensor([[1.1, 0.0], [0.0, 0.5], [0.0, 0.2], [0.3, 0.3]])
    >>> fastclip.metrics.openness.accuracy_by_size(
    ...     images, torch.arange(2), classes, words, [1, 2, 4, 6]
    ... )
    tensor([1.0000, 1.0000, 0.7500, 0.5000], dtype=torch.float64)
    """
    inputs = as_inputs(image_features, labels, class_features, prompts)
    targets, scores = inputs.targets()
    distractors = _as_distractors(distractor_features, inputs.images)
    numbers = _as_sizes(sizes, inputs.classes + (0 if distractors is None else len(distractors)))

    ids = torch.arange(inputs.classes, device=targets.device)
    of_keys = ids.repeat_interleave(inputs.prompts)
    bits = group_beats(inputs.images, pack(inputs.keys, copy=False), of_keys, targets)
    beating = torch.from_numpy(unpacked(bits, inputs.classes).sum(1))
    images = torch.bincount(beating, minlength=inputs.classes).double() / len(beating)
    small = [_surviving(inputs.classes - 1, min(n, inputs.classes) - 1) @ images for n in numbers]
    accuracy = torch.stack(small)
    if distractors is not None:
        right = (beating == 0).nonzero()[:, 0].to(targets.device)
        counts = count_above(inputs.images[right], distractors, scores[right], per="query")
        images = torch.bincount(counts, minlength=len(distractors) + 1).double().cpu()
        for place, n in enumerate(numbers):
            if n > inputs.classes:
                table = _surviving(len(distractors), n - inputs.classes)
                accuracy[place] = table @ images / len(beating)
    return accuracy


def _surviving(words: int, drawn: int) -> torch.Tensor:
    """[words + 1]: C(m - b, k) / C(m, k) for b = 0 to m = ``words``, k = ``drawn``."""
    left = torch.arange(words, 0, -1, dtype=torch.float64)  # m - b, for the step from b to b + 1
    factors = (left - drawn).clamp(min=0) / left
    return torch.cat([torch.ones(1, dtype=torch.float64), factors.cumprod(0)])


def _as_distractors(
    features: Array | PackedKeys | None, images: torch.Tensor
) -> Array | PackedKeys | None:
    if features is None:
        return None
    found, _ = as_keys(features, "distractor_features")
    check_same_width("distractor_features", found, images)
    return features if isinstance(features, PackedKeys) else found


def _as_sizes(sizes: Sequence[SupportsIndex], most: int) -> list[int]:
    numbers = as_integers("sizes", sizes)
    for number in numbers:
        if not 1 <= number <= most:
            raise ValueError(
                f"sizes: each must be from 1 to the number of classes and distractors {most}, "
                f"got {number}"
            )
    return numbers
