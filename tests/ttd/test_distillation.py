from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import distillation_by_hand as by_hand
import numpy as np
import pytest
import small
import torch
import torch.nn.functional as F
from dying import dies_at
from PIL import Image
from safetensors.torch import load_file

from fastclip.data import find_captioned_images
from fastclip.models import pixel_features
from fastclip.training import Validation, loop
from fastclip.ttd import (
    DistillationSettings,
    TaggedImages,
    distill,
    distillation,
    extract_tags,
)
from fastclip.ttd.distillation import Distillation

pytestmark = pytest.mark.host
COLOURS = ("red", "green", "blue", "white", "black", "yellow")
CAPTIONS = [f"a {colour} house with a door and a cat" for colour in COLOURS]
FAST = DistillationSettings(epochs=3, batch_size=2, lr=1e-3, warmup=2, checkpoint_steps=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for i, colour in enumerate(COLOURS):
        image = Image.new("RGB", (32, 32), colour)
        image.paste("gray", (4 * i, 0, 4 * i + 8, 16))
        image.save(tmp_path / "images" / f"{i}.png")
        (tmp_path / "images" / f"{i}.txt").write_text(CAPTIONS[i])
    small.save(tmp_path / "model", small.VIT)
    return tmp_path


def data(folder: Path) -> TaggedImages:
    found = find_captioned_images(folder / "images")
    return TaggedImages(found, [[t.text for t in own] for own in extract_tags(found.captions)])


def run(folder: Path, name: str, **changes: Any) -> dict[str, torch.Tensor]:
    watch = {key: changes.pop(key, None) for key in ("validate", "guard")}
    settings = dataclasses.replace(FAST, **changes)
    distill(
        str(folder / "model"), None, data(folder), folder / name, settings, progress=False, **watch
    )
    return load_file(folder / name / "model.safetensors")


def rows(path: Path) -> list[dict[str, float]]:
    with open(path) as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_data(folder: Path) -> None:
    assert data(folder).texts(2) == (CAPTIONS[2], ("house", "door", "cat"))
    found = find_captioned_images(folder / "images")
    some = TaggedImages(found, [["wall"], [], ["cat"], [], [], []])
    assert (len(some), some.untagged, some.texts(1)[1]) == (2, 4, ("cat",))
    assert some.digest() != data(folder).digest()
    with pytest.raises(ValueError, match="tags: no caption has any"):
        TaggedImages(found, [[]] * 6)
    with pytest.raises(ValueError, match="tags: 1 entries, needed: 6"):
        TaggedImages(found, [["wall"]])


def test_a_step_is_the_loss_by_hand(folder: Path) -> None:
    objective = Distillation(data(folder), dataclasses.replace(FAST, map_size=16))
    made = loop._Run(str(folder / "model"), None, objective, folder / "out", "cpu")
    batch = made.batches.load(0)
    assert batch.texts == [*batch.captions, "house", "door", "cat"]
    module = made.module
    with torch.no_grad():
        pixels = F.normalize(pixel_features(module, batch.images), dim=1)
        captions, tags = (
            F.normalize(module.encode_text(made.model.tokenizer(texts)), dim=1)
            for texts in (batch.captions, [batch.tags[i] for i in batch.tag_of])
        )
    text, tag = by_hand.plain_losses(pixels, captions, tags, batch.counts, (16, 16))
    parts = made.take_step(batch)
    assert parts["text"] == pytest.approx(text.item(), rel=1e-4)
    assert parts["tag"] == pytest.approx(tag.item(), rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2, "micro_batch_size": 1}])
def test_a_killed_run_ends_in_the_same_weights(folder: Path, changes: dict[str, Any]) -> None:
    if "lora_rank" in changes:
        pytest.importorskip("peft")
    expected = run(folder, "alone", **changes)
    log = rows(folder / "alone" / "log.csv")
    assert len(log) == 9
    assert log[-1]["loss"] < log[0]["loss"] or changes
    dies_at(5, lambda: run(folder, "killed", **changes))
    found = run(folder, "killed", **changes)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match=r"begun with other inputs: threshold was 0\.5, is 0\.6"):
        run(folder, "killed", **changes, threshold=0.6)


