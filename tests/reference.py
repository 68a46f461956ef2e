"""What every operation must return, computed plainly in float64. Short enough to be seen right."""

from __future__ import annotations

import numpy as np
import torch
from remembered import remembered

LANES = 16


def rows64(x: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return features of any dtype as float64: exact, since all are short floats."""
    return (x.detach().to(torch.float64).numpy() if isinstance(x, torch.Tensor) else x).astype(
        np.float64
    )


@remembered
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


@remembered
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


@remembered
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


@remembered
def cache_logits(
    queries: torch.Tensor | np.ndarray,
    keys: torch.Tensor | np.ndarray,
    values: torch.Tensor | np.ndarray,
    beta: float,
) -> np.ndarray:
    """Return exp(-beta (1 - scores)) @ values, [N, C] float64."""
    return np.exp(-beta * (1 - rows64(queries) @ rows64(keys).T)) @ rows64(values)


def label_leads(
    affinities: np.ndarray,
    zero_shot: np.ndarray,
    labels: np.ndarray,
    support_labels: np.ndarray,
    beta: float,
    alpha: float,
) -> np.ndarray:
    """By how much zero_shot + alpha cache is higher for the label than for others, [N, C]."""
    onehot = np.eye(zero_shot.shape[1])[support_labels]
    scores = zero_shot + alpha * (np.exp(-beta * (1 - affinities)) @ onehot)
    return np.take_along_axis(scores, labels[:, None], 1) - scores


@remembered
def score_sizes(queries: torch.Tensor | np.ndarray, keys: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return sum_i |q_i k_i| of each pair, which the error of a float32 score is measured by."""
    return np.abs(rows64(queries)) @ np.abs(rows64(keys)).T


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


def score_maps(pixels: torch.Tensor | np.ndarray, tags: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return the exact score of each tag and pixel, [B, T, h, w] float32."""
    x = rows64(pixels)
    images, width, h, w = x.shape
    rows = x.transpose(0, 2, 3, 1).reshape(images * h * w, width)
    return similarity(rows, tags).reshape(images, h, w, len(tags)).transpose(0, 3, 1, 2)


def pixel_scores(
    pixels: torch.Tensor | np.ndarray, tags: torch.Tensor | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best score of each tag in each image and the first pixel that has it."""
    maps = score_maps(pixels, tags)
    maps = maps.reshape(*maps.shape[:2], maps.shape[2] * maps.shape[3])
    locations = maps.argmax(2)
    return np.take_along_axis(maps, locations[..., None], axis=2)[..., 0], locations


def _positions(count: int, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper neighbour and the weight of the upper one, in torch's float32."""
    scale = np.float32(cells) / np.float32(count)
    at = np.maximum(
        scale * (np.arange(count, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0
    )
    low = np.minimum(at.astype(np.int64), cells - 1)
    weight = np.minimum(at - low.astype(np.float32), np.float32(1 - 2**-24))
    return low, np.minimum(low + 1, cells - 1), weight


def bilinear(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Up-sample [B, T, h, w] in the precision of ``maps``: first down, then along."""
    top, bottom, down = _positions(size[0], maps.shape[2])
    left, right, along = _positions(size[1], maps.shape[3])
    down, along = down[:, None].astype(maps.dtype), along.astype(maps.dtype)
    maps = maps[:, :, top] + down * (maps[:, :, bottom] - maps[:, :, top])
    return maps[..., left] + along * (maps[..., right] - maps[..., left])


@remembered
def pixel_labels(
    pixels: torch.Tensor | np.ndarray,
    tags: torch.Tensor | np.ndarray,
    size: tuple[int, int],
    k: int,
    background: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return values and indices of the k best maps at each output pixel."""
    maps = bilinear(score_maps(pixels, tags), size)
    if background is not None:
        maps = np.concatenate([maps, np.full_like(maps[:, :1], background)], axis=1)
    indices = np.argsort(-maps, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(maps, indices, axis=1)
    return values, np.where(indices == len(tags), -1, indices)


def refine_masks(
    images: torch.Tensor | np.ndarray,
    masks: torch.Tensor | np.ndarray,
    iterations: int,
    dilations: tuple[int, ...],
) -> np.ndarray:
    """Return the refined masks, float64."""
    count = len(dilations)

    def windows(planes: np.ndarray) -> np.ndarray:  # [count, 9, B, C, H, W]
        h, w = planes.shape[2:]
        return np.stack(
            [
                [
                    padded[:, :, dy : dy + h, dx : dx + w]
                    for dy in (0, d, 2 * d)
                    for dx in (0, d, 2 * d)
                ]
                for d in dilations
                for padded in [np.pad(planes, ((0, 0), (0, 0), (d, d), (d, d)), mode="edge")]
            ]
        )

    def neighbours(planes: np.ndarray) -> np.ndarray:  # [8 count, B, C, H, W]
        return np.delete(windows(planes), 4, axis=1).reshape(8 * count, *planes.shape)

    image, mask = rows64(images), rows64(masks)
    deviation = windows(image).reshape(9 * count, *image.shape).std(axis=0, ddof=1)
    difference = np.abs(neighbours(image) - image)
    logits = -(difference / (1e-8 + 0.1 * deviation)).mean(axis=2, keepdims=True)
    weights = np.exp(logits - logits.max(axis=0))
    weights /= weights.sum(axis=0)
    for _ in range(iterations):
        mask = (weights * neighbours(mask)).sum(axis=0)
    return mask
