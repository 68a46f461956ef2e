from __future__ import annotations

from pathlib import Path

import authors
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up import cone, made_up_coder, unit

import fastclip
from fastclip.coder import ClassTexts, Coder, CoderClassifier, OneClass


@given(seed=st.integers(0, 2**31), classes=st.integers(1, 8), width=st.integers(1, 50))
def test_equals_the_matrix(seed: int, classes: int, width: int) -> None:
    coder, generator = made_up_coder(classes, width, seed)
    x, y = cone(9, width, generator), cone(6, width, generator)
    phi_x, phi_y = (authors.representation(z.numpy(), coder.features.numpy()) for z in (x, y))
    np.testing.assert_allclose(coder.transform(x).numpy(), phi_x, atol=1e-6)
    np.testing.assert_allclose(
        coder.inner_products(x, y).numpy(), phi_x @ phi_y.T, rtol=1e-5, atol=1e-6
    )
    k = min(4, len(coder.texts))
    best = coder.neighbours(x, k)
    assert torch.equal(best.values, coder.transform(x).gather(1, best.indices))
    assert (best.values[:, -1:] >= coder.transform(x)).sum() >= 9 * (len(coder.texts) - k)


def test_kinds_and_weights() -> None:
    coder, generator = made_up_coder(5, 12, 4)
    x = cone(3, 12, generator)
    rows = coder.prompts.of_kinds(("name", "analogous"))
    phi = coder.transform(x)[:, rows].double()
    found = coder.inner_products(x, x, ("name", "analogous"))
    torch.testing.assert_close(found, phi @ phi.T, atol=1e-5, rtol=0)
    counts = torch.bincount(coder.prompts.class_of).double()
    weighted = coder.transform(x).double() / counts.sqrt()[coder.prompts.class_of]
    found = coder.inner_products(x, x, weighting="class")
    torch.testing.assert_close(found, weighted @ weighted.T, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="weighting: is 'name', allowed: text, class"):
        coder.weights("name")


def test_a_model_encodes_texts_and_pair_texts() -> None:
    known = ClassTexts(
        (OneClass("cat", attributes=("whiskers",)), OneClass("dog")),
        {("cat", "dog"): ("claws",), ("dog", "cat"): ("a wagging tail",)},
    )
    model = fastclip.models.load("ViT-S-32-alt", "random")
    coder = Coder(known, model)
    assert torch.equal(coder.features, model.encode_text(coder.texts))
    assert torch.equal(coder.pair_features, model.encode_text(coder.prompts.pair_texts))
    names = coder.features[coder.prompts.of_kinds(("name",))]
    torch.testing.assert_close(coder.name_weights(), names)
    with pytest.raises(ValueError, match="pair_features: a model encodes the texts"):
        Coder(known, model, coder.pair_features)


PROMPTS = ClassTexts((OneClass("cat"), OneClass("dog")), {("cat", "dog"): ("a",)}).prompts()


@pytest.mark.parametrize(
    ("features", "pair_features", "error", "message"),
    [
        (torch.eye(3), None, ValueError, "features: 2 rows are needed, one per text, got 3"),
        (2 * torch.eye(2), None, ValueError, "features: rows of unit length .* row 0 has length 2"),
        (torch.eye(2).double(), None, TypeError, "features: float32, float16"),
        (torch.eye(2), torch.eye(2), ValueError, "pair_features: 3 rows are needed"),
        (torch.eye(2), unit(torch.ones(3, 4)), ValueError, "pair_features: rows must be as long"),
    ],
)
def test_names_the_wrong_argument(
    features: torch.Tensor, pair_features: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Coder(PROMPTS, features, pair_features)
    with pytest.raises(TypeError, match="texts: ClassTexts or Prompts are needed, got list"):
        Coder(["cat"], torch.eye(2))


def test_float16_features_are_taken() -> None:
    rows = unit(torch.randn(2, 512, generator=torch.Generator().manual_seed(0))).half()
    assert Coder(PROMPTS, rows).features.dtype == torch.float32


def test_real_prototypes_as_texts(real_data: Path) -> None:
    """THINGS: each picture's nearest class by ViT-L/14, as the data's description has it."""
    data = np.load(real_data / "clip_features" / "things200_vitl14.npz")
    known = ClassTexts(tuple(OneClass(name) for name in data["names"].tolist()))
    coder = Coder(known, unit(torch.from_numpy(data["class_prototypes"])))
    images = torch.from_numpy(data["image_features"])
    right = CoderClassifier().fit(coder).predict(images) == torch.arange(200)
    assert right.double().mean() == 0.98
    best = coder.neighbours(images, 1)
    assert (best.indices[:, 0] == torch.arange(200)).double().mean() == 0.98


def test_real_captions_as_texts() -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized()
    known = ClassTexts(tuple(OneClass(f"{i}", (f"{i}",)) for i in range(250)))
    coder = Coder(known, captions.features)
    assert len(coder.texts) == 500
    phi = authors.representation(images.numpy(), captions.features.numpy())
    found = coder.inner_products(images, images)
    np.testing.assert_allclose(found.numpy(), phi @ phi.T, rtol=1e-6)
