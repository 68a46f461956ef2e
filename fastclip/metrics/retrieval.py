"""How well images and texts find each other."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, SupportsIndex

import torch

from fastclip.data.checks import check_at_least, check_choice
from fastclip.data.html import table
from fastclip.engine.checks import Array, as_integers
from fastclip.engine.packing import pack
from fastclip.engine.pair_scores import pair_scores
from fastclip.metrics._inputs import check_same_width, finite_rows, images_of, rows
from fastclip.ops.rank import rank

_PAIRS = 8192  # of image and caption at a time: bounds the copies of image rows


class RankSummary(NamedTuple):
    """What is reported of the ranks of one direction; ranks count from 1."""

    recall: dict[int, float]
    """For each k, the fraction of ranks that are at most k."""
    median_rank: int
    """For an even number of ranks, the mean of the middle two, rounded down as in open_clip."""
    mean_rank: float


class Retrieval(NamedTuple):
    """Both directions of :func:`retrieval`."""

    image_to_text: RankSummary
    text_to_image: RankSummary

    def _repr_html_(self) -> str:
        return table(
            "Retrieval",
            ["", *(f"recall@{k}" for k in self.image_to_text.recall), "median rank", "mean rank"],
            (
                [
                    name.replace("_", " "),
                    *(f"{share:.3f}" for share in found.recall.values()),
                    f"{found.median_rank:,}",
                    f"{found.mean_rank:,.1f}",
                ]
                for name, found in self._asdict().items()
            ),
        )


def retrieval(
    image_features: Array,
    text_features: Array,
    image_of_text: Array | None = None,
    *,
    ks: Iterable[SupportsIndex] = (1, 5, 10),
    captions: Literal["best", "each"] = "best",
) -> Retrieval:
    """Return recall at k, median and mean rank of texts for images and of images for texts.

    Ranks are those of :func:`fastclip.rank` plus 1: exact scores decide, and among equal scores the
    lower index comes first. With one text per image these are the figures of open_clip's
    ``get_clip_metrics``; features are compared as they are, so normalise them for cosines.

    Parameters
    ----------
    image_features : tensor or array [N, d], float32, float16 or bfloat16, N >= 1
    text_features : tensor or array [V, d], float32, float16 or bfloat16
    image_of_text : integer tensor or array [V], optional
        The row of the image that each text describes; every image has at least one text. Default:
        text i describes image i, and V = N.
    ks : iterable of int, each >= 1
    captions : "best" or "each"
        What counts for image to text where an image has several texts, among all texts. "best",
        the protocol of COCO and Flickr30k: one rank per image, that of its best text, so that
        recall asks whether any of its texts is among the first k. "each": one rank per text, so
        that its image's other texts may be ahead of it.

    Returns
    -------
    Retrieval
        ``image_to_text`` and ``text_to_image``, each with ``recall`` (k to fraction, in the order
        of ``ks``), ``median_rank`` and ``mean_rank``. Beyond the inputs, packed keys use
        max(N, V) (w + 12) bytes, w being d rounded up to a multiple of 64, and "each" copies of
        up to 8192 images.

    Raises
    ------
    TypeError
        An argument is no array or has another dtype, a k is no integer.
    ValueError
        An argument has a wrong shape, is not on the CPU or holds NaN or infinity; a text's image
        does not exist, an image has no text, a k is below 1, ``captions`` is neither word.

    Examples
    --------
    >>> import fastclip
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> found = fastclip.metrics.retrieval(images, captions)
    >>> found.image_to_text
    RankSummary(recall={1: 0.552, 5: 0.808, 10: 0.892}, median_rank=1, mean_rank=4.888)
    """
    check_choice("captions", captions, ("best", "each"))
    depths = as_ks(ks)
    images = rows("image_features", image_features)
    texts = finite_rows("text_features", text_features)
    check_same_width("text_features", texts, images)
    of_text = images_of("image_of_text", image_of_text, images, len(texts))
    without = (torch.bincount(of_text, minlength=len(images)) == 0).nonzero()
    if len(without):
        raise ValueError(f"image_of_text: every image needs a text, {int(without[0])} has none")

    text_ranks = rank(texts, pack(images, copy=False), of_text)
    keys = pack(texts, copy=False)
    if captions == "best":
        image_ranks = rank(images, keys, _best_texts(images, texts, of_text))
    else:
        image_ranks = torch.cat(
            [
                rank(images[of_text[pairs]], keys, pairs)
                for pairs in torch.arange(len(texts), device=texts.device).split(_PAIRS)
            ]
        )
    return Retrieval(_summary(image_ranks, depths), _summary(text_ranks, depths))


def as_ks(ks: Iterable[SupportsIndex]) -> list[int]:
    """Integers of at least 1."""
    numbers = as_integers("ks", ks)
    for k in numbers:
        check_at_least(1, ks=k)
    return numbers


def _best_texts(images: torch.Tensor, texts: torch.Tensor, of_text: torch.Tensor) -> torch.Tensor:
    """Return, for each image, the text of its own that is ahead of its others, [N]."""
    order = pair_scores(texts, images, of_text).argsort(descending=True, stable=True)
    order = order[of_text[order].argsort(stable=True)]  # by image, best text first
    counts = torch.bincount(of_text, minlength=len(images))
    return order[counts.cumsum(0) - counts]


def _summary(ranks: torch.Tensor, ks: list[int]) -> RankSummary:
    """Summarise ranks that count from 0."""
    count = len(ranks)
    middle = ranks.sort().values[[(count - 1) // 2, count // 2]]
    return RankSummary(
        {k: int((ranks < k).sum()) / count for k in ks},
        int(middle.sum()) // 2 + 1,
        int(ranks.sum()) / count + 1,
    )
