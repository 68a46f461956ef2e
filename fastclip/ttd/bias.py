"""Single-tag bias: how much one tag of a caption dominates its similarity."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fastclip.engine.checks import Array, as_number, as_rows
from fastclip.ops.similarity import similarity
from fastclip.ttd._counts import as_counts


@dataclass(frozen=True, eq=False)
class SingleTagBias:
    """Results of `single_tag_bias`. Means are over the captions with at least two tags.

    Attributes
    ----------
    dominance : float
        Mean of ``dominances``; NaN if no caption has two tags.
    gap : float
        Mean of ``gaps``.
    captions, skipped : int
        Captions with at least two tags, and all others.
    dominances : tensor [B]
        ``(n max_i p_i - 1) / (n - 1)`` with ``p = softmax_i(scale * s_i)``: 0 where all n tags
        have the same score, 1 where one has it all. NaN for skipped captions.
    gaps : tensor [B]
        ``max_i s_i`` less the mean of the other scores; independent of the scale.
    """

    dominance: float
    gap: float
    captions: int
    skipped: int
    dominances: torch.Tensor
    gaps: torch.Tensor


def single_tag_bias(
    features: Array,
    tag_features: Array,
    counts: Sequence[int] | None = None,
    *,
    scale: float = 100.0,
) -> SingleTagBias:
    """Measure how unevenly the tags of a caption score with it, or with its image.

    TTD finds that the feature of a caption resembles that of one of its words. With the scores
    ``s_i`` of a caption's n tags, cosines with the caption (or with its image, as the paper
    looks at too), the bias is the share of the best tag in a softmax, from 0 (the n tags alike)
    to 1 (one takes all). The paper gives no formula; this one is fastclip's. Give the tags that the
    image shows: that others score less is no bias. To compare models, keep the scale.

    Parameters
    ----------
    features : tensor or array [B, d]
        Unit features of B captions, or of their images.
    tag_features : tensor or array [T, d]
        Unit features of their tags; those of caption 0 first.
    counts : sequence of B ints, optional
        How many tags each caption has; may be 0. Default, for one caption: T.
    scale : float
        Factor in the softmax: CLIP's logit scale.

    Returns
    -------
    SingleTagBias

    Raises
    ------
    TypeError, ValueError
        A shape or dtype is wrong, features hold NaN or infinity, or counts do not add up.

    Examples
    --------
    >>> import torch
    >>> from fastclip.ttd import single_tag_bias
    >>> caption = torch.tensor([[0.8, 0.6]])
    >>> bias = single_tag_bias(caption, torch.eye(2), scale=10)
    >>> round(bias.dominance, 4), round(bias.gap, 4)
    (0.7616, 0.2)
    """
    texts = as_rows("features", features)
    tags = as_rows("tag_features", tag_features)
    numbers = as_counts(counts, len(tags), len(texts))
    scale = as_number("scale", scale)
    dominances = torch.full((len(texts),), torch.nan, dtype=torch.float64)
    gaps = dominances.clone()
    for i, own in enumerate(tags.split(numbers)):
        n = len(own)
        if n < 2:
            continue
        scores = similarity(texts[i : i + 1].detach(), own.detach())[0].double().cpu()
        top = scores.max()
        dominances[i] = (n * (scale * scores).softmax(0).max() - 1) / (n - 1)
        gaps[i] = top - (scores.sum() - top) / (n - 1)
    counted = [i for i, n in enumerate(numbers) if n >= 2]
    return SingleTagBias(
        dominances[counted].mean().item(),
        gaps[counted].mean().item(),
        len(counted),
        len(numbers) - len(counted),
        dominances,
        gaps,
    )
