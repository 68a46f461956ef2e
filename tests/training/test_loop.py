from __future__ import annotations

import csv
import dataclasses
import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import small
import torch
from dying import dies_at
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file

import fastclip
from fastclip.data import HardPositiveItem, find_item_images
from fastclip.data.job_folder import is_locked, lock
from fastclip.training import (
    LOSSES,
    ItemData,
    TrainingSettings,
    Validation,
    export,
    loop,
    similar_images,
    train,
)
from fastclip.training.objective import Batches, HardCaptions

pytestmark = pytest.mark.host
COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange", "pink", "gray")
FAST = TrainingSettings(epochs=3, batch_size=4, lr=1e-3, warmup=2, checkpoint_steps=2)


def items() -> list[HardPositiveItem]:
    return [
        HardPositiveItem(
            str(i), f"a {colour} wall", (f"the {colour} wall",), (f"a {colour} cat", "a wall"), "w"
        )
        for i, colour in enumerate(COLOURS)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i, colour in enumerate(COLOURS):
        Image.new("RGB", (32, 32), colour).save(tmp_path / "images" / f"{i}.png")
    small.save(tmp_path / "model", small.VIT)
    return tmp_path


def run(folder: Path, name: str, **changes: Any) -> dict[str, torch.Tensor]:
    found = find_item_images(items(), folder / "images")
    validate = changes.pop("validate", None)
    settings = dataclasses.replace(FAST, **changes)
    train(str(folder / "model"), None, ItemData(items(), found), folder / name, settings,
          validate=validate, progress=False)  # fmt: skip
    return load_file(folder / name / "model.safetensors")


def rows(path: Path) -> list[dict[str, float]]:
    with open(path) as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_learns_and_writes_what_open_clip_loads(folder: Path) -> None:
    found = find_item_images(items(), folder / "images")
    names = [folder / "images" / f"{i}.png" for i in range(10)]
    validate = Validation((items(), found), (names, [f"{c} wall" for c in COLOURS]))
    run(folder, "out", epochs=30, validate=validate)
    log = rows(folder / "out" / "log.csv")
    assert [entry["step"] for entry in log] == list(range(1, 61))
    assert log[-1]["loss"] < log[0]["loss"] - 0.5
    assert log[0]["learning_rate"] == 5e-4
    assert max(entry["learning_rate"] for entry in log) == 1e-3
    before, after = rows(folder / "out" / "validation.csv")
    assert (before["step"], after["step"]) == (0, 60)
    assert after["original_accuracy"] > before["original_accuracy"]
    assert 0 <= after["zero_shot_accuracy"] <= 1
    model = fastclip.models.load(str(folder / "out"))
    images = model.encode_image(names)
    own = model.encode_text([i.caption for i in items()])
    wrong = model.encode_text([i.hard_negatives[0] for i in items()])
    assert ((images * own).sum(1) > (images * wrong).sum(1)).float().mean() >= 0.9


@pytest.mark.parametrize(
    "changes", [{}, {"lora_rank": 2}, {"precision": "bf16"}, {"precision": "fp16"}]
)
def test_a_killed_run_ends_in_the_same_weights(folder: Path, changes: dict[str, Any]) -> None:
    if "lora_rank" in changes:
        pytest.importorskip("peft")
    expected = run(folder, "alone", **changes)
    dies_at(3, lambda: run(folder, "killed", **changes))
    assert not (folder / "killed" / "model.safetensors").exists()
    found = run(folder, "killed", **changes)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert (folder / "killed" / "log.csv").read_text() == (folder / "alone" / "log.csv").read_text()
    start = load_file(folder / "model" / "model.safetensors")
    assert start.keys() == expected.keys()
    moved = [name for name in start if not torch.equal(start[name], expected[name])]
    assert "visual.transformer.resblocks.0.attn.in_proj_weight" in moved
    for name in ("visual.conv1.weight", "logit_scale"):
        assert (name in moved) == ("lora_rank" not in changes)


def test_statistics_of_batch_norms_stay(folder: Path) -> None:
    small.save(folder / "model", small.RESNET)
    trained = run(folder, "out", epochs=1)
    start = load_file(folder / "model" / "model.safetensors")
    statistics = [name for name in start if "running_" in name]
    assert len(statistics) > 10
    assert all(torch.equal(start[name], trained[name]) for name in statistics)
    assert not torch.equal(start["visual.bn1.weight"], trained["visual.bn1.weight"])


@pytest.mark.parametrize("loss", ["hard-positives", "svlc"])
def test_micro_batches_have_the_gradient_of_the_batch(folder: Path, loss: str) -> None:
    found = ItemData(items(), find_item_images(items(), folder / "images"))

    def gradients(size: int | None) -> dict[str, torch.Tensor]:
        settings = TrainingSettings(batch_size=9, micro_batch_size=size, loss=loss)
        objective = HardCaptions(found, settings)
        made = loop._Run(str(folder / "model"), None, objective, folder / "out", "cpu")
        made._backward(made.batches.load(0))
        return {name: p.grad for name, p in made.trained.items()}

    whole, parts = gradients(None), gradients(2)
    for name, grad in whole.items():
        assert grad.abs().max() > 0, name
        assert torch.allclose(parts[name], grad, rtol=1e-4, atol=1e-5 * grad.abs().max()), name


def test_quick_gelu_is_kept(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(2):
        Image.new("RGB", (32, 32), COLOURS[i]).save(tmp_path / "images" / f"{i}.png")
    found = ItemData(items()[:2], find_item_images(items()[:2], tmp_path / "images"))
    for quick in (True, False):
        small.save(tmp_path / f"model-{quick}", small.VIT, quick_gelu=quick)
        settings = TrainingSettings(epochs=1, batch_size=2, lr=0.0)
        out = tmp_path / f"out-{quick}"
        model = train(str(tmp_path / f"model-{quick}"), None, found, out, settings)
        config = json.loads((out / "open_clip_config.json").read_text())
        assert config["model_cfg"].get("quick_gelu", False) == quick
        assert export._has_quick_gelu(model.module) == quick
        before = fastclip.models.load(str(tmp_path / f"model-{quick}"))
        assert torch.equal(before.encode_text(["a cat"]), model.encode_text(["a cat"]))


def test_batches(folder: Path) -> None:
    data = ItemData(items(), find_item_images(items(), folder / "images"))

    def batches(**settings: Any) -> Batches:
        objective = HardCaptions(data, TrainingSettings(batch_size=5, **settings))
        return Batches(objective, lambda x: torch.zeros(1))

    whole = batches()
    assert len(whole) == 10
    first, second = whole.load(0), whole.load(1)
    assert sorted(first.captions + second.captions) == sorted(i.caption for i in items())
    assert whole.load(0).captions == first.captions
    assert whole.load(2).captions != first.captions
    own = {i.caption: i for i in items()}
    for text, row in zip(first.negatives, first.negative_of, strict=True):
        assert text in own[first.captions[row]].hard_negatives
    assert first.positive_of == list(range(5))
    assert batches(negatives=0.0).load(0).negatives == []
    half = batches(negatives=0.5, epochs=100)
    share = sum(len(half.load(step).negatives) for step in range(200)) / 1000
    assert share == pytest.approx(0.5, abs=0.06)
    drawn = [text == "a wall" for step in range(200) for text in half.load(step).negatives]
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="batch_size: is 11, allowed: up to 10"):
        Batches(HardCaptions(data, TrainingSettings(batch_size=11)), lambda x: torch.zeros(1))


def test_tensorboard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = find_item_images(items(), folder / "images")

    def go() -> None:
        train(str(folder / "model"), None, ItemData(items(), found), folder / "out", FAST,
              validate=lambda _: {"figure": 0.5}, tensorboard=True, progress=False)  # fmt: skip

    dies_at(3, go)
    go()
    board = events.EventAccumulator(str(folder / "out" / "tensorboard")).Reload()
    for kind, table in (("training", "log.csv"), ("validation", "validation.csv")):
        expected = rows(folder / "out" / table)
        for name in expected[0].keys() - {"step"}:
            scalars = board.Scalars(f"{kind}/{name}")
            assert [x.step for x in scalars] == [row["step"] for row in expected]
            assert [x.value for x in scalars] == pytest.approx([row[name] for row in expected])
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="tensorboard: needs the package tensorboard"):
        go()


