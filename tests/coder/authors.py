"""The authors' public scripts, literally and slowly, in float64: what ours must equal.

Rewritten from what they compute; lists, loops and order are theirs.
"""

from __future__ import annotations

import numpy as np


def representation(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """[N, K] float64: cosines."""
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    return images @ texts.T


def class_scores(coder: np.ndarray, counts: list[tuple[int, int]]) -> np.ndarray:
    """First stage, [N, C]; counts: of each class, texts that are averaged and that compete."""
    scores, at = [], 0
    for averaged, competing in counts:
        name = coder[:, at + averaged : at + averaged + competing].max(1, keepdims=True)
        scores.append(np.concatenate([coder[:, at : at + averaged], name], 1).mean(1))
        at += averaged + competing
    return 100 * np.stack(scores, 1)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def rerank(
    images: np.ndarray,
    scores: np.ndarray,
    pair_texts: dict[tuple[int, int], np.ndarray],
    threshold: float,
    labels: np.ndarray | None,
    count: int = 5,
) -> tuple[np.ndarray, np.ndarray]:
    """Second stage: classes [N] and which images were reranked; labels choose them if given."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    predicted = order[:, 0].copy()
    probabilities = np.sort(softmax(scores), axis=1)[:, ::-1]
    chosen = probabilities[:, 0] - probabilities[:, 1] < threshold
    if labels is not None:
        chosen &= (order == labels[:, None]).any(1)
    for i in np.flatnonzero(chosen):
        image = images[i].astype(np.float64)
        margins = []
        for a in order[i]:
            score = []
            for b in order[i]:
                if a == b:
                    continue
                try:
                    there = (pair_texts[a, b].astype(np.float64) @ image).mean()
                    back = (pair_texts[b, a].astype(np.float64) @ image).mean()
                    score.append(there - back)
                except KeyError:
                    score.append(0)
            margins.append(sum(score) / len(score))
        ranked = sorted(zip(margins, order[i], strict=True), key=lambda x: x[0], reverse=True)
        predicted[i] = ranked[0][1]
    return predicted, chosen


def stretched(affinity: np.ndarray) -> np.ndarray:
    low, high = affinity.min(1, keepdims=True), affinity.max(1, keepdims=True)
    return (affinity - low) / (high - low)


def adapter_logits(
    zero_shot: np.ndarray, affinity: np.ndarray, onehot: np.ndarray, alpha: float, beta: float
) -> np.ndarray:
    """[N, C]; the affinities as `stretched` leaves them."""
    return zero_shot + np.exp(-(beta - beta * affinity)) @ onehot * alpha


def search(
    zero_shot: np.ndarray,
    affinity: np.ndarray,
    onehot: np.ndarray,
    labels: np.ndarray,
    beta_range: tuple[float, float],
    alpha_range: tuple[float, float],
    steps: tuple[int, int],
    rounds: int = 3,
) -> tuple[float, float, float]:
    """Best alpha, beta and accuracy: every pair from anew."""
    (low_b, high_b), (low_a, high_a) = beta_range, alpha_range
    for _ in range(rounds):
        betas = [i * (high_b - low_b) / steps[0] + low_b for i in range(steps[0])]
        alphas = [i * (high_a - low_a) / steps[1] + low_a for i in range(steps[1])]
        best, best_beta, best_alpha = 0.0, 0.0, 0.0
        for beta in betas:
            for alpha in alphas:
                logits = adapter_logits(zero_shot, affinity, onehot, alpha, beta)
                accuracy = float((logits.argmax(1) == labels).mean())
                if accuracy > best:
                    best, best_beta, best_alpha = accuracy, beta, alpha
        low_b, high_b = best_beta * 0.5, best_beta * 1.5
        low_a, high_a = best_alpha * 0.5, best_alpha * 1.5
    return best_alpha, best_beta, best
