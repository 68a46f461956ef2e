"""TCL's inference: sigmoid maps, refined at their own resolution and mixed with CLIP's."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, SupportsIndex

import torch
import torch.nn.functional as F

from fastclip.data.checks import check_at_least
from fastclip.engine.checks import as_number
from fastclip.ops import refine_masks
from fastclip.ttd._texts import check_context
from fastclip.ttd.labels import Segmentation, resized
from fastclip.ttd.views import read_picture

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from fastclip.models import Model

TCL_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of a {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
    "a photo of many {}.",
    "a photo of {}s.",
)
"""The prompts of TCL's evaluation (MIT licence, (c) 2023 Kakao Brain Corp.)."""

_LONGEST = 2048  # pixels of the longer side
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet's, not CLIP's
_CLIP_GAIN, _CLIP_CENTRE = 10.0, 0.25
_AT_ONCE = 1 << 26  # numbers of the maps that are held together

Grounded = Callable[[torch.Tensor], torch.Tensor]


def segment_as_tcl(
    model: Model,
    image: PilImage | str | os.PathLike[str],
    tags: Sequence[str],
    *,
    background: float | None = 0.4,
    refine: bool = True,
    grounded: Grounded | None = None,
    gain: float = 10.0,
    bias: float = -2.5,
    clip_weight: float = 0.3,
    templates: Sequence[str] = TCL_TEMPLATES,
    size: SupportsIndex = 448,
    window: SupportsIndex = 448,
    stride: SupportsIndex = 224,
) -> Segmentation:
    r"""Label each pixel with the best of some tags, as TCL's published evaluation does.

    The picture is resized to a shorter side of ``size`` (bilinear, the longer one 2,048 at most)
    and normalised by ImageNet's mean and deviation. In each window, padded with zeros on all sides
    to whole patches, with grounded features g and CLIP's features v of patches, a tag's map is

    .. math:: 0.7 \, \mathrm{PAMR}(\sigma(10 \cos(g, t) - 2.5))
        + 0.3 \, \sigma(10 (\cos(v, t) - 0.25))

    where maps are refined at their own resolution, by the image resized to it. Maps are up-sampled
    (bilinear), averaged over windows, and compared with the constant ``background`` at the size of
    the picture (Cha et al., CVPR 2023; kakaobrain/tcl).

    Without ``grounded``, CLIP's own features take their place, and this is TCL's inference on
    MaskCLIP's maps. TTD names ``TCL`` as its model; what of this it changes is not published.

    Parameters
    ----------
    model : Model
        TCL's is OpenAI's ViT-B-16. Its patches are read by "value", as in `Model.encode_pixels`.
    image : PIL image or path
    tags : sequence of T str
    background : float, optional
        0.4 in TCL's evaluation with refinement, and 0.5 without; None for sets without background.
    refine : bool
        Whether maps are refined by PAMR (`fastclip.refine_masks`).
    grounded : callable, optional
        From a normalised window, float32 [1, 3, h, w] of whole patches, to grounded features
        [1, d, h', w'] of any length, such as TCL's decoder with your copy of its weights.
    gain, bias : float
        TCL's are learnt: these are their values before training; a checkpoint holds its own.
    clip_weight : float from 0 to 1
        How much CLIP's maps count.
    templates : sequence of str
        Prompts, whose features are averaged as they are and then scaled to unit length.
    size, window, stride : int
        In pixels.

    Returns
    -------
    Segmentation
        At the size of the image; scores are values of the mixed maps.

    Raises
    ------
    TypeError, FileNotFoundError
        An argument is of another kind, or the image is missing.
    ValueError
        There are no tags, one does not fit the model's context, the image cannot be read, a number
        is out of range, or ``grounded`` returns another shape.

    Examples
    --------
    >>> import fastclip
    >>> from PIL import Image
    >>> model = fastclip.models.load("tiny")
    >>> red = Image.new("RGB", (60, 40), "red")
    >>> found = fastclip.ttd.segment_as_tcl(
    ...     model, red, ["apple", "snow"], size=64, window=64, stride=32
    ... )
    >>> found.labels.shape
    torch.Size([40, 60])
    """
    picture = read_picture(image)
    patch = model.patch_size
    if patch is None:
        raise ValueError("model: has no features of pixels")
    side, step = operator.index(window), operator.index(stride)
    check_at_least(1, size=operator.index(size), window=side, stride=step)
    scale, offset = as_number("gain", gain), as_number("bias", bias)
    share = as_number("clip_weight", clip_weight)
    if not 0 <= share <= 1:
        raise ValueError(f"clip_weight: is {clip_weight}, allowed: from 0 to 1")
    texts = _encode(model, tags, templates)
    pixels = _normalised(picture, operator.index(size)).to(model.device)
    height, width = pixels.shape[2:]
    views = [
        _View(model, grounded, pixels, rows, columns, patch)
        for rows in _windows(height, side, step)
        for columns in _windows(width, side, step)
    ]
    shape = (picture.height, picture.width)
    scores = pixels.new_full(shape, -torch.inf)
    labels = torch.full(shape, -1, device=pixels.device)
    if background is not None:
        scores.fill_(as_number("background", background))
    some = max(1, _AT_ONCE // (height * width + shape[0] * shape[1]))
    for start in range(0, len(texts), some):
        part = texts[start : start + some]
        total = pixels.new_zeros(1, len(part), height, width)
        times = pixels.new_zeros(height, width)
        for view in views:
            total[:, :, view.rows, view.columns] += view.maps(part, refine, scale, offset, share)
            times[view.rows, view.columns] += 1
        best, index = resized(total / times, shape)[0].max(0)
        better = best > scores  # the first of equal ones, and the background before all
        scores = torch.where(better, best, scores)
        labels = torch.where(better, index + start, labels)
    return Segmentation(labels, scores)


class _View:
    """One window of the picture, with the features of its patches."""

    def __init__(
        self,
        model: Model,
        grounded: Grounded | None,
        pixels: torch.Tensor,
        rows: slice,
        columns: slice,
        patch: tuple[int, int],
    ) -> None:
        self.rows, self.columns = rows, columns
        view = pixels[:, :, rows, columns]
        above, beside = (-n % cell for n, cell in zip(view.shape[2:], patch, strict=True))
        self._at = (above // 2, beside // 2)
        self._pixels = F.pad(
            view, (beside // 2, beside - beside // 2, above // 2, above - above // 2)
        )
        self._clip = model.encode_pixels(self._pixels)
        self._grounded = self._clip
        if grounded is not None:
            found = grounded(self._pixels)
            if found.ndim != 4 or found.shape[:2] != self._clip.shape[:2]:
                raise ValueError(
                    f"grounded: must return shape [1, {self._clip.shape[1]}, h, w], got "
                    f"{tuple(found.shape)}"
                )
            self._grounded = F.normalize(found.detach().float(), dim=1)

    def maps(
        self, texts: torch.Tensor, refine: bool, gain: float, bias: float, share: float
    ) -> torch.Tensor:
        """Mixed maps of the window, [1, T, rows, columns]."""
        maps = torch.sigmoid(gain * _cosines(self._grounded, texts) + bias)
        if refine:
            guide = F.interpolate(self._pixels, maps.shape[2:], mode="bilinear", align_corners=True)
            maps = refine_masks(guide, maps)
        if share:
            clip = torch.sigmoid((_cosines(self._clip, texts) - _CLIP_CENTRE) * _CLIP_GAIN)
            maps = share * resized(clip, maps.shape[2:]) + (1 - share) * maps
        maps = resized(maps, self._pixels.shape[2:])
        top, left = self._at
        height, width = self.rows.stop - self.rows.start, self.columns.stop - self.columns.start
        return maps[:, :, top : top + height, left : left + width]


def _cosines(pixels: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bdhw,td->bthw", pixels, texts)


def _encode(model: Model, tags: Sequence[str], templates: Sequence[str]) -> torch.Tensor:
    if len(tags) == 0:
        raise ValueError("tags: at least one is needed, got none")
    longest = max(templates, key=len, default="{}")
    check_context("tags", [longest.replace("{}", tag) for tag in tags], model)
    return model.encode_text(tags, templates=templates, unit_prompts=False)


def _normalised(picture: PilImage, shorter: int) -> torch.Tensor:
    """The picture as TCL's pipeline feeds it to the network, [1, 3, H, W]."""
    import numpy as np

    sides = picture.height, picture.width
    ratio = min(_LONGEST / max(sides), shorter / min(sides))
    shape = [max(1, int(n * ratio + 0.5)) for n in sides]
    rgb = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float()
    rgb = resized(rgb, shape).round().clamp(0, 255)  # whole levels, as OpenCV leaves them
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
    return (rgb - mean) / std


def _windows(length: int, window: int, stride: int) -> list[slice]:
    """Where windows lie: a stride apart, the last one at the end."""
    count = max(length - window + stride - 1, 0) // stride + 1
    ends = [min(i * stride + window, length) for i in range(count)]
    return [slice(max(end - window, 0), end) for end in ends]