def test_similar_images() -> None:
    rows = torch.nn.functional.normalize(torch.randn(60, 8, generator=torch.Generator()), dim=1)
    scores = (rows.double() @ rows.double().T).fill_diagonal_(-2)
    assert torch.equal(similar_images(rows, 4), scores.topk(4, dim=1).indices)
    equal = torch.ones(5, 3)
    found = similar_images(equal, 2).tolist()
    assert all(len({i, *row}) == 3 for i, row in enumerate(found))
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k: is {k}, allowed: 1 to 4, for 5 images"):
            similar_images(equal, k)


def test_hard_images(folder: Path) -> None:
    twice = [*items(), *items()[:3]]  # three images have two captions
    found = find_item_images(twice, folder / "images")
    near = torch.tensor([[(i + 1) % 10, (i + 2) % 10] for i in range(10)])
    data = ItemData(twice, found, similar=near)
    assert data.similar(9) == [0, 10, 1, 11]
    settings = dataclasses.replace(FAST, hard_images=True)
    batches = Batches(HardCaptions(data, settings), lambda x: torch.zeros(1))
    assert len(batches) == 9
    image = {item.caption: int(item.image) for item in twice}
    seen = set()
    for step in range(9):
        batch = batches.load(step)
        chosen = [image[text] for text in batch.captions]
        assert 4 < len(chosen) <= 8
        assert len(chosen) == len(batch.images) == len(batch.negatives)
        for hard in chosen[4:]:
            by = [first for first in chosen[:4] if hard in near[first].tolist()]
            assert by
            seen |= {(hard - first) % 10 for first in by}
        assert batches.load(step).captions == batch.captions
    assert seen == {1, 2}
    assert ItemData(twice, found).digest() != data.digest()
    out = folder / "out"
    model = str(folder / "model")
    train(model, None, data, out, settings, progress=False)
    assert len(rows(out / "log.csv")) == 9
    with pytest.raises(ValueError, match="similar: has 2 rows, allowed: 10, one an image"):
        ItemData(twice, found, similar=near[:2])
    with pytest.raises(ValueError, match="hard_images: ItemData needs `similar`"):
        train(model, None, ItemData(twice, found), folder / "other", settings, progress=False)

    class Own:
        def __len__(self) -> int:
            return 10

    with pytest.raises(ValueError, match="hard_images: Own has no method `similar`"):
        HardCaptions(Own(), settings)


