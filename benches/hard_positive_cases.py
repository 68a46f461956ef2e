"""The measured cases of hard positives: the scores of a benchmark, and the loss of a batch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from cases import Case, caption_mixes, image_rows

import fastclip
from fastclip.training import LOSSES

sys.path.append(str(Path(__file__).parent.parent / "tests" / "training"))
from losses_by_hand import gradients, make, plain


def scores_case(items: int, images: int, texts: int) -> Case:
    """As many items, images and different texts as the published REPLACE sets have."""
    generator = torch.Generator().manual_seed(0)
    pictures, table = image_rows(images, 0), caption_mixes(texts, 1)
    of_item = torch.randint(images, (items,), generator=generator)
    s, p, n = torch.randint(texts, (3, items), generator=generator)
    kinds = ["relations"] * (items // 2) + ["attributes"] * (items - items // 2)

    def scores(rows: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nd,nd->n", pictures[of_item], table[rows])

    def plain() -> float:
        return float(((scores(s) > scores(n)) & (scores(p) > scores(n))).double().mean())

    exact = [
        (pictures[of_item].double() * table[rows].double()).sum(1).float() for rows in (s, p, n)
    ]
    augmented = float(((exact[0] > exact[2]) & (exact[1] > exact[2])).double().mean())

    def ours(resamples: int) -> float:
        return fastclip.metrics.hard_positive_scores(
            pictures,
            s,
            p,
            n,
            text_features=table,
            image_of_item=of_item,
            categories=kinds,
            resamples=resamples,
        ).augmented_accuracy

    def check(who: str, answer: float) -> None:
        # Peers round otherwise and may exchange near-ties.
        np.testing.assert_allclose(answer, augmented, atol=1e-12 if "fastclip" in who else 2e-4)

    d = pictures.shape[1]
    return Case(
        description=f"hard positives, {items:,} items, {images:,} images, {texts:,} texts, d {d}",
        work=2.0 * 3 * items * d,
        unit="float32",
        ours={
            "fastclip, 1,000 resamples": lambda: ours(1000),
            "fastclip, no intervals": lambda: ours(0),
        },
        peers={"torch einsum, one figure": plain},
        check=check,
    )


def training_loss_case(batch: int, width: int) -> Case:
    """The loss with a hard negative and a hard positive per caption, and its gradients."""
    rows = make(batch, batch, batch, width, 0)
    scale = torch.tensor(50.0, requires_grad=True)

    def ours() -> list[torch.Tensor]:
        loss = LOSSES["hard-positives"](rows, scale)["loss"]
        return [loss.detach(), *gradients(loss, rows, scale)]

    def peer() -> list[torch.Tensor]:
        loss = plain("hard-positives", rows, scale)
        return [loss.detach(), *gradients(loss, rows, scale)]

    exact = peer()

    def check(who: str, answer: list[torch.Tensor]) -> None:
        for found, expected in zip(answer, exact, strict=True):
            largest = float(expected.abs().max())
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * largest)

    return Case(
        description=f"loss and gradients, batch {batch:,} with 2 extras each, d {width}, float32",
        work=2.0 * 9 * batch * batch * width,  # three products, each forward and twice backward
        unit="float32",
        ours={"fastclip.training.hard_positive_loss": ours},
        peers={"torch matrices of scores": peer},
        check=check,
    )


CASES = {
    "hard-positives": lambda: scores_case(23_281, 6_840, 44_111),
    "training-loss": lambda: training_loss_case(4096, 512),
}
