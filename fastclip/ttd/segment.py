"""Label maps of images: which of any number of tags is where?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch

from fastclip.engine.checks import Array
from fastclip.ops import PackedKeys
from fastclip.ttd._texts import check_context
from fastclip.ttd.labels import Segmentation, label_features
from fastclip.ttd.views import dense_features, read_picture

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from fastclip.models import Model


def segment(
    model: Model,
    image: PilImage | str | os.PathLike[str],
    tags: Sequence[str] | Array | PackedKeys,
    *,
    background: float | None = None,
    templates: Sequence[str] = ("a photo of a {}.",),
    refine: bool = False,
    size: SupportsIndex = 448,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: SupportsIndex | None = None,
    method: str = "value",
) -> Segmentation:
    """Label each pixel of an image with the best of any number of tags.

    `dense_features`, then `label_features`: background and scores are cosines.

    Of TTD's evaluation its README tells 448 pixels, scales 1.0, 0.5, 1.5 and 2.0, flips, PAMR,
    OpenAI's prompts, and backgrounds of 0.40 or 0.45 by data set. Its code is not published:
    whether it has windows, what its maps are, and so which cosine its backgrounds mean, is not
    known. Its model is TCL, whose published inference is `segment_as_tcl`; there 0.40 is of a
    mixture of sigmoid maps, which no threshold on cosines equals.

    Parameters
    ----------
    model : Model
    image : PIL image or path
    tags : sequence of T str, or their features [T, d], or PackedKeys
        May be thousands.
    background, refine
        As in `label_features`; refined by this image.
    templates : sequence of str
        Prompts whose features are averaged, where tags are str. "{}" alone takes them as they
        are: then a whole caption can be the only tag.
    size, scales, flip, window, method
        As in `dense_features`.

    Returns
    -------
    Segmentation
        At the size of the image.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `dense_features`, or there are no tags, or one does not fit the model's context.

    Examples
    --------
    >>> import fastclip
    >>> from PIL import Image
    >>> model = fastclip.models.load("tiny")
    >>> halves = Image.new("RGB", (128, 96), "white")
    >>> halves.paste("red", (0, 0, 64, 96))
    >>> fastclip.ttd.segment(model, halves, ["apple", "snow"], size=96).labels.shape
    torch.Size([96, 128])
    """
    picture = read_picture(image)
    if not isinstance(tags, PackedKeys) and _are_texts(tags):
        tags = encode_tags(model, tags, templates)
    features = dense_features(
        model, picture, size=size, scales=scales, flip=flip, window=window, method=method
    )
    shape = (picture.height, picture.width)
    guide = model.prepare([picture], size=shape).float() if refine else None
    return label_features(features, tags, shape, background=background, refine_by=guide)


def encode_tags(
    model: Model,
    tags: Sequence[str],
    templates: Sequence[str] = ("a photo of a {}.",),
    *,
    progress: bool = False,
) -> torch.Tensor:
    """Encode tags in prompts, averaged: [T, d]; ValueError for one that does not fit.

    Examples
    --------
    >>> import fastclip
    >>> fastclip.ttd.encode_tags(fastclip.models.load("tiny"), ["cat", "dog"]).shape
    torch.Size([2, 128])
    """
    if len(tags) == 0:
        raise ValueError("tags: at least one is needed, got none")
    longest = max(templates, key=len, default="{}")
    check_context("tags", [longest.replace("{}", tag) for tag in tags], model)
    return model.encode_text(tags, templates=templates, progress=progress)


def _are_texts(tags: Any) -> bool:
    return isinstance(tags, (str, list, tuple)) or (
        isinstance(tags, Sequence) and not hasattr(tags, "__dlpack__")
    )
