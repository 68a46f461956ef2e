"""Contrastive losses with hard negatives and hard positives; no matrix of scores is ever kept.

Where a batch is spread over processes, ``gather=fastclip.distributed.gather`` contrasts each
process's rows with those of all. Every process then has the loss of the whole batch, to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from fastclip.ops.logsumexp import logsumexp

from ._two_way import two_way_logsumexp

Parts = dict[str, torch.Tensor]

Gather = Callable[[torch.Tensor], torch.Tensor]
"""Returns the rows of all processes, given those of this one, and hands their gradients back."""


def _alone(rows: torch.Tensor) -> torch.Tensor:
    return rows


@dataclass(frozen=True)
class BatchFeatures:
    """Features of a batch, all float32 rows of unit length on one device.

    Attributes
    ----------
    images, captions : tensor [B, d]
        Caption i describes image i.
    negatives : tensor [M, d]
        Hard negatives, one for each of M captions; M = 0 is allowed.
    negative_of : int64 tensor [M]
        The caption of each; no caption occurs twice.
    positives, positive_of : tensor [P, d], int64 tensor [P]
        The same for hard positives.
    """

    images: torch.Tensor
    captions: torch.Tensor
    negatives: torch.Tensor
    negative_of: torch.Tensor
    positives: torch.Tensor
    positive_of: torch.Tensor


def hard_positive_loss(batch: BatchFeatures, scale: torch.Tensor, gather: Gather = _alone) -> Parts:
    r"""Compute CLIP's loss twice, for captions and for hard positives, against all hard negatives.

    .. math::
        L = \tfrac14 \left(
            \mathrm{CE}(v \to c \mid c, n) + \mathrm{CE}(c \to v) +
            \mathrm{CE}(v \to p \mid p, n) + \mathrm{CE}(p \to v) \right)

    with images v, captions c, hard negatives n and hard positives p of the batch. Another wording
    of a caption is so never a negative of its image. The exact objective of *The Hard Positive
    Truth* (Kamath et al., ECCV 2024) is not published; this formulation is fastclip's own. Without
    positives it is `negclip_loss`.

    Parameters
    ----------
    batch : BatchFeatures
    scale : tensor with one element, float32
        What scores are multiplied by: the exponential of a model's ``logit_scale``.
    gather : callable, optional
        Where processes hold a part of the batch each: `fastclip.distributed.gather`. Parts may have
        any size; ``negative_of`` and ``positive_of`` count from the part's own first caption. The
        result is that of the batch with all rows in order of the processes, the same on each; its
        gradient is to be averaged over them, as `DistributedDataParallel` does.

    Returns
    -------
    dict of scalar tensors
        Each part under its name, and their mean as ``loss``. The parts of hard positives are means
        over the P captions that have one, and are left out where P = 0.

    Examples
    --------
    >>> import torch
    >>> from fastclip.training import BatchFeatures, hard_positive_loss
    >>> rows, order = torch.eye(4), torch.arange(2)
    >>> batch = BatchFeatures(rows[:2], rows[:2], rows[2:], order, rows[:2], order)
    >>> parts = hard_positive_loss(batch, torch.tensor(1.0))
    >>> list(parts)
    ['image_to_caption', 'caption_to_image', 'image_to_positive', 'positive_to_image', 'loss']
    >>> round(parts["image_to_caption"].item(), 4)  # log(e + 1 + 1 + 1) - 1
    0.7437
    """
    everyone = _everyone(batch, gather)
    along_negatives = _along_negatives(batch, everyone, scale)
    parts = _towards_captions(batch, everyone, scale, along_negatives, gather)
    if len(everyone.positives):
        rows, columns = _both_ways(
            batch.images, batch.positives, everyone.images, everyone.positives, scale
        )
        rows = _with_negatives(rows, along_negatives)[batch.positive_of]
        own = scale * (batch.images[batch.positive_of] * batch.positives).sum(1)
        parts["image_to_positive"] = gather(rows - own).mean()
        parts["positive_to_image"] = gather(columns - own).mean()
    return _with_total(parts, torch.stack(list(parts.values())).mean())


def negclip_loss(batch: BatchFeatures, scale: torch.Tensor, gather: Gather = _alone) -> Parts:
    r"""Compute CLIP's loss with hard negatives among the texts.

    The mean of :math:`\mathrm{CE}(v \to c \mid c, n)` and :math:`\mathrm{CE}(c \to v)`; hard
    positives are not looked at. Yuksekgonul et al., *When and Why Vision-Language Models Behave
    like Bags-of-Words*, ICLR 2023; their hard images are ``hard_images`` of `TrainingSettings`.

    Parameters and result are those of `hard_positive_loss`.
    """
    everyone = _everyone(batch, gather)
    along_negatives = _along_negatives(batch, everyone, scale)
    parts = _towards_captions(batch, everyone, scale, along_negatives, gather)
    return _with_total(parts, torch.stack(list(parts.values())).mean())


def svlc_loss(batch: BatchFeatures, scale: torch.Tensor, gather: Gather = _alone) -> Parts:
    r"""`negclip_loss`, each caption against its own negative, and towards the hard positives.

    .. math::
        L = L_\mathrm{negclip} + \mathrm{CE}(v_i \to c_i \mid c_i, n_i) +
            \tfrac12 \left(\mathrm{CE}(v \to p) + \mathrm{CE}(c \to p)\right)

    Doveh et al., *Teaching Structured Vision & Language Concepts to Vision & Language Models*,
    CVPR 2023. Positives compete with positives alone.

    Parameters and result are those of `hard_positive_loss`, except that ``loss`` is a sum; a part
    is left out where the batch has no hard negative, or no hard positive.
    """
    everyone = _everyone(batch, gather)
    along_negatives = _along_negatives(batch, everyone, scale)
    parts = _towards_captions(batch, everyone, scale, along_negatives, gather)
    total = (parts["image_to_caption"] + parts["caption_to_image"]) / 2
    if len(everyone.negatives):
        images, captions = (x[batch.negative_of] for x in (batch.images, batch.captions))
        ahead = (images * (batch.negatives - captions)).sum(1)
        parts["own_negative"] = gather(F.softplus(scale * ahead)).mean()
        total = total + parts["own_negative"]
    if len(everyone.positives):
        for name, rows in (("image", batch.images), ("caption", batch.captions)):
            some = rows[batch.positive_of]
            own = scale * (some * batch.positives).sum(1)
            part = gather(logsumexp(some, everyone.positives, scale) - own).mean()
            parts[f"{name}_to_positive"] = part
            total = total + part / 2
    return _with_total(parts, total)


def clip_loss(batch: BatchFeatures, scale: torch.Tensor, gather: Gather = _alone) -> Parts:
    r"""Compute CLIP's own loss, the mean of :math:`CE(v \to c)` and :math:`CE(c \to v)`.

    Parameters and result are those of `hard_positive_loss`.
    """
    captions_only = replace(batch, negatives=batch.negatives[:0], positives=batch.positives[:0])
    everyone = _everyone(captions_only, gather)
    parts = _towards_captions(batch, everyone, scale, None, gather)
    return _with_total(parts, torch.stack(list(parts.values())).mean())


LOSSES: dict[str, Callable[..., Parts]] = {
    "hard-positives": hard_positive_loss,
    "negclip": negclip_loss,
    "svlc": svlc_loss,
    "clip": clip_loss,
}


def _everyone(batch: BatchFeatures, gather: Gather) -> BatchFeatures:
    """The features of all processes; numbers of captions stay those of this one."""
    return replace(
        batch,
        images=gather(batch.images),
        captions=gather(batch.captions),
        negatives=gather(batch.negatives),
        positives=gather(batch.positives),
    )


def _along_negatives(
    batch: BatchFeatures, everyone: BatchFeatures, scale: torch.Tensor
) -> torch.Tensor | None:
    """[B]: the hard negatives' share of each image's denominator, None where there are none."""
    return logsumexp(batch.images, everyone.negatives, scale) if len(everyone.negatives) else None


def _with_negatives(rows: torch.Tensor, along_negatives: torch.Tensor | None) -> torch.Tensor:
    return rows if along_negatives is None else torch.logaddexp(rows, along_negatives)


def _both_ways(
    rows: torch.Tensor,
    columns: torch.Tensor,
    all_rows: torch.Tensor,
    all_columns: torch.Tensor,
    scale: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Denominators of this process's rows over all columns, and of its columns over all rows."""
    if rows is all_rows and columns is all_columns:
        return two_way_logsumexp(rows, columns, scale)
    return logsumexp(rows, all_columns, scale), logsumexp(columns, all_rows, scale)


def _towards_captions(
    batch: BatchFeatures,
    everyone: BatchFeatures,
    scale: torch.Tensor,
    along_negatives: torch.Tensor | None,
    gather: Gather,
) -> Parts:
    rows, columns = _both_ways(
        batch.images, batch.captions, everyone.images, everyone.captions, scale
    )
    own = scale * (batch.images * batch.captions).sum(1)
    return {
        "image_to_caption": gather(_with_negatives(rows, along_negatives) - own).mean(),
        "caption_to_image": gather(columns - own).mean(),
    }


def _with_total(parts: Parts, total: torch.Tensor) -> Parts:
    return {**parts, "loss": total}
