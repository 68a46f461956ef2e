from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from fastclip.data.scenes import exchanged, load_drawings
from fastclip.models.tiny import train as module
from fastclip.models.tiny.train import Recipe, TrainingPictures, rate_at, train

open_clip = pytest.importorskip("open_clip")
pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch.optim.Muon")

# The shipped drawings, taken for a set that may be trained on.
DRAWINGS = dataclasses.replace(load_drawings(), sets=("twemoji",), sources=("twemoji",))
SMALL = Recipe(steps=6, batch=16, warmup=1, width=64, layers=2)


def build(recipe: Recipe = SMALL) -> Any:
    torch.manual_seed(0)
    return open_clip.CLIP(**module.configuration(recipe, 600)["model_cfg"])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def test_loss_falls_and_plain_open_clip_loads_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(DRAWINGS, tmp_path, 0, dataclasses.replace(SMALL, steps=50, batch=32))
    with open(tmp_path / "loss.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 50
    assert sum(losses[-10:]) < sum(losses[:10]) - 1

    monkeypatch.chdir(tmp_path)
    name = f"local-dir:{tmp_path}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    tokens = open_clip.get_tokenizer(name)(["a cat"])
    assert model.encode_text(tokens).shape == (1, 128)
    assert type(model) is open_clip.CLIP
    for key, tensor in weights(tmp_path).items():
        assert tensor.dtype == torch.float16
        assert torch.equal(model.state_dict()[key], tensor.float())
    assert "<svg" in (tmp_path / "loss.svg").read_text()
    from PIL import Image

    picture = preprocess(Image.new("RGB", (100, 60), (255, 0, 0)))
    expected = module.normalised(torch.tensor([1.0, 0, 0])[None, :, None, None])
    assert picture.shape == (3, 64, 64)
    assert torch.allclose(picture, expected[0].expand(3, 64, 64), atol=1e-5)


def test_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(SMALL, checkpoint_seconds=0)
    train(DRAWINGS, tmp_path / "whole", 1, recipe)
    batch = TrainingPictures.batch

    def stop(self: TrainingPictures, step: int) -> Any:
        if step == 4:
            raise KeyboardInterrupt
        return batch(self, step)

    monkeypatch.setattr(TrainingPictures, "batch", stop)
    with pytest.raises(KeyboardInterrupt):
        train(DRAWINGS, tmp_path / "broken", 1, recipe)
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    monkeypatch.undo()
    train(DRAWINGS, tmp_path / "broken", 1, recipe)
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[key], broken[key]) for key in whole)
    logs = [(tmp_path / name / "loss.csv").read_text() for name in ("whole", "broken")]
    assert logs[0] == logs[1]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    train(DRAWINGS, tmp_path, 1, SMALL)
    for seed, change in ((2, {}), (1, {"lr": 1.0}), (1, {"steps": 9})):
        recipe = dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"checkpoint\.pt: is of seed 1"):
            train(DRAWINGS, tmp_path, seed, recipe)


def test_loss_is_open_clips_where_no_pair_is_left_out() -> None:
    model = build()
    images = torch.randn(6, 3, 64, 64)
    tokens = torch.randint(1, 599, (6, 32))
    tokens[:, 20] = 599
    with torch.no_grad():
        image, text = model.encode_image(images, True), model.encode_text(tokens, True)
        expected = open_clip.ClipLoss()(image, text, model.logit_scale.exp())
        none = torch.zeros(6, 6, dtype=torch.bool)
        assert torch.allclose(module.contrastive_loss(model, images, tokens, none), expected)
        left_out = none.clone()
        left_out[1, 4] = left_out[4, 1] = True
        logits = model.logit_scale.exp() * image @ text.T
        rows = [
            F.cross_entropy(row[~m], (~m)[:i].sum())
            for i, (row, m) in enumerate(zip(logits, left_out, strict=True))
        ]
        columns = [
            F.cross_entropy(row[~m], (~m)[:i].sum())
            for i, (row, m) in enumerate(zip(logits.T, left_out, strict=True))
        ]
        expected = torch.stack(rows + columns).mean()
        assert torch.allclose(module.contrastive_loss(model, images, tokens, left_out), expected)


def test_pictures_are_the_same_in_every_batch() -> None:
    pictures = TrainingPictures(DRAWINGS, SMALL, 3)
    other = TrainingPictures(DRAWINGS, dataclasses.replace(SMALL, batch=8), 3)
    images, captions, _ = pictures.batch(1)
    parts = [other.batch(step) for step in (2, 3)]
    assert torch.equal(images, torch.cat([part[0] for part in parts]))
    assert captions == [c for part in parts for c in part[1]]


def test_some_pairs_are_followed_by_themselves_exchanged() -> None:
    pictures = TrainingPictures(DRAWINGS, Recipe(), 0)
    followed = 0
    for index in range(0, 400, 2):
        (scene, caption), (after, other) = pictures.item(index), pictures.item(index + 1)
        if len(scene.names) == 2 and after == exchanged(scene):
            followed += 1
            assert caption != other
    assert 12 <= followed <= 40  # 0.42 * 0.3 of 200


def test_only_pictures_of_the_same_single_object_are_no_negatives() -> None:
    few = DRAWINGS.of_names([0, 1, 2, 3, 4])
    pictures = TrainingPictures(few, dataclasses.replace(SMALL, batch=64), 0)
    scenes = [pictures.item(i)[0] for i in range(64)]
    same = pictures.batch(0)[2]
    for i, first in enumerate(scenes):
        for j, second in enumerate(scenes):
            alike = len(first.names) == 1 and first.names == second.names
            assert same[i, j] == (alike and i != j)


def test_masters_keep_what_weights_round_away() -> None:
    model = build()
    optimizer = module.Optimizer(model, SMALL)
    kept = [master.clone() for master in optimizer.masters]
    for weight in optimizer.weights:
        assert weight.dtype == torch.bfloat16
        weight.grad = torch.ones_like(weight)
    optimizer.step(1e-6)
    for name, before, master, weight in zip(
        optimizer.names, kept, optimizer.masters, optimizer.weights, strict=True
    ):
        assert not torch.equal(before, master), name
        assert torch.equal(master.bfloat16(), weight.detach()), name


def test_rate_rises_stays_and_falls_to_nothing() -> None:
    recipe = Recipe(steps=1000, lr=1.0, warmup=100, falling=0.4)
    rates = [rate_at(step, recipe) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert set(rates[99:601]) == {1.0}
    assert rates[800] == pytest.approx(0.5)
    assert 0 < rates[999] < 0.005


def test_configuration_is_json() -> None:
    config = module.configuration(Recipe(), 7000)
    assert json.loads(json.dumps(config))["model_cfg"]["vision_cfg"]["image_size"] == 64
