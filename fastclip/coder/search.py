"""The best alpha and beta of a cache model, by one pass over the images per round."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import torch

from fastclip.data.checks import check_at_least
from fastclip.ops._cache_grid import cache_grid

_PRODUCTS = 2**21  # images times support images at a time: 16 MB


class Round(NamedTuple):
    """One grid and how many images each of its pairs gets right."""

    betas: torch.Tensor
    """[B] float64"""
    alphas: torch.Tensor
    """[A] float64"""
    right: torch.Tensor
    """[B, A] int64"""


class Search(NamedTuple):
    """The pair that a search chose."""

    alpha: float
    beta: float
    accuracy: float
    """From 0 to 1, on what it was chosen on."""
    rounds: tuple[Round, ...]


class Grid(NamedTuple):
    """Which pairs are tried: the authors' search by default.

    A round tries ``steps`` values from ``low`` on in equal steps towards ``high``, which is left
    out. The next one goes from 0.5 to 1.5 times the best pair; of equal pairs the one with the
    lower beta, then the lower alpha, is best.
    """

    beta: tuple[SupportsFloat, SupportsFloat] = (0.1, 200.0)
    alpha: tuple[SupportsFloat, SupportsFloat] = (0.1, 20.0)
    beta_steps: int = 500
    alpha_steps: int = 50
    rounds: int = 3


def search(
    zero_shot: torch.Tensor,
    affinities: Callable[[slice], torch.Tensor],
    labels: torch.Tensor,
    support_labels: torch.Tensor,
    grid: Grid,
) -> Search:
    r"""Find the alpha and beta with which ``zero_shot + alpha * cache`` is right most often.

    .. math:: \mathrm{cache}_{ic} = \sum_{j : l_j = c} \exp(-\beta (1 - A_{ij}))

    For one image and beta the class is right where, against every other class, a number that is
    linear in alpha is positive: an interval of alphas, so that no pair needs scores of its own. All
    in float64 and on the CPU; of equal scores the lower class counts, as elsewhere.

    Parameters
    ----------
    zero_shot : float64 tensor [N, C], on the CPU as all others
    affinities : callable
        From a slice of the images to A, float64 [n, M].
    labels : int64 tensor [N]
    support_labels : int64 tensor [M]
    grid : Grid
    """
    low_high = [tuple(map(float, grid.beta)), tuple(map(float, grid.alpha))]
    steps = grid.beta_steps, grid.alpha_steps
    rounds = []
    for _ in range(grid.rounds):
        betas, alphas = (
            _steps(low, high, n) for (low, high), n in zip(low_high, steps, strict=True)
        )
        right = count_right(zero_shot, affinities, labels, support_labels, betas, alphas)
        best = int(right.argmax())  # the first of equals
        beta, alpha = float(betas[best // len(alphas)]), float(alphas[best % len(alphas)])
        rounds.append(Round(betas, alphas, right))
        low_high = [(beta * 0.5, beta * 1.5), (alpha * 0.5, alpha * 1.5)]
    accuracy = int(right.max()) / len(labels)
    return Search(alpha, beta, accuracy, tuple(rounds))


def count_right(
    zero_shot: torch.Tensor,
    affinities: Callable[[slice], torch.Tensor],
    labels: torch.Tensor,
    support_labels: torch.Tensor,
    betas: torch.Tensor,
    alphas: torch.Tensor,
) -> torch.Tensor:
    """Return how many images each pair gets right, int64 [B, A]."""
    right = torch.zeros(len(betas), len(alphas), dtype=torch.int64)
    step = max(1, _PRODUCTS // len(support_labels))
    first = float(betas[0])
    apart = float(betas[1] - betas[0]) if len(betas) > 1 else 0.0
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        right += cache_grid(
            affinities(rows),
            zero_shot[rows],
            labels[rows],
            support_labels,
            (first, apart, len(betas)),
            alphas,
        )
    return right


def _steps(low: float, high: float, count: SupportsIndex) -> torch.Tensor:
    steps = range(int(count))
    return torch.tensor([i * (high - low) / int(count) + low for i in steps], dtype=torch.float64)


def checked_grid(grid: Sequence[Any] | Grid) -> Grid:
    """Return ``grid``.

    Raises
    ------
    ValueError
        A range is empty or not above 0, or a number of steps or rounds is below 1.
    """
    checked = Grid(*grid)
    for name in ("beta", "alpha"):
        low, high = map(float, getattr(checked, name))
        if not 0 < low < high < float("inf"):
            raise ValueError(f"grid.{name}: 0 < low < high is needed, got {(low, high)}")
    for name in ("beta_steps", "alpha_steps", "rounds"):
        check_at_least(1, **{f"grid.{name}": getattr(checked, name)})
    return checked
