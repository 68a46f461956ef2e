"""Views, averages and label maps against plain torch, view by view and tag by tag."""

from __future__ import annotations

import inputs
import numpy as np
import pytest
import small
import torch
import torch.nn.functional as F
from PIL import Image

import fastclip
from fastclip.ttd import (
    dense_features,
    encode_tags,
    image_maps,
    label_features,
    segment,
)

pytestmark = pytest.mark.host
RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((90, 60))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fastclip.models.load(str(small.save(tmp_path_factory.mktemp("small") / "m", small.VIT)))


def one_by_one(model, size, scales, flip, window):
    """The mean of each view's features, cell by cell; one forward pass for each view."""
    found = []
    for scale in scales:
        ratio = size * scale / min(PICTURE.size)
        height, width = (max(1, round(n * ratio / 8)) * 8 for n in (PICTURE.height, PICTURE.width))
        pixels = model.prepare([PICTURE], size=(height, width))
        tall, wide = min(window or height, height), min(window or width, width)
        step = max(8, (window or 16) // 2 // 8 * 8)
        ys = sorted({*range(0, height - tall, step), height - tall})
        xs = sorted({*range(0, width - wide, step), width - wide})
        cells = [[[] for _ in range(width // 8)] for _ in range(height // 8)]
        for y in ys:
            for x in xs:
                view = pixels[:, :, y : y + tall, x : x + wide]
                features = model.encode_pixels(view)[0].double()
                if flip:
                    mirrored = model.encode_pixels(view.flip(3))[0].double().flip(2)
                    features = (features + mirrored) / 2
                for i in range(tall // 8):
                    for j in range(wide // 8):
                        cells[y // 8 + i][x // 8 + j].append(features[:, i, j])
        rows = [torch.stack([torch.stack(cell).mean(0) for cell in row], 1) for row in cells]
        found.append(torch.stack(rows, 1)[None])
    grid = max(tuple(features.shape[2:]) for features in found)
    return torch.stack([F.interpolate(features, grid, mode="bilinear") for features in found]).mean(
        0
    )


@pytest.mark.parametrize(
    ("size", "scales", "flip", "window"),
    [
        (32, (1.0,), False, None),
        (32, (1.0, 0.5, 1.5), True, None),
        (40, (1.0,), False, 24),
        (48, (0.5, 1.0), True, 32),
    ],
)
def test_dense_features(model, size, scales, flip, window):
    found = dense_features(model, PICTURE, size=size, scales=scales, flip=flip, window=window)
    exact = one_by_one(model, size, scales, flip, window)
    assert found.shape == exact.shape
    np.testing.assert_allclose(found.numpy(), exact.numpy(), atol=2e-5)


def test_mean_features_score_as_the_mean_of_all_views_maps(model):
    tags = encode_tags(model, ["cat", "dog", "grass", "sky"])
    scales = (1.0, 0.5, 2.0)
    views = [dense_features(model, PICTURE, size=32, scales=(s,)) for s in scales]
    grid = max(tuple(v.shape[2:]) for v in views)
    maps = torch.stack(
        [
            F.interpolate(torch.einsum("bdhw,td->bthw", v, tags).double(), grid, mode="bilinear")
            for v in views
        ]
    ).mean(0)
    maps = F.interpolate(maps, (60, 90), mode="bilinear")[0]
    found = segment(model, PICTURE, tags, size=32, scales=scales)
    best = maps.topk(2, dim=0)
    sure = best.values[0] - best.values[1] > 1e-6
    assert sure.float().mean() > 0.9
    assert torch.equal(found.labels[sure], best.indices[0][sure])
    np.testing.assert_allclose(found.scores.numpy(), best.values[0].numpy(), atol=1e-5)


def test_label_map_of_all_lvis_names_is_torchs():
    tags = fastclip.data.load_sample("lvis").normalized().features
    pixels = inputs.smooth_pixels(tags, 1, 7, 9)
    maps = F.interpolate(
        torch.einsum("bdhw,td->bthw", pixels.double(), tags.double()), (56, 72), mode="bilinear"
    )[0]
    best = maps.topk(2, dim=0)
    sure = best.values[0] - best.values[1] > 1e-6
    for keys in (tags, fastclip.pack(tags)):
        found = label_features(pixels, keys, (56, 72))
        assert torch.equal(found.labels[sure], best.indices[0][sure])
        assert found.labels.unique().numel() > 5


@pytest.mark.parametrize("background", [None, 0.05])
def test_refined_labels_in_blocks(model, background, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    pixels = F.normalize(torch.randn(1, 8, 3, 4, generator=generator))
    tags = F.normalize(torch.randn(7, 8, generator=generator))
    image = torch.rand(1, 3, 12, 16, generator=generator)
    maps = F.interpolate(torch.einsum("bdhw,td->bthw", pixels, tags), (12, 16), mode="bilinear")
    refined = fastclip.refine_masks(image, maps)[0]
    np.testing.assert_array_equal(
        image_maps(pixels, tags, (12, 16), refine_by=image).numpy(), refined.numpy()
    )
    scores, labels = refined.max(0)
    if background is not None:
        labels = labels.masked_fill(scores < background, -1)
        scores = scores.clamp(min=background)
        assert (labels == -1).any()
    for at_once in (1, 3 * 12 * 16, 1 << 26):
        monkeypatch.setattr("fastclip.ttd.labels._AT_ONCE", at_once)
        found = label_features(pixels, tags, (12, 16), background=background, refine_by=image)
        assert torch.equal(found.labels, labels)
        np.testing.assert_allclose(found.scores.numpy(), scores.numpy(), rtol=1e-6)


def test_names_are_encoded_in_prompts_and_a_caption_can_be_the_only_tag(model):
    names = ["cat", "dog", "grass"]
    features = model.encode_text(names, templates=("a {}.", "the {}."))
    found = segment(model, PICTURE, names, size=32, templates=("a {}.", "the {}."), refine=True)
    by_features = segment(model, PICTURE, features, size=32, refine=True)
    assert torch.equal(found.labels, by_features.labels)
    caption = "a cat and a dog"
    score = image_maps(
        dense_features(model, PICTURE, size=32), model.encode_text([caption]), (60, 90)
    )[0]
    middle = score.median().item() + 1e-4
    mask = segment(model, PICTURE, [caption], size=32, templates=("{}",), background=middle).labels
    assert torch.equal(mask == 0, score >= middle)


PIXELS, TAGS = torch.ones(1, 4, 2, 2), torch.eye(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: segment(m, PICTURE.resize((7, 20)), TAGS), "image: must be at least a patch"),
        (lambda m: segment(m, PICTURE, []), "tags: at least one is needed"),
        (lambda m: segment(m, PICTURE, ["cat", "very " * 30]), r"tags\[1\]: longer than .* 16 tok"),
        (lambda m: segment(m, PICTURE, TAGS), "tag.*: rows must be as long"),
        (lambda m: dense_features(m, PICTURE, size=7), "size: must be at least a patch, 8 pixels"),
        (lambda m: dense_features(m, PICTURE, scales=()), "scales: one or more"),
        (lambda m: dense_features(m, PICTURE, scales=(1, 0)), "scales: .* above 0"),
        (lambda m: dense_features(m, PICTURE, window=12), "window: whole patches of 8 x 8"),
        (lambda m: dense_features(m, PICTURE, method="best"), "method: is 'best'"),
        (lambda m: label_features(PIXELS.expand(2, 4, 2, 2), TAGS, (2, 2)), "pixel_features: one"),
        (lambda m: label_features(PIXELS, TAGS, (2, 2), refine_by=torch.ones(1, 3, 2, 3)),
         r"refine_by: shape \(1, 3, 2, 2\) is needed, got \(1, 3, 2, 3\)"),
    ],
)  # fmt: skip
def test_wrong_arguments(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


def test_wrong_images(model, tmp_path):
    with pytest.raises(TypeError, match="image: a PIL image or a path is needed, got Tensor"):
        segment(model, torch.ones(3, 32, 32), TAGS)
    with pytest.raises(FileNotFoundError, match="no such file"):
        segment(model, tmp_path / "none.png", TAGS)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png: not an image"):
        segment(model, tmp_path / "text.png", TAGS)
