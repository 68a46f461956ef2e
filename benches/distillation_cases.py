"""The measured cases of text-tag self-distillation: its losses, and training with them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from cases import Case

import fastclip
from fastclip.training.loop import _Run
from fastclip.ttd import DistillationSettings, distillation, distillation_loss
from fastclip.ttd.distillation import Distillation

sys.path.append(str(Path(__file__).parent.parent / "tests" / "ttd"))
from distillation_by_hand import plain_losses


def loss_case(images: int = 8, tags: int = 16, grid: int = 28, side: int = 224) -> Case:
    """Both losses and their gradients, with maps up-sampled to the size of the image."""
    generator = torch.Generator().manual_seed(0)
    shapes = (images, 512, grid, grid), (images, 512), (images * tags, 512)
    inputs = [
        F.normalize(torch.randn(shape, generator=generator), dim=1).requires_grad_()
        for shape in shapes
    ]
    counts = [tags] * images

    def ours() -> list[torch.Tensor]:
        loss = distillation_loss(*inputs, counts, map_size=(side, side))["loss"]
        return [loss.detach(), *torch.autograd.grad(loss, inputs)]

    def plain() -> list[torch.Tensor]:
        loss = sum(plain_losses(*inputs, counts, (side, side)))
        return [loss.detach(), *torch.autograd.grad(loss, inputs)]

    def check(who: str, answer: list[torch.Tensor]) -> None:
        # Not before: what is computed first leaves memory to the calls that are measured.
        for found, expected in zip(answer, plain(), strict=True):
            largest = float(expected.abs().max())
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * largest)

    maps = images * (tags + 1)
    return Case(
        description=f"TTD's losses and gradients, {images} images x {tags} tags, {grid} x {grid} "
        f"to {side} x {side}, d 512",
        work=2.0 * 3 * maps * grid * grid * 512,
        unit="float32",
        ours={"fastclip.ttd.distillation_loss": ours},
        peers={"plain torch": plain},
        check=check,
    )


class _Noise:
    """Random pictures with 16 tags each."""

    def __init__(self, count: int, tags: int, side: int) -> None:
        self._count, self._side = count, side
        self._tags = [f"{colour} {thing}" for colour in _COLOURS for thing in _THINGS][:tags]

    def __len__(self) -> int:
        return self._count

    def images(self, indices: Sequence[int], preprocess: object) -> torch.Tensor:
        generator = torch.Generator().manual_seed(indices[0])
        coarse = torch.randn(len(indices), 3, 14, 14, generator=generator)
        return F.interpolate(coarse, (self._side, self._side), mode="bilinear")

    def texts(self, index: int) -> tuple[str, Sequence[str]]:
        return " and ".join(self._tags[:3]), self._tags

    def digest(self) -> str:
        return "noise"


_COLOURS = ("red", "green", "blue", "yellow")
_THINGS = ("apple", "cat", "dog", "house", "book")


def training_case(
    steps: int = 20, images: int = 32, tags: int = 16, side: int = 224, model: str = "tiny"
) -> Case:
    """Steps of training, one image encoded at a time; the losses of every step are compared."""

    def steps_of(loss: Callable[..., Any]) -> list[float]:
        settings = DistillationSettings(
            batch_size=images, micro_batch_size=1, lr=1e-4, warmup=1, map_size=side
        )
        objective = Distillation(_Noise(images * steps, tags, side), settings)
        with (
            tempfile.TemporaryDirectory() as folder,
            patch.object(distillation, "distillation_loss", loss),
        ):
            run = _Run(model, None, objective, Path(folder), "cpu")
            return [run.take_step(run.batches.load(step))["loss"] for step in range(steps)]

    def plain(
        pixels: torch.Tensor,
        captions: torch.Tensor,
        rows: torch.Tensor,
        counts: Sequence[int],
        *,
        map_size: tuple[int, int],
        **_: Any,
    ) -> dict[str, torch.Tensor]:
        text, tag = plain_losses(pixels, captions, rows, counts, map_size)
        return {"text": text, "tag": tag, "loss": text + tag}

    fastclip.models.load(model)  # what it imports is no memory of the training
    expected: list[list[float]] = []

    def check(who: str, answer: list[float]) -> None:
        expected.append(answer)
        np.testing.assert_allclose(answer, expected[0], rtol=1e-4)
        assert answer[-1] < answer[0]

    ours, theirs = "fastclip.ttd", "plain torch losses"
    return Case(
        description=f"{steps} steps of TTD, the small model, {images} images of {side} x {side}, "
        f"{tags} tags, maps up-sampled to the image",
        work=1.0,
        unit="float32",
        ours={ours: lambda: steps_of(distillation_loss)},
        peers={theirs: lambda: steps_of(plain)},
        check=check,
        slow=(ours, theirs),
    )


CASES = {"distillation-loss": loss_case, "distillation-training": training_case}
