"""Cases of TTD: label maps of an image for many tags, once its pixels are encoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from cases import Case, random_pixels, smooth_pixels
from PIL import Image

import fastclip

_SIDE, _PATCH = 448, 16
_NEAR = 1e-6  # of the two best scores: either may be the label


class Encoded:
    """What `segment` needs of a model, whose features are at hand: that of each size of image."""

    patch_size = (_PATCH, _PATCH)

    def __init__(self, pixels: Callable[[int, int], torch.Tensor], scales: tuple[float, ...]):
        sides = [round(_SIDE * scale / _PATCH) for scale in scales]
        self.features = {side * _PATCH: pixels(1, side) for side in sides}

    def prepare(self, images: Any, size: Any) -> torch.Tensor:
        return torch.zeros(1, 3, *size)

    def encode_pixels(self, images: torch.Tensor, method: str) -> torch.Tensor:
        return self.features[images.shape[2]]


def segment_case(
    name: str,
    pixels: Callable[[int, int], torch.Tensor],
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
) -> Case:
    tags = fastclip.data.load_sample("lvis").normalized().features
    packed = fastclip.pack(tags)
    model: Any = Encoded(pixels, scales)
    views = [
        view
        for features in model.features.values()
        for view in ([features, features.flip(3)] if flip else [features])
    ]
    grid = max(features.shape[2] for features in views)
    picture = Image.new("RGB", (_SIDE, _SIDE))

    def mean_maps(dtype: torch.dtype = torch.float32) -> torch.Tensor:
        rows = tags.to(dtype)
        return torch.stack(
            [
                up_sampled(torch.einsum("bdhw,td->bthw", view.to(dtype), rows), grid)
                for view in views
            ]
        ).mean(0)

    def up_sampled(maps: torch.Tensor, side: int) -> torch.Tensor:
        return F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)

    two = [
        up_sampled(maps, _SIDE)[0].topk(2, dim=0)
        for maps in mean_maps(torch.float64).split(1203 // 8 + 1, dim=1)
    ]  # of an eighth of the tags: all tags of all pixels are 2 GB
    starts = range(0, len(tags), 1203 // 8 + 1)
    values = torch.cat([best.values for best in two])
    indices = torch.cat([best.indices + start for best, start in zip(two, starts, strict=True)])
    best, at = values.topk(2, dim=0)
    exact = indices.gather(0, at[:1])[0]
    near = best[0] - best[1] < _NEAR

    def check(who: str, answer: torch.Tensor) -> None:
        assert np.all((answer == exact).numpy() | near.numpy())

    def ours(keys: Any) -> torch.Tensor:
        return fastclip.ttd.segment(model, picture, keys, scales=scales, flip=flip).labels

    return Case(
        description=f"segmentation after encoding, {_SIDE} x {_SIDE}, {len(views)} views, "
        f"{len(tags):,} tags x {tags.shape[1]} float32, {name}",
        work=2.0 * grid * grid * tags.shape[1] * len(tags),
        unit="float32",
        ours={
            "fastclip.ttd.segment": lambda: ours(tags),
            "fastclip.ttd.segment, packed tags": lambda: ours(packed),
        },
        peers={
            "torch einsum + interpolate + argmax": lambda: up_sampled(mean_maps(), _SIDE)[0].argmax(
                0
            )
        },
        check=check,
    )


CASES: dict[str, Callable[[], Case]] = {
    "segment": lambda: segment_case("smooth pixels", smooth_pixels),
    "segment-random": lambda: segment_case("random pixels", random_pixels),
    "segment-views": lambda: segment_case(
        "smooth pixels", smooth_pixels, (1.0, 0.5, 1.5, 2.0), flip=True
    ),
}
