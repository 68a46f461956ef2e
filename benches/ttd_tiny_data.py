"""Pictures of `ttd_tiny.py`: scenes and photographs, captions that say too much, true masks."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import ScenePairs
from PIL import Image

import fastclip
from fastclip.data.scenes import Drawings, Scene, SceneMaker, article, compose, generator
from fastclip.models import Model
from fastclip.models.tiny.train import normalised
from fastclip.ttd import extract_tags

TEST_SEED, CHOICE_SEED = 50_000, 40_000
_WORDS = 6  # stream of a scene's generator


@dataclass(frozen=True)
class Worded:
    """A caption of a scene: the tags in it, and whether the scene shows each."""

    caption: str
    tags: tuple[str, ...]
    shown: tuple[bool, ...]
    names: tuple[int, ...]  # all that it names, shown ones first


def worded(drawings: Drawings, scene: Scene, seed: int, index: int) -> Worded:
    """A caption that names the objects of a scene and one thing more, in any order."""
    rng = generator(seed, index, _WORDS)
    others = [name for name in drawings.present if name not in scene.names]
    names = (*scene.names, others[int(rng.integers(len(others)))])
    order = rng.permutation(len(names))
    caption, spans = "", []
    for i in order:
        caption += " and " if caption else ""
        text = article(drawings.names[names[i]])
        spans.append((len(caption), len(caption) + len(text), i < len(scene.names)))
        caption += text
    (found,) = extract_tags([caption])
    shown = [
        any(is_shown and a <= start < b for start, _ in tag.spans for a, b, is_shown in spans)
        for tag in found
    ]
    return Worded(caption, tuple(tag.text for tag in found), tuple(shown), names)


class SceneData(ScenePairs):
    """With such captions and their tags, which nobody has looked through."""

    def texts(self, index: int) -> tuple[str, Sequence[str]]:
        found = worded(self._drawings, self._maker.scene(index, "pair"), self._seed, index)
        return found.caption, found.tags


class ContrastiveData(SceneData):
    """The same for `fastclip.train`, without hard captions."""

    def texts(self, index: int) -> tuple[str, Sequence[str], Sequence[str]]:  # type: ignore[override]
        return super().texts(index)[0], (), ()


@dataclass(frozen=True)
class Pictures:
    """Pictures with captions; what counts as shown in each, and where that is."""

    images: list[torch.Tensor]  # [3, H, W], preprocessed, whole patches
    captions: list[list[str]]
    tags: list[list[str]]  # candidates for the first caption
    shown: list[list[bool]]
    labels: list[
        torch.Tensor
    ]  # [H, W]: a row of classes + 1, 0 for the background, -1: not counted
    classes: list[str]
    asked: list[list[int]]  # rows of classes that each picture is segmented by


def scene_pictures(drawings: Drawings, seed: int, count: int, side: int) -> Pictures:
    maker = SceneMaker(drawings, seed)
    scenes = [maker.scene(index, "pair") for index in range(count)]
    images, masks = compose(drawings, scenes, side)
    texts = [worded(drawings, scene, seed, index) for index, scene in enumerate(scenes)]
    rows = {name: row for row, name in enumerate(drawings.present)}
    labels = []
    for scene, mask in zip(scenes, masks, strict=True):
        label = torch.zeros(side, side, dtype=torch.int64)
        for name, own in zip(scene.names, mask, strict=False):
            label[own > 0.5] = rows[name] + 1
        labels.append(label)
    return Pictures(
        list(normalised(images)),
        [[text.caption] for text in texts],
        [list(text.tags) for text in texts],
        [list(text.shown) for text in texts],
        labels,
        [drawings.names[name] for name in rows],
        [[rows[name] for name in text.names] for text in texts],
    )


def photographs(folder: Path, model: Model, side: int) -> Pictures:
    """COCO's: shown are the labelled classes; as many others are drawn to be told from them."""
    lines = (folder / "coco_mini.jsonl").read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    sets = [list(entry["classes"]) for entry in entries]
    classes = sorted({name for own in sets for name in own})
    rng = generator(TEST_SEED, 1)
    images, labels, tags, asked = [], [], [], []
    with zipfile.ZipFile(folder / "coco_mini.zip") as archive:
        for entry, own in zip(entries, sets, strict=True):
            image = Image.open(io.BytesIO(archive.read(entry["file"])))
            numbers = np.array(Image.open(io.BytesIO(archive.read(entry["labels"]))))
            ratio = side / min(image.size)
            shape = [max(8, round(n * ratio / 8) * 8) for n in (image.height, image.width)]
            images.append(model.prepare([image], size=shape)[0])
            labels.append(_coco_labels(numbers, own, classes, entry))
            others = [name for name in classes if name not in own]
            absent = [others[i] for i in rng.permutation(len(others))[: len(own)]]
            tags.append([*own, *absent])
            asked.append([classes.index(name) for name in own])
    shown = [[name in own for name in some] for some, own in zip(tags, sets, strict=True)]
    return Pictures(images, [e["captions"] for e in entries], tags, shown, labels, classes, asked)


def _coco_labels(
    numbers: np.ndarray, own: list[str], classes: list[str], entry: Mapping[str, Any]
) -> torch.Tensor:
    label = torch.zeros(numbers.shape, dtype=torch.int64)
    label[torch.from_numpy(numbers == 255)] = -1
    names = coco_names()
    for number in set(np.unique(numbers).tolist()) - {0, 255}:
        name = names[number - 1]
        assert name in own, (entry["file"], name)
        label[torch.from_numpy(numbers == number)] = classes.index(name) + 1
    return label


def coco_names() -> list[str]:
    """The 80 classes in COCO's order."""
    return list(fastclip.data.load_sample("coco").names or ())
