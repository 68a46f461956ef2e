"""Which words of a caption does its image show?"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch

from fastclip.data.checks import check_choice
from fastclip.engine.checks import Array, as_number, as_rows
from fastclip.ops.pixel_scores import pixel_scores
from fastclip.ttd._counts import as_counts

Method = Literal["pixel-tag", "image-tag", "text-tag"]
Normalization = Literal["min-max", "softmax"]


class TagSelection(NamedTuple):
    """The tags of one or more captions, in their order."""

    selected: torch.Tensor
    """[T] bool."""
    normalized: torch.Tensor
    """[T] float32, from 0 to 1: what the threshold was applied to."""
    scores: torch.Tensor
    """[T] float32: exact scores, cosines if the features have unit length."""
    locations: torch.Tensor
    """[T] int64: the nearest pixel, y * w + x; 0 for "image-tag" and "text-tag"."""


def select_tags(
    features: Array,
    tag_features: Array,
    counts: Sequence[int] | None = None,
    *,
    method: Method = "pixel-tag",
    normalization: Normalization = "min-max",
    threshold: float = 0.5,
    minimum: float | None = None,
    scale: float = 100.0,
) -> TagSelection:
    """Select the tags of each caption that its image shows.

    ``score_i = max over p of <v_p, u_i>``, the score with the tag's nearest pixel, is brought into
    the range from 0 to 1 over the tags of one caption, ``(score_i - min) / (max - min)``; those of
    at least ``threshold`` are selected. Where all scores of a caption are the same, as that of an
    only tag, all become 1. Some tag of a caption is thus always selected, shown or not, unless
    ``minimum`` rules it out.

    ============= ============================== =============================================
    method        features                       a tag's score is that with
    ============= ============================== =============================================
    ``pixel-tag`` [B, d, h, w], of pixels        its nearest pixel (TTD)
    ``image-tag`` [B, d], of whole images        the image: TTD's first baseline
    ``text-tag``  [B, d], of whole captions      the caption: its second one
    ============= ============================== =============================================

    The paper (Jo et al., ECCV 2024) does not give normalisation and threshold; min-max and 0.5
    agree with its figure 2, which shows a softmax for its "image-tag" baseline.

    Parameters
    ----------
    features : tensor or array, float32, float16 or bfloat16
        As above, of B images or captions.
    tag_features : tensor or array [T, d]
        Those of caption 0 first, then those of caption 1, and so on.
    counts : sequence of B ints, optional
        How many tags each caption has; may be 0. Default, for one image: T.
    method : "pixel-tag", "image-tag" or "text-tag"
    normalization : "min-max" or "softmax"
        The second: ``softmax_i(scale * score_i)`` over the tags of a caption.
    threshold : float
    minimum : float, optional
        Select no tag with a score below this, whatever its caption's others are.
    scale : float
        Factor in the softmax: CLIP's logit scale.

    Returns
    -------
    TagSelection

    Raises
    ------
    TypeError
        An argument is no array, or has another dtype.
    ValueError
        A shape is wrong, features hold NaN or infinity, counts do not add up, or there is no
        such method or normalisation.

    Examples
    --------
    >>> import torch
    >>> from fastclip.ttd import select_tags
    >>> pixels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.8, 0.6]]).view(1, 2, 1, 3)
    >>> tags = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> selection = select_tags(pixels, tags)
    >>> selection.selected, selection.normalized, selection.locations
    (tensor([ True,  True, False]), tensor([1.0000, 0.8000, 0.0000]), tensor([0, 1, 1]))
    """
    check_choice("method", method, get_args(Method))
    check_choice("normalization", normalization, get_args(Normalization))
    threshold, scale = as_number("threshold", threshold), as_number("scale", scale)
    floor = None if minimum is None else as_number("minimum", minimum)
    if method == "pixel-tag":
        pixels = as_rows("features", features, "[B, d, h, w]")
    else:
        pixels = as_rows("features", features, "[B, d]")[:, :, None, None]
    tags = as_rows("tag_features", tag_features, "[T, d]")
    numbers = as_counts(counts, len(tags), len(pixels))
    with torch.no_grad():
        found = [
            pixel_scores(image[None], own)
            for image, own in zip(pixels, tags.split(numbers), strict=True)
        ]
        scores = torch.cat([part.values[0] for part in found])
        normalized = torch.cat(
            [_normalized(part.values[0], normalization, scale) for part in found]
        )
    selected = normalized >= threshold
    if floor is not None:
        selected &= scores >= floor
    return TagSelection(
        selected, normalized, scores, torch.cat([part.locations[0] for part in found])
    )


def _normalized(scores: torch.Tensor, normalization: Normalization, scale: float) -> torch.Tensor:
    if normalization == "softmax":
        return (scale * scores).softmax(0)
    if len(scores) == 0:
        return scores
    low, high = scores.min(), scores.max()
    return torch.where(high > low, (scores - low) / (high - low), 1.0)
