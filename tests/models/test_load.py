"""Where models come from, and what is refused."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import small
import torch
from safetensors.torch import load_file, save_file

from fastclip.models import Model, _load, load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.save(tmp_path_factory.mktemp("models") / "small-vit", small.VIT)


@pytest.fixture(scope="module")
def architecture(folder: Path) -> str:
    """The name of the model in ``folder``, made known to open_clip."""
    path = folder.parent / "fastclip-small-vit.json"
    path.write_text(json.dumps(small.model_config(small.VIT)))
    open_clip.add_model_config(path)
    return path.stem


def features(model: Model) -> torch.Tensor:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return torch.cat([model.encode_image(images), model.encode_text(["a cat", "two dogs"])])


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_every_way_to_the_same_weights(folder: Path, architecture: str, tmp_path: Path) -> None:
    expected = features(load(folder))
    weights = weights_of(folder)
    torch.save(weights, tmp_path / "plain.pt")
    distributed = {f"module.{name}": tensor for name, tensor in weights.items()}
    training = {"epoch": 3, "name": "run", "state_dict": distributed, "optimizer": {"lr": [0.1]}}
    torch.save(training, tmp_path / "training.pt")
    save_file(weights, tmp_path / "half.safetensors")
    only = tmp_path / "only"
    only.mkdir()
    torch.save(weights, only / "weights.pt")
    for name, pretrained in [
        (str(folder), None),
        (f"local-dir:{folder}", None),
        (architecture, folder / "model.safetensors"),
        (architecture, folder),
        (architecture, tmp_path / "plain.pt"),
        (architecture, str(tmp_path / "training.pt")),
        (architecture, only),
    ]:
        assert torch.equal(features(load(name, pretrained)), expected), (name, pretrained)


def test_random_weights_are_those_of_torchs_generator(architecture: str) -> None:
    torch.manual_seed(5)
    first = features(load(architecture, "random"))
    torch.manual_seed(5)
    assert torch.equal(features(load(architecture, "random")), first)
    assert not torch.equal(features(load(architecture, "random")), first)


def test_safetensors_come_before_pickles(folder: Path, architecture: str, tmp_path: Path) -> None:
    torch.save({"of another": torch.ones(1)}, tmp_path / "a.pt")
    shutil.copy(folder / "model.safetensors", tmp_path / "b.safetensors")
    assert torch.equal(features(load(architecture, tmp_path)), features(load(folder)))
    shutil.copy(folder / "model.safetensors", tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"one file of weights is needed, got b\.saf.*, c\.saf"):
        load(architecture, tmp_path)


def test_tiny_is_a_folder_in_the_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tmp_path / "tiny"
    shutil.copytree(folder, tiny)
    # Its vocabulary lies beside it, wherever the working directory is.
    shutil.copy(open_clip.tokenizer.default_bpe(), tiny / "bpe.txt.gz")
    path = tiny / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": "bpe.txt.gz"}
    path.write_text(json.dumps(config))
    monkeypatch.setattr(_load, "_TINY", tiny)
    assert torch.equal(features(load("tiny")), features(load(folder)))
    (tiny / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny: there are no weights \(\*\.safetensors,"):
        load("tiny")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"tiny: there is no open_clip_config\.json"):
        load("tiny")


def test_tags_get_the_activation_that_they_were_trained_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[dict[str, Any]] = []

    def create_model(name: str, weights: str, **options: Any) -> None:
        given.append(options)
        raise RuntimeError("no network in tests")

    monkeypatch.setattr(open_clip, "create_model", create_model)
    for tag in ("openai", "laion2b_s34b_b79k"):
        with pytest.raises(
            ValueError, match=f"ViT-B-32, {tag}: cannot be loaded: RuntimeError: no network"
        ):
            load("ViT-B-32", tag)
    assert [options["force_quick_gelu"] for options in given] == [True, False]
    assert all(options["weights_only"] and options["require_pretrained"] for options in given)
    assert not any(options["pretrained_text"] for options in given)


def test_what_is_in_a_pickle_does_not_run(folder: Path, architecture: str, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "attacked"),)

    weights = weights_of(folder)
    for extra in (Attack(), argparse.Namespace(lr=0.1)):
        torch.save({"state_dict": weights, "extra": extra}, tmp_path / "checkpoint.pt")
        with pytest.raises(ValueError, match=r"checkpoint\.pt: .* never unpickled") as raised:
            load(architecture, tmp_path / "checkpoint.pt")
        assert "weights_only=False" not in str(raised.value)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_a_torchscript_archive_is_refused(architecture: str, tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "scripted.pt")
    with pytest.raises(ValueError, match=r"scripted\.pt: cannot be loaded: .*TorchScript") as error:
        load(architecture, tmp_path / "scripted.pt")
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "weights.pt"])
def test_damaged_weights(folder: Path, architecture: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save(weights_of(folder), tmp_path / "weights.pt")
    shutil.copy(folder / "model.safetensors", tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{architecture}, {path}: "):
        load(architecture, path)


def test_weights_of_another_architecture(folder: Path, architecture: str, tmp_path: Path) -> None:
    other = small.save(tmp_path / "wide", {**small.VIT, "width": 96})
    with pytest.raises(ValueError, match=r"cannot be loaded: .*size mismatch"):
        load(architecture, other)
    save_file({**weights_of(folder), "of another": torch.ones(1)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match=r"more\.saf.* has unknown 1 such as of another"):
        load(architecture, tmp_path / "more.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ViT-B-33",), "name: is 'ViT-B-33', allowed: an architecture .*did you mean 'ViT-B-32'"),
        (("Tiny",), "name: is 'Tiny', allowed: .*; did you mean 'tiny'"),
        (("/nowhere/model",), "name: is '/nowhere/model', allowed:"),
        (("ViT-B-32",), "pretrained: is None, allowed for ViT-B-32: .*'random'.*openai"),
        (("ViT-B-32", "opanai"), "pretrained: is 'opanai', allowed for ViT-B-32: .*mean 'openai'"),
        (("ViT-B-32", "openai:"), "pretrained: is 'openai:', allowed for ViT-B-32: .*openai"),
        (("tiny", "openai"), "pretrained: is 'openai', but .*tiny has its own weights"),
        (("hf-hub:o/n", "openai"), "pretrained: is 'openai', but hf-hub:o/n has its own"),
        ((__file__,), r"name: .*test_load\.py is a file, allowed: a folder with"),
    ],
)
def test_names_that_are_not_allowed(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(*arguments)


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no open_clip_config\.json"):
        load(tmp_path)
    (tmp_path / "model.safetensors").touch()
    for content in ("{", "[]", '{"model_cfg": {"embed_dim": 3}}'):
        (tmp_path / "open_clip_config.json").write_text(content)
        with pytest.raises(ValueError, match=f"{tmp_path}: .*json does not describe a model"):
            load(tmp_path)


def test_devices_and_precisions_that_are_not_allowed(architecture: str) -> None:
    with pytest.raises(ValueError, match="device: 'gpu' cannot be used here"):
        load(architecture, "random", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device: 'cuda' cannot be used here"):
            load(architecture, "random", device="cuda")
    for precision in ("fp16", "float32"):
        with pytest.raises(ValueError, match=f"precision: is '{precision}', allowed on 'cpu': fp3"):
            load(architecture, "random", precision=precision)
    for name in ("convnext_tiny", "ViT-B-16-SigLIP", "coca_ViT-B-32", "roberta-ViT-B-32"):
        with pytest.raises(ValueError, match=f"precision: is 'bf16', allowed for {name}.*: fp32, "):
            load(name, "random", precision="bf16")


def test_a_tokenizer_whose_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = {**small.TEXT, "hf_tokenizer_name": "owner/name"}
    model = load(small.save(tmp_path, small.VIT, text_cfg=text))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"the tokenizer of .* needs the package transformers"):
        model.encode_text(["a cat"])
    assert model.encode_image(torch.zeros(1, 3, 32, 32)).shape == (1, model.dim)


def test_import_leaves_the_heavy_packages_alone() -> None:
    code = (
        "import sys, fastclip; "
        "print({'open_clip', 'timm', 'torchvision', 'transformers', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
