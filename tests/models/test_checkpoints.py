"""Checkpoint files as people have them: other names, other sizes, several in a folder, broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import small
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from fastclip.models import _load, load
from fastclip.training.export import write_model

State = dict[str, torch.Tensor]
HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}
LONG = {**small.TEXT, "context_length": 24}  # tokens, where the architecture has 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save(tmp_path_factory.mktemp("models") / "small-vit", small.VIT)


@pytest.fixture(scope="module")
def weights(folder: Path) -> State:
    return load_file(folder / "model.safetensors")


@pytest.fixture
def architecture(monkeypatch: pytest.MonkeyPatch) -> str:
    name = "fastclip-small-checkpoints"
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, small.model_config(small.VIT))
    return name


def texts(model: Any) -> torch.Tensor:
    return model.encode_text(["a cat", "a dog and " * 9])


def test_files_are_preprocessed_as_the_tags_of_the_architecture(
    architecture: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.new("RGB", (60, 30), (255, 0, 255))
    picture.paste((0, 0, 0), (0, 0, 8, 30))  # which a centre crop would leave out
    file = folder / "model.safetensors"
    assert load(architecture, file).preprocess(picture)[0].min() > 1  # open_clip's own, cropped
    known = open_clip.pretrained._PRETRAINED
    monkeypatch.setitem(known, architecture, {"web": {"url": "", **HALF}})
    for pretrained in (file, folder, "random", f"web:{file}"):
        pixels = load(architecture, pretrained).preprocess(picture)
        assert (pixels[0, :, -1], pixels[0, :, 0], pixels[1, :, -1]) == (
            pytest.approx(1),
            pytest.approx(-1),
            pytest.approx(-1),
        )


def test_tags_that_differ_need_one_of_them(
    architecture: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "model.safetensors"
    of_clip = {**HALF, "mean": (0.25,) * 3, "resize_mode": "shortest", "quick_gelu": True}
    tags = {"web": HALF, "other": of_clip, "third": of_clip}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, architecture, tags)
    message = (
        rf"{file} does not tell .* differ \(mean 0\.5, std 0\.5, squash for web; mean 0\.25, std "
        rf"0\.5, shortest for other, third\), allowed: .* such as web:{file}"
    )
    with pytest.raises(ValueError, match=message):
        load(architecture, file)
    model = load(architecture, f"other:{file}")
    assert model.module.visual.preprocess_cfg["mean"] == (0.25,) * 3
    blocks = model.module.transformer.resblocks
    assert isinstance(blocks[0].mlp.gelu, open_clip.transformer.QuickGELU)
    load(architecture, "random")


def test_a_folder_may_tell_itself(
    architecture: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED,
        architecture,
        {"web": HALF, "other": {**HALF, "resize_mode": "shortest"}},
    )
    shutil.copytree(folder, tmp_path / "told")
    config = tmp_path / "told" / "open_clip_config.json"
    content = json.loads(config.read_text())
    content["model_cfg"]["quick_gelu"] = True
    content["preprocess_cfg"] = {**HALF, "mean": [0.25] * 3}
    config.write_text(json.dumps(content))
    model = load(architecture, tmp_path / "told")
    assert list(model.module.visual.preprocess_cfg["mean"]) == [0.25] * 3
    assert torch.equal(texts(model), texts(load(tmp_path / "told")))  # QuickGELU in both
    with pytest.raises(ValueError, match=r"the tags of .* differ"):
        load(architecture, folder)  # does not tell
    config.write_text("[]")
    with pytest.raises(ValueError, match=r"open_clip_config\.json: does not describe a model"):
        load(architecture, tmp_path / "told")


def test_recipes_of_published_architectures(folder: Path) -> None:
    file = folder / "model.safetensors"
    for name in ("ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP2-378", "PE-Core-B-16"):
        recipe = _load.find(name, file).recipe
        assert (recipe["mean"], recipe["resize_mode"]) == ((0.5,) * 3, "squash")
    assert _load.find("MobileCLIP-B", file).recipe["std"] == (1.0,) * 3
    assert _load.find("ViT-B-32", file).recipe["resize_mode"] == "shortest"
    for name in ("ViT-L-14", "ViT-H-14", "ViT-H-14-quickgelu"):
        with pytest.raises(ValueError, match=f"the tags of {name} differ"):
            _load.find(name, file)
    assert _load.find("ViT-L-14", f"openai:{file}").recipe["quick_gelu"] is True


def test_the_context_length_is_the_checkpoints(
    architecture: str, folder: Path, tmp_path: Path
) -> None:
    longer = small.save(tmp_path / "longer", small.VIT, text_cfg=LONG)
    file = longer / "model.safetensors"
    model = load(architecture, file)
    assert model.tokenizer(["a cat"]).shape == (1, 24)
    assert torch.equal(texts(model), texts(load(longer)))
    assert not torch.equal(texts(model)[1], model.encode_text(["a dog and " * 4])[0])  # 12 words
    shorter = load_file(file)
    shorter["positional_embedding"] = shorter["positional_embedding"][:8].clone()
    save_file(shorter, tmp_path / "shorter.safetensors")
    short = load(architecture, tmp_path / "shorter.safetensors")
    assert short.tokenizer(["a cat"]).shape == (1, 8)
    assert torch.equal(short.encode_text(["a cat"]), load(longer).encode_text(["a cat"]))
    exported = tmp_path / "exported"
    exported.mkdir()
    write_model(exported, architecture, str(file), model.module, model.module.state_dict())
    assert torch.equal(texts(load(exported)), texts(model))


def test_context_length_of_other_towers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "fastclip-small-custom"
    custom = small.model_config(small.VIT, custom_text=True)
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, custom)
    longer = small.save(tmp_path / "longer", small.VIT, text_cfg=LONG, custom_text=True)
    model = load(name, longer / "model.safetensors")
    assert torch.equal(texts(model), texts(load(longer)))


def test_the_two_tables_of_long_clip(architecture: str, tmp_path: Path) -> None:
    longer = small.save(tmp_path / "longer", small.VIT, text_cfg=LONG)
    state = load_file(longer / "model.safetensors")
    table = state["positional_embedding"]
    noise = torch.randn_like(table)
    state["positional_embedding"] = torch.cat([table[:20], noise[20:]])
    state["positional_embedding_res"] = torch.cat([noise[:20], table[20:]])
    torch.save(state, tmp_path / "longclip.pt")
    assert torch.equal(texts(load(architecture, tmp_path / "longclip.pt")), texts(load(longer)))


def test_images_of_another_size_warn(architecture: str, tmp_path: Path) -> None:
    larger = small.save(tmp_path / "larger", {**small.VIT, "image_size": 48})
    with pytest.warns(UserWarning, match=r"of 36 patches are resized to the 4 x 4 of fast"):
        load(architecture, larger / "model.safetensors")


def prefixed(prefix: str) -> Callable[[State], object]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def compiled_towers(state: State) -> State:
    return {name.replace("visual.", "visual._orig_mod."): value for name, value in state.items()}


FORMS: dict[str, Callable[[State], object]] = {
    "compiled": prefixed("_orig_mod."),
    "compiled, then distributed": prefixed("module._orig_mod."),
    "distributed, then compiled": prefixed("_orig_mod.module."),
    "compiled towers": compiled_towers,
    "of a LightningModule": lambda state: {
        "state_dict": {**prefixed("model.")(state), "loss.weight": torch.ones(1)}  # type: ignore[dict-item]
    },
    "of an attribute": prefixed("clip_model."),
    "sharded": prefixed("_fsdp_wrapped_module."),
    "a training script's": lambda state: {"model_state_dict": state, "epoch": 3},
    "as a model": lambda state: {"model": state, "args": {"lr": 0.1}},
    "with what OpenAI adds": lambda state: {**state, "context_length": torch.tensor(16)},
    "a scale with a dimension": lambda state: {
        **state,
        "logit_scale": state["logit_scale"].reshape(1),
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(architecture: str, folder: Path, weights: State, tmp_path: Path, form: str) -> None:
    torch.save(FORMS[form](dict(weights)), tmp_path / "weights.pt")
    found = load(architecture, tmp_path / "weights.pt")
    assert torch.equal(texts(found), texts(load(folder)))


WRONG: dict[str, tuple[object, str]] = {
    "an empty dict": ({}, "holds no weights"),
    "an empty dict inside": ({"state_dict": {}}, "holds no weights"),
    "a list": ([1, 2], "holds a list, not the weights of a model"),
    "a tensor": (torch.ones(3), "holds a Tensor, not the weights"),
    "numbers": ({"epoch": 3}, "'epoch' is a int, allowed: tensors by name"),
    "other keys": ({3: torch.ones(1)}, "3 is a Tensor"),
    "a linear layer": (nn.Linear(2, 2).state_dict(), "lacks .* such as .* and has unknown 2 such"),
    "transformers": (
        {"logit_scale": torch.ones(()), "vision_model.embeddings.class_embedding": torch.ones(2)},
        "is in the format of transformers, allowed: open_clip's",
    ),
    "two models": (
        {"student.logit_scale": torch.ones(()), "teacher.logit_scale": torch.ones(())},
        r"holds several models \(student\., teacher\.\)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_holds_no_model(architecture: str, tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "weights.pt"
    content, message = WRONG[wrong]
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"{architecture}, {path}: .*{message}"):
        load(architecture, path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, 0 bytes"),
        (b"<html>", ""),
        (b"\0" * 9, ""),
        (b"version https://git-lfs", ""),
    ],
)
def test_files_that_are_no_checkpoints(
    architecture: str, folder: Path, tmp_path: Path, suffix: str, content: bytes, message: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{architecture}, {path}: (.*{message})"):
        load(architecture, path)
    shutil.copy(folder / "open_clip_config.json", tmp_path)
    with pytest.raises(ValueError, match=f"{path}: (.*{message})"):
        load(tmp_path)


def test_files_that_are_missing(architecture: str, folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "weights.pt", "nowhere.safetensors", tmp_path / "folder"):
        with pytest.raises(FileNotFoundError, match=f"pretrained: {path}: no such file or folder"):
            load(architecture, path)
    shutil.copy(folder / "open_clip_config.json", tmp_path)
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")  # of a cache that was cleared
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file"):
        load(tmp_path)


def test_folders_from_the_hub(
    architecture: str, folder: Path, weights: State, tmp_path: Path
) -> None:
    """LAION's hold the weights four times, twice of them in the format of transformers."""
    other = {"vision_model.embeddings.class_embedding": torch.ones(2)}
    shutil.copy(folder / "open_clip_config.json", tmp_path)
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    torch.save(weights, tmp_path / "open_clip_pytorch_model.bin")
    save_file(other, tmp_path / "model.safetensors")
    torch.save(other, tmp_path / "pytorch_model.bin")
    expected = texts(load(folder))
    for _ in range(2):
        assert torch.equal(texts(load(tmp_path)), expected)
        assert torch.equal(texts(load(architecture, tmp_path)), expected)
        (tmp_path / "open_clip_model.safetensors").unlink(missing_ok=True)
    (tmp_path / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors: is in the format of transformers"):
        load(tmp_path)
