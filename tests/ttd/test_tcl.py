"""TCL's inference against its published steps, written window by window and tag by tag."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
import torch.nn.functional as F
from PIL import Image

import fastclip
from fastclip.ttd import TCL_TEMPLATES, segment_as_tcl, tcl

pytestmark = pytest.mark.host
RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((93, 61))
TAGS = ["cat", "grass", "sky"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> fastclip.models.Model:
    return fastclip.models.load(small.save(tmp_path_factory.mktemp("small") / "m", small.VIT))


def texts_of(model: fastclip.models.Model) -> torch.Tensor:
    rows = []
    for tag in TAGS:
        tokens = model.tokenizer([template.format(tag) for template in TCL_TEMPLATES])
        rows.append(model.module.encode_text(tokens).detach().mean(0))
    return F.normalize(torch.stack(rows), dim=1)


def interpolated(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def by_steps(model, grounded, *, size, window, stride, refine, clip_weight) -> torch.Tensor:
    """Mean maps [T, H, W] at the size of the picture."""
    width, height = PICTURE.size
    ratio = size / min(width, height)
    height, width = int(height * ratio + 0.5), int(width * ratio + 0.5)
    rgb = torch.from_numpy(np.array(PICTURE)).permute(2, 0, 1)[None].float()
    rgb = interpolated(rgb, (height, width)).round() / 255
    image = (rgb - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    texts = texts_of(model)
    total, count = torch.zeros(len(TAGS), height, width), torch.zeros(height, width)
    for i in range(max(height - window + stride - 1, 0) // stride + 1):
        for j in range(max(width - window + stride - 1, 0) // stride + 1):
            bottom, right = min(i * stride + window, height), min(j * stride + window, width)
            top, left = max(bottom - window, 0), max(right - window, 0)
            crop = image[:, :, top:bottom, left:right]
            h, w = crop.shape[2:]
            tall, wide = -h % 8, -w % 8
            padded = torch.zeros(1, 3, h + tall, w + wide)
            padded[:, :, tall // 2 : tall // 2 + h, wide // 2 : wide // 2 + w] = crop
            clip = model.encode_pixels(padded)
            features = clip if grounded is None else F.normalize(grounded(padded), dim=1)
            for number, text in enumerate(texts):
                mask = torch.sigmoid(10 * (features * text.view(1, -1, 1, 1)).sum(1) - 2.5)[None]
                if refine:
                    guide = F.interpolate(
                        padded, mask.shape[2:], mode="bilinear", align_corners=True
                    )
                    mask = fastclip.refine_masks(guide, mask)
                kept = torch.sigmoid(((clip * text.view(1, -1, 1, 1)).sum(1) - 0.25) * 10)[None]
                kept = interpolated(kept, tuple(mask.shape[2:]))
                mask = clip_weight * kept + (1 - clip_weight) * mask
                mask = interpolated(mask, tuple(padded.shape[2:]))[0, 0]
                mask = mask[tall // 2 : tall // 2 + h, wide // 2 : wide // 2 + w]
                total[number, top:bottom, left:right] += mask
            count[top:bottom, left:right] += 1
    return interpolated((total / count)[None], (PICTURE.height, PICTURE.width))[0]


def decoder(pixels: torch.Tensor) -> torch.Tensor:
    """Four features for each patch, of some length, as TCL's decoder has them."""
    pooled = F.avg_pool2d(pixels, 4)
    weights = torch.randn(24, 3, generator=torch.Generator().manual_seed(1))
    return torch.einsum("bchw,dc->bdhw", pooled, weights) * 3


@pytest.mark.parametrize("grounded", [None, decoder])
@pytest.mark.parametrize(
    ("size", "window", "stride", "refine", "clip_weight"),
    [(40, 32, 16, True, 0.3), (36, 64, 32, True, 0.3), (33, 20, 20, False, 0.0)],
)
def test_equals_the_published_steps(
    model, grounded, size, window, stride, refine, clip_weight, monkeypatch
) -> None:
    options = {"size": size, "window": window, "stride": stride, "refine": refine}
    options["clip_weight"] = clip_weight
    maps = by_steps(model, grounded, **options)
    best = maps.max(0).values
    threshold = float(best.median())
    for at_once in (1 << 26, 1):  # all tags together, and one by one
        monkeypatch.setattr(tcl, "_AT_ONCE", at_once)
        found = segment_as_tcl(model, PICTURE, TAGS, background=None, grounded=grounded, **options)
        torch.testing.assert_close(found.scores, best, atol=2e-5, rtol=0)
        assert (found.labels == maps.argmax(0)).float().mean() > 0.999
    found = segment_as_tcl(model, PICTURE, TAGS, background=threshold, grounded=grounded, **options)
    assert ((found.labels == -1) == (best <= threshold)).float().mean() > 0.999
    assert 0.4 < (found.labels == -1).float().mean() < 0.6


def test_the_longer_side_has_a_limit() -> None:
    wide = Image.new("RGB", (1000, 100))
    assert tcl._normalised(wide, 448).shape == (1, 3, 205, 2048)
    assert tcl._normalised(Image.new("RGB", (500, 400)), 448).shape == (1, 3, 448, 560)


def test_errors(model) -> None:
    with pytest.raises(ValueError, match="tags: at least one is needed"):
        segment_as_tcl(model, PICTURE, [])
    with pytest.raises(ValueError, match=r"clip_weight: is 1\.5, allowed: from 0 to 1"):
        segment_as_tcl(model, PICTURE, TAGS, clip_weight=1.5)
    with pytest.raises(ValueError, match="stride: is 0, allowed: 1 or more"):
        segment_as_tcl(model, PICTURE, TAGS, stride=0)
    with pytest.raises(ValueError, match=r"grounded: must return shape \[1, 24, h, w\], got"):
        segment_as_tcl(model, PICTURE, TAGS, grounded=lambda pixels: pixels, size=32)
