"""The function that open_clip's training evaluates with."""

from collections.abc import Iterable
from typing import Any

import torch

from fastclip.metrics import retrieval

_KS = (1, 5, 10)

Features = torch.Tensor | Iterable[torch.Tensor]


def get_clip_metrics(
    image_features: Features,
    text_features: Features,
    logit_scale: Any,
    image_key: str = "image",
    text_key: str = "text",
    retrieval_chunk_size: int | None = None,
    retrieval_device: torch.device | str | None = None,
    retrieval_dtype: Any = torch.float32,
) -> dict[str, float]:
    """Return ranks and recall of paired images and texts, as open_clip's ``get_clip_metrics`` does.

    In place of ``open_clip_train.metrics.get_clip_metrics`` (``open_clip_train.train`` before that
    module): ``open_clip_train.train.get_clip_metrics = get_clip_metrics``. No similarity is kept,
    and exact scores decide, so that results differ from open_clip's only where its float32
    products round two scores to an equal one or into the other order.

    Parameters
    ----------
    image_features, text_features : tensor [N, d], or iterable of tensors [n, d]
        Text i describes image i. float32, float16 or bfloat16.
    logit_scale : float or tensor of one number
        Has to be positive: then it changes no rank.
    image_key, text_key : str
        What names of results begin with.
    retrieval_chunk_size, retrieval_dtype
        Not used: nothing is cut into chunks or rounded.
    retrieval_device : device, optional
        Where to compute. Default: where the features are.

    Returns
    -------
    dict of str to float
        ``image_to_text_mean_rank``, ``image_to_text_median_rank``, ``image_to_text_R@1``, ``R@5``
        and ``R@10``, and the same for ``text_to_image``. Ranks count from 1.

    Raises
    ------
    TypeError, ValueError
        As `fastclip.metrics.retrieval`, or ``logit_scale`` is not positive.

    Examples
    --------
    >>> import fastclip
    >>> from fastclip.adapters.open_clip import get_clip_metrics
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> found = get_clip_metrics(images, captions, logit_scale=100.0)
    >>> found["image_to_text_R@1"], found["image_to_text_mean_rank"]
    (0.552, 4.888)
    """
    if not float(logit_scale) > 0:
        raise ValueError(f"logit_scale: must be positive, got {float(logit_scale)}")
    images, texts = (_joined(x, retrieval_device) for x in (image_features, text_features))
    found = retrieval(images, texts, ks=_KS)
    metrics: dict[str, float] = {}
    for name, summary in (
        (f"{image_key}_to_{text_key}", found.image_to_text),
        (f"{text_key}_to_{image_key}", found.text_to_image),
    ):
        metrics[f"{name}_mean_rank"] = summary.mean_rank
        metrics[f"{name}_median_rank"] = float(summary.median_rank)
        metrics |= {f"{name}_R@{k}": share for k, share in summary.recall.items()}
    return metrics


def _joined(features: Features, device: torch.device | str | None) -> torch.Tensor:
    whole = features if isinstance(features, torch.Tensor) else torch.cat(list(features))
    return whole if device is None else whole.to(device)
