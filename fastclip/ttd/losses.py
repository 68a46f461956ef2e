"""Text-tag self-distillation: a caption's heat map learns the union of its tags' maps."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F

from fastclip.data.checks import check_choice
from fastclip.ttd._counts import as_counts
from fastclip.ttd.labels import resized
from fastclip.ttd.masks import tag_maps, tag_masks, text_mask
from fastclip.ttd.selection import select_tags

Distance = Literal["bce", "l1", "l2", "cosine"]
Student = Literal["sigmoid", "raw", "min-max"]

_AT_ONCE = 1 << 19  # numbers of maps at a time, or one map


def distillation_loss(
    pixel_features: torch.Tensor,
    caption_features: torch.Tensor,
    tag_features: torch.Tensor,
    counts: Sequence[int],
    *,
    threshold: float = 0.5,
    minimum: float | None = None,
    distance: Distance = "bce",
    student: Student = "sigmoid",
    gain: float = 10.0,
    bias: float = -2.5,
    tag_weight: float = 1.0,
    map_size: tuple[int, int] | None = None,
) -> dict[str, torch.Tensor]:
    r"""Compute the two losses of TTD (Jo et al., ECCV 2024).

    With A_i the heat map of tag i and A_y that of the caption (`tag_maps`), T+ the tags that
    `select_tags` selects, N the min-max over the pixels of a map and sg a stopped gradient:

    .. math::
        Y_i = N(A_i) \text{ if } i \in T^+ \text{ else } 0, \quad U = \max_i Y_i

        L = \mathrm{dist}(A_y, \mathrm{sg}\, U)
            + \lambda\, \mathrm{dist}(A_i, \mathrm{sg}\, Y_i)

    The first is a mean over captions, the second over all tags of the batch, selected or not. A
    caption without tags has the target 0.

    The paper's code is not published and its figures leave open what dist is, how a map is brought
    to the range of its target, and lambda. The defaults are fastclip's choice: TCL's affine map
    (Cha et al., CVPR 2023; w = 10, b = -2.5) with a sigmoid, binary cross-entropy, lambda = 1, on
    the grid of the patches. The others are there to be compared.

    Parameters
    ----------
    pixel_features : tensor [B, d, h, w]
    caption_features : tensor [B, d]
        Like the others of unit length, float32 (or all float64).
    tag_features : tensor [T, d]
        The tags of caption 0 first, then those of caption 1, and so on.
    counts : sequence of B ints
        How many tags each caption has, in all T; may be 0.
    threshold, minimum
        As of `select_tags`.
    distance : "bce", "l1", "l2" or "cosine"
        Mean over the pixels of the binary cross-entropy, of absolute or of squared differences;
        or 1 - the cosine of the two maps, which a target of zeros gives no gradient.
    student : "sigmoid", "raw" or "min-max"
        What is compared with the target: ``sigmoid(gain * A + bias)``, A itself, or N(A). With
        "bce" only the first.
    gain, bias : float
        Scale and offset in the sigmoid.
    tag_weight : float
        lambda.
    map_size : (H, W), optional
        Up-sample the maps to this (bilinear), for student and target. Default: (h, w).

    Returns
    -------
    dict of scalar tensors
        ``text``, ``tag`` and their weighted sum ``loss``. Differentiable once. Beyond inputs,
        4 bytes * (B + T) * h * w * 2 for maps and their gradients and, where maps are up-sampled,
        4 bytes * B * H * W for the unions; other copies of up-sampled maps are of one block of
        2^19 numbers, or of one map, however many tags there are.

    Raises
    ------
    TypeError, ValueError
        As of `select_tags` and `tag_maps`; or an option is not allowed.

    Examples
    --------
    >>> import torch
    >>> from fastclip.ttd import distillation_loss
    >>> pixels = torch.eye(2).view(1, 2, 1, 2)
    >>> caption = torch.tensor([[0.8, 0.6]])
    >>> parts = distillation_loss(pixels, caption, torch.eye(2), [2], distance="l1", student="raw")
    >>> parts["text"]  # the union covers both pixels
    tensor(0.3000)
    """
    check_options(distance, student)
    size = tuple(pixel_features.shape[2:]) if map_size is None else tuple(map_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"map_size: two numbers (H, W), at least 1, are needed, got {size}")
    numbers = as_counts(counts, len(tag_features), len(pixel_features))
    selected = select_tags(
        pixel_features.detach().float(),
        tag_features.detach().float(),
        numbers,
        threshold=threshold,
        minimum=minimum,
    ).selected
    text_maps = tag_maps(pixel_features, caption_features, [1] * len(pixel_features))
    maps = tag_maps(pixel_features, tag_features, numbers)
    text, tag = _Distances.apply(
        text_maps, maps, selected, numbers, size, distance, student, gain, bias
    )
    return {"text": text, "tag": tag, "loss": text + tag_weight * tag}


def check_options(distance: str, student: str) -> None:
    """Raise ValueError for a distance or student that there is not, or that do not go together."""
    check_choice("distance", distance, get_args(Distance))
    check_choice("student", student, get_args(Student))
    if distance == "bce" and student != "sigmoid":
        raise ValueError(f"student: is {student!r}, allowed with distance 'bce': sigmoid")


class _Distances(torch.autograd.Function):
    """Both losses from maps [B, h, w] and [T, h, w], and their gradients on the way.

    A scalar's gradient can be computed with it: block after block, autograd's graph of a block is
    gone before the next, and what stays has the size of the maps before they are up-sampled.
    """

    @staticmethod
    def forward(
        ctx: Any,
        text_maps: torch.Tensor,
        maps: torch.Tensor,
        selected: torch.Tensor,
        counts: list[int],
        size: tuple[int, int],
        *options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        unions = text_maps.new_zeros(len(text_maps), *size)
        captions = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        losses, gradients = [], []
        for kind, student in enumerate((maps, text_maps)):
            total = student.new_zeros((), dtype=torch.float64)
            gradient = torch.zeros_like(student) if ctx.needs_input_grad[1 - kind] else None
            step = max(1, _AT_ONCE // (size[0] * size[1]))
            for start in range(0, len(student), step):
                rows = slice(start, start + step)
                with torch.enable_grad():
                    leaf = student[rows].detach().requires_grad_(gradient is not None)
                    larger = resized(leaf[:, None], size)[:, 0]
                    if kind == 0:
                        target = tag_masks(larger.detach(), selected[rows])
                        _unite(unions, target, captions[rows])
                    else:
                        target = unions[rows]
                    part = _distance(larger, target, *options).sum() / len(student)
                    if gradient is not None:
                        gradient[rows] = torch.autograd.grad(part, leaf)[0]
                total += part.detach()
            losses.append(total.to(student.dtype))
            gradients.append(gradient)
        ctx.save_for_backward(*gradients)
        tag, text = losses
        return text, tag

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_text: torch.Tensor, grad_tag: torch.Tensor) -> tuple[Any, ...]:
        tag, text = ctx.saved_tensors
        return (
            None if text is None else grad_text * text,
            None if tag is None else grad_tag * tag,
            *[None] * 7,
        )


def _unite(unions: torch.Tensor, masks: torch.Tensor, captions: torch.Tensor) -> None:
    """Take masks of tags, in the order of their captions, into the unions of these."""
    first, last = int(captions[0]), int(captions[-1])
    own = torch.bincount(captions - first, minlength=last - first + 1).tolist()
    some = unions[first : last + 1]
    torch.maximum(some, text_mask(masks, own), out=some)


def _distance(
    maps: torch.Tensor,
    targets: torch.Tensor,
    distance: Distance,
    student: Student,
    gain: float,
    bias: float,
) -> torch.Tensor:
    """[N]: of each map to its target."""
    if distance == "bce":
        logits = gain * maps + bias
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return each.mean((1, 2))
    if student == "sigmoid":
        maps = (gain * maps + bias).sigmoid()
    elif student == "min-max":
        maps = tag_masks(maps)
    if distance == "cosine":
        return 1 - F.cosine_similarity(maps.flatten(1), targets.flatten(1))
    difference = maps - targets
    return (difference.abs() if distance == "l1" else difference.square()).mean((1, 2))
