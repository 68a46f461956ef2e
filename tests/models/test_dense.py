"""Features of pixels, against the formulas in formulas.py."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import formulas
import numpy as np
import pytest
import small
import torch
import torch.nn.functional as F
from PIL import Image

from fastclip.models import Model, load, pixel_features

METHODS = ("value", "value-only", "plain")
VARIANTS: dict[str, dict[str, Any]] = {
    "vit": {},
    "one block": {"layers": 1},
    "no ln_pre, mean of patches": {
        "no_ln_pre": True,
        "pool_type": "avg",
        "final_ln_after_pool": True,
    },
    "layer scale": {"ls_init_value": 0.3},
    "fixed positions": {"pos_embed_type": "sin_cos_2d"},
    "output tokens": {"output_tokens": True},
    "oblong": {"image_size": [32, 48], "patch_size": [8, 16]},
}
SIZES = [(32, 32), (48, 80), (37, 21), (1, 1), (8, 100)]
CUSTOM = ("qk_norm", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")


def close(features: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(features, expected.float(), atol=5e-6, rtol=0)


def images_of(height: int, width: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(small.save(tmp_path_factory.mktemp("models") / "vit", small.VIT))


@pytest.mark.parametrize("variant", VARIANTS)
def test_vits_are_read_by_the_formulas(variant: str, tmp_path: Path) -> None:
    vision = {**small.VIT, **VARIANTS[variant]}
    for quick in (False, True):
        model = load(small.save(tmp_path, vision, quick_gelu=quick))
        before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
        grid = tuple(model.module.visual.grid_size)
        for size in SIZES:
            images = images_of(*size)
            for method in METHODS:
                features = model.encode_pixels(images, method=method)
                for image, found in zip(images, features, strict=True):
                    activation = formulas.quick_gelu if quick else F.gelu
                    close(
                        found,
                        formulas.vit(
                            before,
                            image,
                            grid=grid,
                            heads=2,
                            method=method,
                            activation=activation,
                        ),
                    )
        after = model.module.state_dict()
        assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


@pytest.mark.parametrize("size", [(64, 64), (96, 32), (33, 70), (1, 1)])
def test_resnets_are_read_by_the_formula(size: tuple[int, int], tmp_path: Path) -> None:
    model = load(small.save(tmp_path, small.RESNET))
    images = images_of(*size)
    features = model.encode_pixels(images)
    padded = torch.zeros(2, 3, -(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
    padded[:, :, : size[0], : size[1]] = images
    for image, found in zip(padded, features, strict=True):
        close(found, formulas.resnet(model.module.state_dict(), image))
    with pytest.raises(ValueError, match=r"method: is 'plain', allowed .*ModifiedResNet: value"):
        model.encode_pixels(images, method="plain")


@pytest.mark.parametrize("option", CUSTOM)
def test_value_is_the_last_block_whose_tokens_see_themselves_alone(
    option: str, tmp_path: Path
) -> None:
    """TCL's way to the same features, for open_clip's other kind of blocks."""
    model = load(small.save(tmp_path, {**small.VIT, option: True}))
    images = images_of(48, 80)
    value = model.encode_pixels(images)
    last = model.module.visual.transformer.resblocks[-1]
    mask = torch.full((61, 61), -torch.inf).fill_diagonal_(0)
    unmasked, last.forward = last.forward, partial(last.forward, attn_mask=mask)
    torch.testing.assert_close(
        value, model.encode_pixels(images, method="plain"), atol=5e-6, rtol=0
    )
    last.forward = unmasked
    assert (value - model.encode_pixels(images, method="plain")).abs().max() > 0.01
    outputs = []
    last.ls_1.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    only = model.encode_pixels(images, method="value-only")
    visual = model.module.visual
    rows = F.normalize(visual.ln_post(outputs[0].reshape(2, 60, -1)) @ visual.proj, dim=2)
    close(only, rows.detach().reshape(2, 6, 10, -1).permute(0, 3, 1, 2))


def test_plain_is_what_open_clip_knows_of_the_patches(model: Model) -> None:
    images = images_of(32, 32)
    with torch.no_grad():
        output = model.module.visual.forward_intermediates(
            images, indices=1, normalize_intermediates=True, output_fmt="NCHW"
        )
    (tokens,) = output["image_intermediates"]
    expected = torch.einsum("bchw,cd->bdhw", tokens, model.module.visual.proj.detach())
    found = model.encode_pixels(images, method="plain")
    torch.testing.assert_close(found, F.normalize(expected, dim=1), atol=1e-6, rtol=0)


def test_positions_can_be_resized_as_open_clip_does_when_it_loads(
    model: Model, tmp_path: Path
) -> None:
    folder = small.save(tmp_path, small.VIT)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = [72, 40]
    path.write_text(json.dumps(config))
    larger = load(folder)
    assert larger.image_size == (72, 40)
    images = images_of(72, 40)
    for method in METHODS:
        found = model.encode_pixels(images, method=method, antialias=True)
        expected = larger.encode_pixels(images, method=method)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        # By default they are not: the kernels differ even where the grid grows.
        assert (model.encode_pixels(images, method=method) - expected).abs().max() > 1e-3


def test_cells_cover_whole_patches_from_the_top_left(model: Model) -> None:
    """A change in one pixel moves, by the value path, the features of its own cell the most."""
    images = images_of(29, 45, count=1)
    changed = images.clone()
    changed[0, :, 26, 43] += 5  # in the last row and column of cells, which the image cuts off
    moved = (model.encode_pixels(changed) - model.encode_pixels(images)).norm(dim=1)[0]
    assert moved.shape == (4, 6)
    assert int(moved.argmax()) == 3 * 6 + 5


def test_pictures_are_resized_whole_or_preprocessed(model: Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    assert torch.equal(
        model.encode_pixels([picture]), model.encode_pixels(model.preprocess(picture)[None])
    )
    resized = picture.resize((56, 24), Image.Resampling.BICUBIC)
    mean, std = (
        torch.tensor(model.module.visual.preprocess_cfg[name]).view(3, 1, 1)
        for name in ("mean", "std")
    )
    tensor = (torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(model.prepare([picture], size=(24, 56))[0], tensor)
    features = model.encode_pixels([picture], size=(24, 56))
    close(features, model.encode_pixels(tensor[None]))
    assert features.shape == (1, model.dim, 3, 7)


def test_features_for_training_have_gradients(model: Model) -> None:
    images = images_of(24, 40)
    for method in METHODS:
        model.module.zero_grad()
        features = pixel_features(model.module, images, method=method)
        close(F.normalize(features, dim=1).detach(), model.encode_pixels(images, method=method))
        features.square().sum().backward()
        visual = model.module.visual
        for parameter in (visual.positional_embedding, visual.conv1.weight, visual.proj):
            assert parameter.grad.abs().max() > 0
    model.module.zero_grad()
    with pytest.raises(ValueError, match=r"images: shape \[B, 3, H, W\] is needed, got \(3, 24,"):
        pixel_features(model.module, images[0])


def test_no_patches_are_dropped_in_training(tmp_path: Path) -> None:
    model = load(small.save(tmp_path, {**small.VIT, "patch_dropout": 0.5}))
    images = images_of(24, 40)
    expected = pixel_features(model.module, images)
    model.module.train()
    assert expected.shape == (2, model.dim, 3, 5)
    assert torch.equal(pixel_features(model.module, images), expected)


def test_methods_that_do_not_exist(model: Model) -> None:
    with pytest.raises(ValueError, match=r"method: is 'query', .*: value, value-only, plain"):
        model.encode_pixels(images_of(32, 32), method="query")


def test_towers_that_pool_by_attention_are_refused(tmp_path: Path) -> None:
    vision = {**small.VIT, "attentional_pool": True, "attn_pooler_heads": 2}
    model = load(small.save(tmp_path, vision))
    assert model.patch_size is None
    with pytest.raises(ValueError, match="VisionTransformer with attentional pooling, allowed: "):
        model.encode_pixels(images_of(32, 32))


def test_towers_of_timm_that_are_refused() -> None:
    model = load("vit_medium_patch16_gap_256", "random")
    assert model.patch_size is None
    assert model.encode_image(images_of(256, 256, count=1)).shape == (1, 512)
    with pytest.raises(ValueError, match="timm's VisionTransformer with pooling by mean or token"):
        model.encode_pixels(images_of(64, 64))


def test_convnext_gives_its_head_each_cell() -> None:
    model = load("convnext_tiny", "random")
    small.disturb(model.module)
    visual = model.module.visual
    images = images_of(50, 96)
    features = model.encode_pixels(images)
    weights = formulas.part(model.module.state_dict(), "visual.")
    padded = F.pad(images, (0, 0, 0, 14))
    with torch.no_grad():
        x = visual.trunk.forward_features(padded).permute(0, 2, 3, 1).double()
    x = formulas.norm(x, weights, "trunk.head.norm", eps=visual.trunk.head.norm.eps)
    x = F.normalize(x @ weights["head.proj.weight"].T, dim=3)
    assert features.shape == (2, 1024, 2, 3)
    close(features, x.permute(0, 3, 1, 2))
