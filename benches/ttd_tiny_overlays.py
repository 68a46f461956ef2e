"""The picture of `ttd_tiny.py`: scenes, and the masks that models give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments import unseen_artwork
from ttd_tiny_data import CHOICE_SEED, TEST_SEED, Pictures, scene_pictures
from ttd_tiny_measures import choose_background, encoded

from fastclip.data.files import replacing
from fastclip.data.scenes import Drawings, split
from fastclip.models import Model
from fastclip.models.tiny.train import normalised
from fastclip.ttd import label_features


def overlays(
    drawings: Drawings, models: Mapping[str, Model], path: Path, side: int, count: int = 4
) -> None:
    """Draw scenes, the masks of their captions and of the things in them, by each model."""
    from matplotlib.figure import Figure

    pictures = scene_pictures(unseen_artwork(drawings), TEST_SEED + 1, count, side)
    choice = scene_pictures(split(drawings, "train"), CHOICE_SEED, 60, side)
    columns = 2 + 2 * len(models)
    figure = Figure(figsize=(2.1 * columns, 2.4 * count), layout="constrained")
    axes = figure.subplots(count, columns, squeeze=False)
    mean, std = normalised(torch.zeros(1, 3, 1, 1)), normalised(torch.ones(1, 3, 1, 1))
    shown = [((image - mean[0]) / (std - mean)[0]).clamp(0, 1) for image in pictures.images]
    for row, (image, label) in enumerate(zip(shown, pictures.labels, strict=True)):
        grid = image.permute(1, 2, 0).numpy()
        axes[row, 0].imshow(grid)
        axes[row, 0].set_title(pictures.captions[row][0].replace(" and ", "\nand "), fontsize=7)
        _overlay(axes[row, 1], grid, label, pictures, row, "true masks")
    for column, (name, model) in enumerate(models.items()):
        background = choose_background(model, choice)
        texts = model.encode_text([own[0] for own in pictures.captions])
        names = model.encode_text(pictures.classes)
        for row, features in encoded(model, pictures):
            grid, size = shown[row].permute(1, 2, 0).numpy(), pictures.labels[row].shape
            scores = label_features(features, texts[row : row + 1], size).scores
            axis = axes[row, 2 + 2 * column]
            axis.imshow(grid)
            axis.imshow(scores, alpha=0.7, cmap="inferno", vmin=0.0, vmax=0.6)
            axis.contour(scores, [background], colors="cyan", linewidths=1)
            axis.set_title(f"{name}: caption", fontsize=7)
            best = label_features(features, names[pictures.asked[row]], size, background=background)
            asked = torch.tensor([-1, *pictures.asked[row]]) + 1
            _overlay(
                axes[row, 3 + 2 * column], grid, asked[best.labels + 1], pictures, row,
                f"{name}: its things",
            )  # fmt: skip
    for axis in axes.flat:
        axis.axis("off")
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=70)


def _overlay(
    axis: Any, grid: np.ndarray, label: torch.Tensor, pictures: Pictures, row: int, title: str
) -> None:
    from matplotlib.patches import Patch

    colours = ("#1f77b4", "#ff7f0e", "#d62728")
    painted = np.zeros((*label.shape, 4), dtype=np.float32)
    patches = []
    for colour, name in zip(colours, pictures.asked[row], strict=True):
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        painted[(label == name + 1).numpy()] = [*rgb, 0.7]
        patches.append(Patch(color=colour, label=pictures.classes[name]))
    axis.imshow(grid)
    axis.imshow(painted)
    axis.set_title(title, fontsize=7)
    axis.legend(handles=patches, fontsize=5, loc="lower right")
