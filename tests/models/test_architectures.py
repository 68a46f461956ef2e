"""The architectures that people use, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import formulas
import open_clip
import pytest
import small
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fastclip.models import load

# name -> height and width of the images for pixels, heads of the ViTs
CASES = {
    "ViT-B-32": (70, 100, 12),
    "ViT-B-16": (48, 72, 12),
    "ViT-L-14": (42, 30, 16),
    "RN50": (96, 64, 0),
    "ViT-B-16-SigLIP": (48, 72, 12),
}


def by_formula(
    name: str, visual: Any, weights: formulas.Weights, image: torch.Tensor, heads: int
) -> torch.Tensor:
    if name == "RN50":
        return formulas.resnet(weights, image)
    if "SigLIP" in name:
        return formulas.siglip(weights, image, grid=visual.trunk.patch_embed.grid_size, heads=heads)
    return formulas.vit(weights, image, grid=visual.grid_size, heads=heads, method="value")


SHALLOW = {"ViT-B-16", "ViT-L-14"}
"""Towers as those of ViT-B-32, but for the sizes that layers have: a few of these are enough."""


@pytest.mark.parametrize("name", CASES)
def test_full_width(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in SHALLOW:
        config = open_clip.get_model_config(name)
        for tower in ("vision_cfg", "text_cfg"):
            config[tower]["layers"] = 4
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    height, width, heads = CASES[name]
    torch.manual_seed(0)
    model = load(name, "random")
    small.disturb(model.module)
    images = torch.randn(1, 3, *model.image_size)
    tokens = torch.randint(1, 30000, (2, model.module.context_length))
    model.tokenizer = lambda texts: tokens  # SigLIP's own would have to be downloaded
    with torch.no_grad():
        expected_images = model.module.encode_image(images, normalize=True)
        expected_texts = model.module.encode_text(tokens, normalize=True)
    assert torch.equal(model.encode_image(images), expected_images)
    torch.testing.assert_close(model.encode_text(["", ""]), expected_texts, atol=1e-6, rtol=0)
    assert (model.logit_bias is not None) == ("SigLIP" in name)

    pixels = torch.randn(1, 3, height, width)
    features = model.encode_pixels(pixels)
    weights = model.module.state_dict()
    expected = by_formula(name, model.module.visual, weights, pixels[0], heads)
    torch.testing.assert_close(features[0], expected.float(), atol=5e-6, rtol=0)

    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    del model, weights
    with monkeypatch.context() as patch:
        for draw in ("normal_", "uniform_"):  # nothing of how a model is initialised may stay
            patch.setattr(torch.Tensor, draw, lambda x, *_, **__: x.fill_(torch.nan))
        # The tags of ViT-L-14 differ in how they preprocess images.
        again = load(name, f"laion400m_e32:{path}" if name == "ViT-L-14" else path)
    path.unlink()  # up to 0.8 GB
    again.tokenizer = lambda texts: tokens
    assert torch.equal(again.encode_image(images), expected_images)
    torch.testing.assert_close(again.encode_text(["", ""]), expected_texts, atol=1e-6, rtol=0)
    assert torch.equal(again.encode_pixels(pixels), features)


def test_values_are_not_the_last_block() -> None:
    """The methods differ by much more than what the comparisons above let pass."""
    torch.manual_seed(0)
    model = load("ViT-S-32-alt", "random")
    images = torch.randn(1, 3, 96, 64)
    value, only, plain = (
        model.encode_pixels(images, method=m) for m in ("value", "value-only", "plain")
    )
    for a, b in ((value, only), (value, plain), (only, plain)):
        assert F.cosine_similarity(a, b, dim=1).max() < 0.999
    assert open_clip.__name__ in type(model.module).__module__
