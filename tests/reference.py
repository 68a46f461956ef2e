"""What every operation must return, computed plainly in float64. Short enough to be seen right."""

from __future__ import annotations

import numpy as np
import torch

LANES = 16


def rows64(x: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return features of any dtype as float64: exact, since all are short floats."""
    return (x.detach().to(torch.float64).numpy() if isinstance(x, torch.Tensor) else x).astype(
        np.float64
    )


def similarity(queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return the exact score of each pair, [N, V] float32."""
    q, k = rows64(queries), rows64(keys)
    pad = -q.shape[1] % LANES
    q, k = np.pad(q, ((0, 0), (0, pad))), np.pad(k, ((0, 0), (0, pad)))
    lanes = np.zeros((len(q), len(k), LANES))
    for start in range(0, q.shape[1], LANES):
        lanes += q[:, None, start : start + LANES] * k[None, :, start : start + LANES]
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half:]
    with np.errstate(over="ignore"):
        return lanes[..., 0].astype(np.float32)


def topk(
    queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return values and indices of the k best keys: score descending, then index ascending."""
    scores = similarity(queries, keys)
    indices = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, indices, axis=1), indices


def logsumexp(
    queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray, scale: float
) -> np.ndarray:
    """Return the log-sum-exp of the scaled scores of each query, [N] float64."""
    scores = scale * (rows64(queries) @ rows64(keys).T)
    largest = scores.max(axis=1)
    return largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1))


def gaussian_potential(
    x: torch.Tensor | np.ndarray, y: torch.Tensor | np.ndarray | None, t: float
) -> float:
    """Return log mean exp(-t ||x - y||^2) over pairs, those with i < j where there is no y."""
    a, b = rows64(x), rows64(x if y is None else y)
    squares = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    exponents = -t * (squares[np.triu_indices(len(a), 1)] if y is None else squares.ravel())
    return exponents.max() + np.log(np.exp(exponents - exponents.max()).mean())


def group_mean(
    queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Return the mean score of each query with each group of keys, [N, G] float64."""
    scores = rows64(queries) @ rows64(keys).T
    ids = range(int(groups.max()) + 1)
    return np.stack([scores[:, groups == g].mean(axis=1) for g in ids], axis=1)


def cache_logits(
    queries: torch.Tensor | np.ndarray,
    keys: torch.Tensor | np.ndarray,
    values: torch.Tensor | np.ndarray,
    beta: float,
) -> np.ndarray:
    """Return exp(-beta (1 - scores)) @ values, [N, C] float64."""
    return np.exp(-beta * (1 - rows64(queries) @ rows64(keys).T)) @ rows64(values)


def score_sizes(queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return sum_i |q_i k_i| of each pair, which the error of a float32 score is measured by."""
    return np.abs(rows64(queries)) @ np.abs(rows64(keys)).T


def same_bits(a: torch.Tensor | np.ndarray, b: torch.Tensor | np.ndarray) -> bool:
    """Whether two float32 arrays are equal in shape and in every bit."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype == np.float32
    return a.shape == b.shape and bool((a.view(np.int32) == b.view(np.int32)).all())
