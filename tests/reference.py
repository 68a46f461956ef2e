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


def same_bits(a: torch.Tensor | np.ndarray, b: torch.Tensor | np.ndarray) -> bool:
    """Whether two float32 arrays are equal in shape and in every bit."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype == np.float32
    return a.shape == b.shape and bool((a.view(np.int32) == b.view(np.int32)).all())


def rank(
    queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Return how many keys are ahead of each target: a higher score, or equal and a lower index."""
    scores = similarity(queries, keys)
    target = scores[np.arange(len(scores)), targets][:, None]
    earlier = np.arange(scores.shape[1]) < targets[:, None]
    return ((scores > target) | ((scores == target) & earlier)).sum(1)


def count_above(
    queries: torch.Tensor | np.ndarray,
    keys: torch.Tensor | np.ndarray,
    thresholds: np.ndarray,
    per: str,
) -> np.ndarray:
    """Return how many scores are strictly above the threshold of their query."""
    above = similarity(queries, keys) > thresholds[:, None]
    return above.sum(0 if per == "key" else 1)


def group_max(
    queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best score of each group and its key, the first of equal ones."""
    scores = similarity(queries, keys)
    best = [np.flatnonzero(groups == g) for g in range(groups.max() + 1)]
    indices = np.stack([keys[scores[:, keys].argmax(1)] for keys in best], axis=1)
    return np.take_along_axis(scores, indices, axis=1), indices


def group_beats(
    queries: torch.Tensor | np.ndarray,
    keys: torch.Tensor | np.ndarray,
    groups: np.ndarray,
    targets: np.ndarray,
) -> np.ndarray:
    """Return whether a group has a key ahead of the target, [N, G] bool."""
    scores = similarity(queries, keys)
    target = scores[np.arange(len(scores)), targets][:, None]
    earlier = np.arange(scores.shape[1]) < targets[:, None]
    ahead = (scores > target) | ((scores == target) & earlier)
    return np.stack([ahead[:, groups == g].any(1) for g in range(groups.max() + 1)], axis=1)


def pairs_above(
    queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and scores of all pairs strictly above, in order."""
    scores = similarity(queries, keys)
    rows, columns = np.nonzero(scores > np.float32(threshold))
    return rows, columns, scores[rows, columns]
