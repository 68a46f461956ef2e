"""Retrieval-enhanced prompts: class features moved towards captions that resemble them."""

import re
from collections.abc import Sequence
from typing import SupportsIndex

import torch

from fastclip.data.checks import check_at_least
from fastclip.engine.checks import Array, as_integer, as_number, as_rows, as_tensor, check_finite
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.metrics._inputs import as_names, check_same_width, rows
from fastclip.ops.topk import topk


def retrieve_captions(
    query_features: Array,
    caption_features: Array | PackedKeys,
    captions: Sequence[str],
    class_names: Sequence[str],
    *,
    k: SupportsIndex = 1000,
) -> list[torch.Tensor]:
    """Return the features of captions that resemble each class and mention it.

    As the code of Ren et al. (`arXiv:2206.01986 <https://arxiv.org/abs/2206.01986>`_) filters them:
    of the k captions nearest to the query those are kept that hold any word of the class name, even
    inside another word ("cup" in "cupboard"). A class for which none is left gets its query, which
    in the paper is the caption "a photo of a {name}".

    Parameters
    ----------
    query_features : tensor or array [C, d], float32, float16 or bfloat16
        Of "a photo of a {name}", without a full stop.
    caption_features : tensor or array [V, d], or PackedKeys
        Of any collection; the service that the authors asked is gone.
    captions : sequence of V str
    class_names : sequence of C str
        Words are what is between spaces and underscores.
    k : int >= 1
        At most V of them are looked at.

    Returns
    -------
    list of C tensors [n_c, d] float32
        The nearest caption first.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.metrics.alignment`, or names are no sequence of str.

    Examples
    --------
    >>> import torch, fastclip
    >>> captions = ["Two cupboards", "a dog", "a cup"]
    >>> features = torch.tensor([[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]])
    >>> fastclip.metrics.openness.retrieve_captions(
    ...     torch.tensor([[1.0, 0.0]]), features, captions, ["tea cup"]
    ... )
    [tensor([[1.0000, 0.0000],
            [0.8000, 0.6000]])]
    """
    queries = rows("query_features", query_features)
    found, _ = as_keys(caption_features, "caption_features")
    check_same_width("caption_features", found, queries)
    names = as_names("class_names", class_names, len(queries))
    texts = as_names("captions", captions, len(found))
    k = as_integer("k", k)
    check_at_least(1, k=k)
    nearest = topk(queries, caption_features, min(k, len(found))).indices.tolist()
    kept = []
    for place, (name, near) in enumerate(zip(names, nearest, strict=True)):
        words = [word for word in re.split(r"[ _]+", name.lower()) if word]
        mentions = [row for row in near if any(word in texts[row].lower() for word in words)]
        kept.append((found[mentions] if mentions else queries[place : place + 1]).float())
    return kept


def retrieval_enhanced(
    class_features: Array,
    retrieved_features: Sequence[Array],
    weight: float = 0.25,
    top: SupportsIndex = 100,
) -> torch.Tensor:
    r"""Return class features that retrieved captions have moved: REPE of Ren et al.

    .. math:: t'_c = (1 - \lambda) \, t_c + \lambda \operatorname{mean}_{i \le K} r_{c,i}

    over the unit rows r of the first K = ``top`` captions of the class. As published, the result is
    *not* scaled to unit length with one prompt per class, so that classes of varied captions get
    smaller scores; with several it is, for each prompt, and so is their mean.

    Parameters
    ----------
    class_features : tensor or array [C, d], or [C, P, d] with P prompts per class
        Unit rows, float32, float16 or bfloat16.
    retrieved_features : sequence of C tensors or arrays [n_c, d], n_c >= 1
        In the order of retrieval; of :func:`retrieve_captions`.
    weight : float from 0 to 1
        :math:`\lambda`; the paper's experiments have 0.25.
    top : int >= 1
        K; fewer are averaged where a class has fewer.

    Returns
    -------
    Tensor [C, d] float32

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.metrics.alignment`.

    Examples
    --------
    >>> import torch, fastclip
    >>> fastclip.metrics.openness.retrieval_enhanced(
    ...     torch.tensor([[1.0, 0.0]]), [torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 7.0]])], top=1
    ... )
    tensor([[0.7500, 0.2500]])
    """
    weight, top = as_number("weight", weight), as_integer("top", top)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight: must be from 0 to 1, got {weight}")
    check_at_least(1, top=top)
    several = as_tensor("class_features", class_features).ndim == 3
    classes = as_rows("class_features", class_features, "[C, P, d]" if several else "[C, d]")
    classes = classes.detach().double()
    flat = classes.flatten(0, -2)
    check_finite("class_features", flat.float())
    if len(retrieved_features) != len(classes):
        raise ValueError(
            f"retrieved_features: one per class is needed, {len(classes)}, "
            f"got {len(retrieved_features)}"
        )
    unit = torch.nn.functional.normalize
    means = []
    for place, features in enumerate(retrieved_features):
        captions = rows(f"retrieved_features[{place}]", features)
        check_same_width(f"retrieved_features[{place}]", captions, flat, "class_features")
        means.append(unit(captions[:top].double(), dim=1).mean(0))
    retrieved = torch.stack(means)
    if not several:
        return ((1 - weight) * classes + weight * retrieved).float()
    moved = unit((1 - weight) * classes + weight * retrieved[:, None], dim=2)
    return unit(moved.mean(1), dim=1).float()
