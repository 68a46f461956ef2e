"""Whether answers are right: float64 scores of some queries, and how far a library may be off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

MOST_CHECKED = 2**24  # float64 scores that are kept: 128 MiB
KEYS_AT_ONCE = 65_536

EXACT = 2.0**-23
"""How far an exact score, rounded once to float32, may be off for rows of length 1."""


def float32_bound(width: int) -> float:
    """Return how far a product of rows of length 1 may be off, added in float32 in any order."""
    return 1.01 * width * 2.0**-24 + EXACT


TF32_BOUND = 2.0**-9
"""What is added to it where the factors are rounded to TF32, of 10 bits, first."""


def require(right: Any, message: str) -> None:
    """Raise AssertionError unless an answer is right, also where Python leaves out assertions."""
    if not right:
        raise AssertionError(message)


class Truth:
    """The scores in float64 of some queries: evenly spaced ones, from the first to the last."""

    def __init__(self, queries: torch.Tensor, keys: torch.Tensor, most: int = 16) -> None:
        count = max(1, min(most, len(queries), MOST_CHECKED // len(keys)))
        self.rows = torch.linspace(0, len(queries) - 1, count, device=queries.device).long()
        some = queries[self.rows].double()
        self.scores = torch.cat([some @ part.double().T for part in keys.split(KEYS_AT_ONCE)], 1)


def check_best(truth: Truth, values: torch.Tensor, indices: torch.Tensor, off: float) -> None:
    """Raise AssertionError unless these are the best scores and their keys, up to ``off``."""
    k = values.shape[1]
    chosen = indices[truth.rows]
    require((chosen.sort(1).values.diff(dim=1) > 0).all(), "a key is named twice")
    check_close(values[truth.rows], truth.scores.topk(k).values, off, "scores")
    check_close(values[truth.rows], truth.scores.gather(1, chosen), off, "scores of the keys named")


def check_close(found: torch.Tensor, expected: torch.Tensor, off: float, what: str) -> None:
    """Raise AssertionError where numbers are further apart than ``off``."""
    require(found.shape == expected.shape, f"{what} have shape {tuple(found.shape)}")
    furthest = (found.double() - expected.double()).abs().max().item() if found.numel() else 0.0
    require(furthest <= off, f"{what} are off by {furthest:.2g}, allowed: {off:.2g}")


def check_counts(truth: Truth, counts: torch.Tensor, thresholds: torch.Tensor, off: float) -> None:
    """Raise AssertionError unless so many scores lie above the thresholds, up to ``off``."""
    limits = thresholds[truth.rows].double()[:, None]
    low, high = ((truth.scores > limits + shift).sum(1) for shift in (off, -off))
    found = counts[truth.rows]
    require(((low <= found) & (found <= high)).all(), "other numbers of keys are ahead")


def check_exact_counts(
    truth: Truth, counts: torch.Tensor, thresholds: torch.Tensor, targets: torch.Tensor | None
) -> None:
    """The same without any tolerance; with targets, equal scores of lower rows count, too."""
    scores, limits = truth.scores.float(), thresholds[truth.rows, None]
    ahead = scores > limits
    if targets is not None:
        rows = torch.arange(scores.shape[1], device=scores.device)
        ahead |= (scores == limits) & (rows < targets[truth.rows, None])
    require(torch.equal(counts[truth.rows], ahead.sum(1)), "other numbers of keys are ahead")


class SameBits:
    """All of our answers to a question must be the same to the bit, those of all queries."""

    def __init__(self) -> None:
        self.first: list[torch.Tensor] | None = None

    def check(self, parts: Sequence[Any]) -> None:
        tensors = [part for part in parts if isinstance(part, torch.Tensor)]
        if self.first is None:
            self.first = tensors
        for one, other in zip(self.first, tensors, strict=True):
            require(torch.equal(one, other), "the answer differs from that with keys not packed")
