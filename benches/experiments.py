"""What the experiments on the small model share: drawings, runs that go on, and intervals."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import fastclip
from fastclip.data.files import replacing
from fastclip.data.scenes import Drawings, SceneMaker, article, compose, placed_alone, split
from fastclip.models import Model
from fastclip.models.tiny.train import SIDE, normalised

# Two-sided 95 % quantiles of Student's t, by degrees of freedom.
_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def unseen_artwork(drawings: Drawings) -> Drawings:
    """Those by an artist that no training has seen, of names that it has."""
    seen = set(split(drawings, "train").present)
    test = drawings.select(["noto"], held_out=False)
    return test.of_names([name for name in test.present if name in seen])


class ScenePairs:
    """Scenes of two objects to train on; what is said of them is up to a subclass."""

    def __init__(self, drawings: Drawings, seed: int, count: int) -> None:
        self._drawings = drawings
        self._seed = seed
        self._count = count
        self._maker = SceneMaker(drawings, seed, augment=True)

    def __len__(self) -> int:
        return self._count

    def images(self, indices: Sequence[int], preprocess: object) -> torch.Tensor:
        scenes = [self._maker.scene(index, "pair") for index in indices]
        return normalised(compose(self._drawings, scenes, SIDE)[0])

    def digest(self) -> str:
        return f"scenes {self._seed} {self._count} {len(self._drawings)}"


class EachAlone:
    """Zero-shot accuracy: each drawing by itself, among all of their names."""

    def __init__(self, drawings: Drawings) -> None:
        scenes = [placed_alone(drawings, row) for row in range(len(drawings))]
        self._images = normalised(compose(drawings, scenes, SIDE)[0])
        names = [drawings.names[name] for name in drawings.name_index.tolist()]
        self._names = list(dict.fromkeys(names))
        self._target = torch.tensor([self._names.index(name) for name in names])

    def __call__(self, model: Model) -> float:
        texts = model.encode_text([article(name) for name in self._names])
        right = fastclip.rank(model.encode_image(self._images), texts, self._target) == 0
        return float(right.double().mean())


def once(path: Path, measured: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Figures in a file, measured first if it is not there."""
    if not path.is_file():
        figures = measured()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    content: dict[str, float] = json.loads(path.read_text("utf-8"))
    return content


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds, and half of its 95 % interval by Student's t (NaN for one seed)."""
    if len(values) < 2:
        return values[0], math.nan
    error = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), _T95[min(len(values) - 1, 9)] * error


def difference(found: Mapping[str, Any], arm: str, other: str, name: str) -> tuple[float, float]:
    """Mean of ``arm`` minus ``other`` over seeds, each seed against itself."""
    pairs = zip(found[arm], found[other], strict=True)
    return mean_and_half_width([a[name] - b[name] for a, b in pairs])


def percent(values: Sequence[float]) -> str:
    """Mean and half width as a cell of a table."""
    mean, half = mean_and_half_width(values)
    return f"{100 * mean:.1f}" + ("" if math.isnan(half) else f" ± {100 * half:.1f}")


def write_results(stem: Path, text: str, content: Mapping[str, Any]) -> None:
    """Write a table and its figures beside each other."""
    for suffix, written in ((".md", text), (".json", json.dumps(content, indent=2) + "\n")):
        with replacing(stem.with_suffix(suffix)) as part:
            part.write_text(written, "utf-8")


def progress(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done} of {total} fits")
