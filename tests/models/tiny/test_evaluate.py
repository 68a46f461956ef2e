from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fastclip
from fastclip.data.scenes import Background, Placed, Scene, SceneMaker, compose, load_drawings
from fastclip.models import Model, load
from fastclip.models.tiny import evaluate as module

open_clip = pytest.importorskip("open_clip")
DRAWINGS = load_drawings()
FOLDER = Path(module.__file__).parent


@pytest.fixture(scope="module")
def model() -> Model:
    return load("tiny")


def test_masks_are_read_at_patch_centres() -> None:
    masks = torch.zeros(1, 1, 16, 16)
    masks[..., 3:5, 11:13] = 1
    assert module._at_patch_centres(masks).tolist() == [[[0, 1, 0, 0]]]


def test_scenes_are_wanted_ones_in_order() -> None:
    scenes = module.scenes_of(DRAWINGS, 3, 5, lambda s: s.objects[0].x < 0.5)
    maker = SceneMaker(DRAWINGS, 3)
    every = [maker.scene(i, "pair") for i in range(40)]
    assert scenes == [s for s in every if s.objects[0].x < 0.5][:5]


class Oracle:
    """Encodes a two-object scene by what is in it, to test the measures themselves."""

    def __init__(self, scenes: dict[bytes, Scene]) -> None:
        self.scenes = scenes

    def encode_image(self, pictures: torch.Tensor, batch_size: int) -> torch.Tensor:
        rows = [self.scenes[p.numpy().tobytes()] for p in pictures]
        return torch.stack([self._row({s.names[0]: 1.0, s.names[1]: 1.0}) for s in rows])

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.stack(
            [
                self._row({i: 1.0 for i, n in enumerate(DRAWINGS.names) if f" {n}" in t})
                for t in texts
            ]
        )

    def _row(self, marks: dict[int, float]) -> torch.Tensor:
        row = torch.zeros(len(DRAWINGS.names))
        for index, value in marks.items():
            row[index] = value
        return F.normalize(row, dim=0)


def test_contrasts_of_an_encoder_that_reads_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes: dict[bytes, Scene] = {}
    plain = module.compose

    def remember(drawings: Any, wanted: list[Scene], side: int) -> Any:
        images, masks = plain(drawings, wanted, side)
        scenes.update(
            {p.numpy().tobytes(): s for p, s in zip(module.normalised(images), wanted, strict=True)}
        )
        return images, masks

    monkeypatch.setattr(module, "compose", remember)
    found = module.contrasts(Oracle(scenes), DRAWINGS)  # type: ignore[arg-type]
    assert found["object_replaced"]["both_ahead"] > 0.9
    assert found["size_swap"] == {"true_ahead": 0, "both_ahead": 0}  # equal is not ahead
    assert found["relation_swap"]["true_ahead"] == 0


def test_figures_of_the_shipped_model_on_the_shipped_drawings(model: Model) -> None:
    """Drawings of a set that the model has never seen; the bars leave room for a retraining."""
    seen = DRAWINGS.of_names((~DRAWINGS.held_out).nonzero()[:, 0].tolist())
    names = [DRAWINGS.names[i] for i in seen.name_index.tolist()]
    images = module.encode_pictures(model, module.pictures_of_one(seen, range(len(seen))))
    top1 = fastclip.topk(images, module.encode_names(model, names), 1).indices[:, 0]
    assert (top1 == torch.arange(len(names))).float().mean() > 0.7

    contrasts = module.contrasts(model, seen, count=100)
    assert contrasts["size_swap"]["true_ahead"] > 0.85
    assert contrasts["object_replaced"]["both_ahead"] > 0.85
    patches = module.best_patches(model, seen, 128, count=50)
    assert patches["value-only"]["on_the_object"] > 0.6
    assert patches["value-only"]["on_the_object"] > patches["plain"]["on_the_object"] + 0.15


def test_a_named_object_is_found_where_it_lies(model: Model) -> None:
    white = Background("white", (1, 1, 1), (1, 1, 1), 0.0, 1.0)
    cat, guitar = (DRAWINGS.names.index(name) for name in ("cat", "guitar"))
    scene = Scene(
        (Placed(cat, cat, 0.25, 0.5, 0.45), Placed(guitar, guitar, 0.75, 0.5, 0.45)), white
    )
    pictures, _ = compose(DRAWINGS, [scene], 128)
    patches = model.encode_pixels(module.normalised(pictures), method="value-only")
    labels = fastclip.pixel_labels(
        patches, module.encode_names(model, ["cat", "guitar"]), (128, 128), 1
    )
    winner = labels.indices[0, 0]
    assert (winner[40:88, 16:48] == 0).float().mean() > 0.8
    assert (winner[40:88, 88:104] == 1).float().mean() > 0.8


def test_shipped_files_are_small_and_the_figures_are_of_the_card() -> None:
    import json

    files = [p for p in FOLDER.iterdir() if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 12e6
    card = (FOLDER / "README.md").read_text()
    for file in ("evaluation.json", "evaluation-seed-1.json"):
        figures = json.loads((FOLDER / file).read_text())
        for bar in module.BARS:
            value: Any = figures
            for key in bar.path.split("."):
                value = value[key]
            assert value >= bar.least or file != "evaluation.json", bar.path
            assert f"{value:.3f}" in card, (file, bar.path)