def test_errors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes, message in (
        ({"loss": "triplet"}, "loss: is 'triplet', allowed: hard-positives, negclip"),
        ({"negatives": 1.5}, "negatives: is 1.5, allowed: 0 to 1"),
        ({"batch_size": 0}, "batch_size: is 0, allowed: 1 or more"),
        ({"lr": -1.0}, "lr: is -1.0"),
        ({"precision": "fp8"}, "precision: is 'fp8'"),
    ):
        with pytest.raises(ValueError, match=message):
            TrainingSettings(**changes)
    run(folder, "out", epochs=1)
    with pytest.raises(ValueError, match="begun with other inputs: epochs was 1, is 2"):
        run(folder, "out", epochs=2)
    (folder / "images" / "3.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"3\.png: not an image"):
        run(folder, "other")
    nan = lambda *_: {"loss": torch.tensor(float("nan"), requires_grad=True)}  # noqa: E731
    monkeypatch.setitem(LOSSES, "clip", nan)
    Image.new("RGB", (32, 32)).save(folder / "images" / "3.png")
    with pytest.raises(ValueError, match="loss: is nan in step 0; lower lr"):
        run(folder, "third", loss="clip")
    with pytest.raises(ValueError, match="benchmark, zero_shot, retrieval: one of them"):
        Validation()


def test_one_process_in_a_folder_and_no_leftovers(folder: Path) -> None:
    (folder / "out").mkdir()
    left = folder / "out" / ".checkpoint.pt.0123abcd.tmp"
    left.write_bytes(b"half")
    with lock(folder / "out"), pytest.raises(ValueError, match="another process is at work in it"):
        run(folder, "out")
    assert left.exists()
    run(folder, "out", epochs=1)
    assert not left.exists()
    with lock(folder / "out"):  # which was given back
        assert is_locked(folder / "out")
    assert not is_locked(folder / "out")
    assert not is_locked(folder)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [OSError(errno.ENOLCK, "no locks"), NotImplementedError()]
    errors += [OSError(errno.EIO, "a broken disk")]

    def refuse(*_: object, **__: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(FileLock, "acquire", refuse)
    for _ in range(2):
        with lock(tmp_path):
            pass
    with pytest.raises(OSError, match="a broken disk"), lock(tmp_path):
        pass


def test_the_vocabulary_is_written_whole(folder: Path) -> None:
    """Half of it, left by a kill, does not stay."""
    model, out = folder / "model", folder / "out"
    module = fastclip.models.load(str(model)).module
    config = json.loads((model / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": "words.txt"}
    (model / "open_clip_config.json").write_text(json.dumps(config))
    (model / "words.txt").write_text("one\ntwo\n")
    out.mkdir()
    (out / "words.txt").write_text("one\ntw")
    export.write_model(out, f"local-dir:{model}", None, module, module.state_dict())
    assert (folder / "out" / "words.txt").read_text() == "one\ntwo\n"


def test_rates() -> None:
    settings = TrainingSettings(lr=1.0, warmup=4)
    rates = [settings.rate_at(step, 104) for step in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[54] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