def test_micro_batches_have_the_gradient_of_the_batch(folder: Path) -> None:
    def gradients(size: int | None) -> dict[str, torch.Tensor]:
        settings = dataclasses.replace(FAST, batch_size=5, micro_batch_size=size)
        objective = Distillation(data(folder), settings)
        made = loop._Run(str(folder / "model"), None, objective, folder / "out", "cpu")
        made._backward(made.batches.load(0))
        return {n: p.grad for n, p in made.trained.items() if p.grad is not None}

    whole, parts = gradients(None), gradients(2)
    assert whole.keys() == parts.keys()
    for name, grad in whole.items():
        assert torch.allclose(parts[name], grad, rtol=1e-4, atol=1e-5 * grad.abs().max()), name


def test_the_guard_ends_it_in_the_weights_that_passed(folder: Path) -> None:
    """A figure that falls after step 4; what is written is what a run of 4 steps has then."""
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def falling(model: Any) -> dict[str, float]:
        seen[len(seen)] = {n: w.clone() for n, w in model.module.state_dict().items()}
        return {"recall": 0.5 - 0.02 * (len(seen) > 3), "other": -float(len(seen))}

    options = {"validate": falling, "validation_steps": 2}
    message = r"training ended at step 6: recall fell from 0\.5000 to 0\.4800; the weights are"
    with pytest.warns(UserWarning, match=message):
        found = run(folder, "out", **options, guard={"recall": 0.01})
    assert [entry["step"] for entry in rows(folder / "out" / "validation.csv")] == [0, 2, 4, 6]
    assert all(torch.equal(found[name], seen[2][name]) for name in found)
    assert not all(torch.equal(found[name], seen[3][name]) for name in found)
    with pytest.warns(UserWarning, match=message):  # begun again, it does not go on
        again = run(folder, "out", **options, guard={"recall": 0.01})
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert len(seen) == 4
    run(folder, "lenient", **options, guard={"recall": 0.1})
    assert rows(folder / "lenient" / "log.csv")[-1]["step"] == 9


def test_guard_errors(folder: Path) -> None:
    watch = lambda model: {"recall": 0.5}  # noqa: E731
    for options, message in (
        ({"guard": {"recall": 0.1}}, "guard: needs validate"),
        ({"guard": {"recall": -1.0}, "validate": watch}, r"guard\['recall'\]: is -1.0, allowed: 0"),
        ({"guard": {"f1": 0.1}, "validate": watch}, "guard: 'f1' is no figure of validate, which "),
    ):
        with pytest.raises(ValueError, match=message):
            run(folder, "out", **options)


def test_retrieval_is_a_figure_to_watch(folder: Path) -> None:
    found = find_captioned_images(folder / "images")
    validate = Validation(retrieval=found)
    assert validate.figures == ("image_to_text_recall", "text_to_image_recall")
    run(folder, "out", validate=validate, guard=dict.fromkeys(validate.figures, 1.0))
    for entry in rows(folder / "out" / "validation.csv"):
        assert all(
            entry[name] * 6 == pytest.approx(round(entry[name] * 6)) for name in validate.figures
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.5}, "threshold: is 1.5, allowed: 0 to 1"),
        ({"tag_weight": -1.0}, "tag_weight: is -1.0"),
        ({"map_size": 0}, "map_size: is 0"),
        ({"student": "raw"}, "student: is 'raw', allowed with distance 'bce': sigmoid"),
        ({"batch_size": 0}, "batch_size: is 0"),
    ],
)
def test_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FAST, **changes)


def test_unknown_method(folder: Path) -> None:
    with pytest.raises(ValueError, match="method: is 'values', allowed: value, value-only"):
        run(folder, "out", method="values")


def test_numbers_of_a_run_are_finite(folder: Path) -> None:
    run(folder, "out", distance="cosine", student="min-max")
    assert np.isfinite([list(entry.values()) for entry in rows(folder / "out" / "log.csv")]).all()


def test_twenty_steps_of_training_are_those_of_plain_torch(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(pixels: Any, captions: Any, tags: Any, counts: Any, **options: Any) -> Any:
        text, tag = by_hand.plain_losses(pixels, captions, tags, counts, options["map_size"])
        return {"text": text, "tag": tag, "loss": text + tag}

    options = {"epochs": 10, "batch_size": 3, "map_size": 28, "lr": 3e-4}
    run(folder, "ours", **options)
    monkeypatch.setattr(distillation, "distillation_loss", plain)
    run(folder, "plain", **options)
    ours, theirs = (rows(folder / name / "log.csv") for name in ("ours", "plain"))
    assert len(ours) == 20
    for name in ("text", "tag", "loss"):
        np.testing.assert_allclose([e[name] for e in ours], [e[name] for e in theirs], rtol=1e-4)
