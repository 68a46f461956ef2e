"""Features of images and texts: those of open_clip's own calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import small
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import fastclip
from fastclip.models import Model, load, templates

COCA = {
    "custom_text": True,
    "text_cfg": {**small.TEXT, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {**small.TEXT, "mlp_ratio": 2},
}
KINDS: dict[str, dict[str, Any]] = {
    "vit": {"vision": small.VIT},
    "quick": {"vision": small.VIT, "quick_gelu": True},
    "mean": {
        "vision": {**small.VIT, "pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}
    },
    "custom": {"vision": {**small.VIT, "output_tokens": True}, "custom_text": True},
    "dropout": {"vision": {**small.VIT, "patch_dropout": 0.5}},
    "resnet": {"vision": small.RESNET},
    "coca": {
        "vision": {**small.VIT, "attentional_pool": True, "attn_pooler_heads": 2},
        **COCA,
    },
}
KINDS["coca"]["vision"]["output_tokens"] = True
TEXTS = ["a cat", "two dogs on a sofa", "", "a cat"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("models")
    return {name: small.save(parent / name, **kind) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def model(folders: dict[str, Path]) -> Model:
    return load(folders["vit"])


def picture(size: tuple[int, int] = (50, 37), seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_open_clips_own_calls(kind: str, folders: dict[str, Path]) -> None:
    name = f"local-dir:{folders[kind]}"
    module, _, preprocess = open_clip.create_model_and_transforms(name)
    module.eval()
    pictures = [picture(seed=i) for i in range(3)]
    batch = torch.stack([preprocess(p) for p in pictures])
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    module.visual.output_tokens = kind == "coca"  # others of open_clip cannot normalise then
    with torch.no_grad():
        images = module.encode_image(batch, normalize=True)
        texts = module.encode_text(tokens, normalize=True)
    model = load(folders[kind])
    assert torch.equal(model.encode_image(pictures), images)
    assert torch.equal(model.encode_image(batch), images)
    assert torch.equal(model.encode_image(list(batch)), images)
    torch.testing.assert_close(model.encode_text(TEXTS), texts, atol=1e-6, rtol=0)
    assert model.dim == images.shape[1] == texts.shape[1] == 24
    assert model.image_size == tuple(batch.shape[2:])
    assert model.logit_scale == pytest.approx(module.logit_scale.exp().item())
    assert model.device == torch.device("cpu")


def test_features_are_unit_rows_that_autograd_takes(model: Model) -> None:
    features = model.encode_image([picture()])
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1))
    weights = torch.ones(model.dim, requires_grad=True)
    (features * weights).sum().backward()  # fails on tensors of inference mode
    assert torch.equal(weights.grad, features[0])


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_batches_change_nothing_but_float_noise(kind: str, folders: dict[str, Path]) -> None:
    model = load(folders[kind])
    images = torch.randn(7, 3, *model.image_size)
    texts = [f"text {i}" for i in range(7)]
    for size in (1, 3, 7):
        for function, inputs in ((model.encode_image, images), (model.encode_text, texts)):
            whole, parts = function(inputs), function(inputs, batch_size=size)
            torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
        whole, parts = model.encode_pixels(images), model.encode_pixels(images, batch_size=size)
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


def test_nothing_gives_nothing(model: Model) -> None:
    assert model.encode_image([]).shape == (0, model.dim)
    assert model.encode_image(torch.empty(0, 3, 32, 32)).shape == (0, model.dim)
    assert model.encode_text([]).shape == (0, model.dim)
    assert model.encode_text([], templates=["a {}"]).shape == (0, model.dim)
    with pytest.raises(ValueError, match="images: at least one image is needed"):
        model.encode_pixels([])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 256])
def test_prompts_are_averaged_as_unit_rows(model: Model, batch_size: int) -> None:
    patterns = ["{}", "a photo of a {}.", "{} in a {{video}} game", "art of the {}"]
    names = ["cat", "dog {x}", "sofa"]
    prompts = [[p.replace("{}", name) for p in patterns[:2]] for name in names]
    rows = torch.stack([model.encode_text(p).double() for p in prompts])
    rows = rows / rows.norm(dim=2, keepdim=True)
    mean = rows.sum(1) / len(patterns[:2])
    expected = (mean / mean.norm(dim=1, keepdim=True)).float()
    features = model.encode_text(names, templates=patterns[:2], batch_size=batch_size)
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=0)
    single = model.encode_text(names, templates=("art of the {}",))
    assert torch.equal(single, model.encode_text([f"art of the {name}" for name in names]))


def test_templates_are_those_of_open_clips_classifier(model: Model) -> None:
    names = ["cat", "traffic light"]
    weights = open_clip.build_zero_shot_classifier(
        model.module, model.tokenizer, names, open_clip.OPENAI_IMAGENET_TEMPLATES
    )
    features = model.encode_text(names, templates=templates("imagenet"))
    torch.testing.assert_close(features, weights.T, atol=1e-6, rtol=0)
    assert set(templates("imagenet-simple")) <= set(templates("imagenet"))
    with pytest.raises(ValueError, match="name: is 'imagenet22k', allowed: imagenet, imagenet-sim"):
        templates("imagenet22k")


def test_precisions(folders: dict[str, Path]) -> None:
    images = torch.randn(4, 3, 32, 32)
    exact = load(folders["vit"])
    for precision in ("bf16", "amp"):
        model = load(folders["vit"], precision=precision)
        assert model.logit_scale == exact.logit_scale
        for rough, fine in [
            (model.encode_image(images), exact.encode_image(images)),
            (model.encode_text(TEXTS), exact.encode_text(TEXTS)),
            (model.encode_pixels(images), exact.encode_pixels(images)),
        ]:
            assert rough.dtype == torch.float32
            torch.testing.assert_close(rough.norm(dim=1), fine.norm(dim=1))
            error = (rough - fine).abs().max()
            assert 0 < error < 0.03  # bfloat16 has 8 bits, unit rows of 24 have numbers about 0.2
    name = f"local-dir:{folders['vit']}"
    module = open_clip.create_model(name, precision="bf16").eval()
    with torch.no_grad():
        expected = F.normalize(module.encode_image(images.bfloat16()).float(), dim=1)
    assert torch.equal(load(folders["vit"], precision="bf16").encode_image(images), expected)


@pytest.mark.parametrize("kind", ["dropout", "resnet"])
def test_training_mode_is_left_aside_and_put_back(kind: str, folders: dict[str, Path]) -> None:
    model = load(folders[kind])
    images = torch.randn(3, 3, *model.image_size)
    expected = model.encode_image(images), model.encode_pixels(images)
    state = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    model.module.train()
    frozen = next(m for m in model.module.modules() if not list(m.children()))
    frozen.eval()
    modes = [m.training for m in model.module.modules()]
    assert torch.equal(model.encode_image(images), expected[0])
    assert torch.equal(model.encode_pixels(images), expected[1])
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.encode_image(images * torch.nan)
    assert [m.training for m in model.module.modules()] == modes
    assert all(torch.equal(state[name], now) for name, now in model.module.state_dict().items())


def test_files_and_kinds_of_pictures(model: Model, tmp_path: Path) -> None:
    rgb = picture()
    rgb.save(tmp_path / "plain.png")
    turned = rgb.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    grey = rgb.convert("L")
    clear = rgb.convert("RGBA")
    clear.putalpha(0)
    palette = rgb.convert("P")
    pictures = [rgb, tmp_path / "plain.png", str(tmp_path / "turned.png"), grey, clear, palette]
    same = [rgb, rgb, rgb, grey.convert("RGB"), Image.new("RGB", rgb.size, "white")]
    features = model.encode_image(pictures)
    assert torch.equal(features, model.encode_image([*same, palette.convert("RGB")]))
    assert torch.equal(model.prepare(pictures[:1])[0], model.preprocess(rgb))
    assert model.prepare(pictures, size=(24, 40)).shape == (6, 3, 24, 40)


def test_progress_is_on_stderr_of_a_terminal(
    model: Model, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model.encode_image([picture()], progress=True)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, a terminal
    model.encode_image([picture()])
    assert capfd.readouterr() == ("", "")
    model.encode_image([picture()], progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "encoding images" in err


def test_wrong_images(model: Model, tmp_path: Path) -> None:
    good = torch.zeros(3, 32, 32)
    image: Any
    for image, error, message in [
        (picture(), TypeError, "images: a sequence of .* is needed, got Image"),
        ("cat.png", TypeError, "images: a sequence of .* is needed, got str"),
        ([good, 3], TypeError, r"images\[1\]: PIL images, .* are allowed, got int"),
        ([tmp_path / "no.png"], FileNotFoundError, r"images\[0\]: .*no\.png: no such file"),
        (good, ValueError, r"images: shape \[B, 3, H, W\] is needed, got \(3, 32, 32\)"),
        ([good[:1]], ValueError, r"images\[0\]: shape \[3, H, W\] is needed, got \(1, 32, 32\)"),
        (good[None].byte(), TypeError, "images: a preprocessed tensor .* got torch.uint8"),
        ([good.int()], TypeError, r"images\[0\]: a preprocessed tensor .* got torch.int32"),
    ]:
        for function in (model.encode_image, model.encode_pixels, model.prepare):
            with pytest.raises(error, match=message):
                function(image)
    for image in (torch.zeros(1, 3, 40, 32), [good, torch.zeros(3, 40, 32)]):
        with pytest.raises(ValueError, match=r"takes \(32, 32\) pixels \(H, W\), got \(40, 32\)"):
            model.encode_image(image)
    with pytest.raises(ValueError, match=r"all be of one size \(H, W\), got \[\(32, 32\), \(40, "):
        model.encode_pixels([good, torch.zeros(3, 40, 32)])
    with pytest.raises(ValueError, match="images: must all be of one size"):
        model.encode_pixels([good, torch.zeros(3, 40, 32)], batch_size=1)
    bad = torch.zeros(3, 3, 32, 32)
    bad[2, 0, 0, 0] = torch.inf
    for batch_size in (1, 2, 64):
        with pytest.raises(ValueError, match="images: the features of number 2 came out as NaN"):
            model.encode_image(bad, batch_size=batch_size)


def test_wrong_texts_and_numbers(model: Model) -> None:
    texts: Any
    for texts, message in [
        ("cat", "texts: a sequence of str is needed, got str"),
        (iter(["cat"]), "texts: a sequence of str is needed, got list_iterator"),
        (["cat", None], r"texts\[1\]: a str is needed, got NoneType"),
    ]:
        with pytest.raises(TypeError, match=message):
            model.encode_text(texts)
    with pytest.raises(TypeError, match="templates: a sequence of str is needed, got str"):
        model.encode_text(["cat"], templates="a {}")
    for patterns, message in [
        ([], "templates: at least one is needed, got none"),
        (["a {}", "a cat"], r"templates\[1\]: one \{\} is needed, got 'a cat'"),
        (["{} and {}"], r"templates\[0\]: one \{\} is needed"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.encode_text(["cat"], templates=patterns)
    for function, inputs in [
        (model.encode_text, ["cat"]),
        (model.encode_image, [picture()]),
        (model.encode_pixels, [picture()]),
    ]:
        with pytest.raises(ValueError, match="batch_size: is 0, allowed: 1 or more"):
            function(inputs, batch_size=0)
    with pytest.raises(ValueError, match="size: is 0, allowed: 1 or more"):
        model.encode_pixels([picture()], size=(0, 32))
    with pytest.raises(ValueError, match=r"size: two numbers \(H, W\) are needed, got \(3,\)"):
        model.encode_pixels([picture()], size=(3,))


class Recorded(nn.Module):
    """Gives features that a real model gave once."""

    def __init__(self, arrays: Any) -> None:
        super().__init__()
        self.visual = nn.Module()
        self.visual.preprocess_cfg, self.visual.image_size = {}, 224
        self.logit_scale = nn.Parameter(torch.tensor(np.log(arrays["logit_scale"])))
        self.images = torch.from_numpy(arrays["image_features"])
        self.texts = torch.from_numpy(arrays["text_features"])

    def encode_image(self, image: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        return self.images

    def encode_text(self, text: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        return self.texts


def test_the_published_probabilities_of_a_real_picture(real_data: Path) -> None:
    """The example in the README of OpenAI's CLIP, ViT-B/32."""
    path = real_data / "clip_features" / "golden_vitb32.npz"
    with np.load(path, allow_pickle=False) as arrays:
        module = Recorded(arrays)
        texts, expected = arrays["texts"].tolist(), arrays["expected_probs"]
    model = Model(module, make_tokenizer=open_clip.SimpleTokenizer, dim=512)
    assert model.logit_scale == pytest.approx(100, rel=1e-6)
    image = model.encode_image([Image.new("RGB", (300, 200))])
    text = model.encode_text(texts)
    scores = fastclip.similarity(image, text)
    probabilities = (model.logit_scale * scores.double()).softmax(1)
    np.testing.assert_allclose(probabilities.numpy(), expected, atol=2e-5)
