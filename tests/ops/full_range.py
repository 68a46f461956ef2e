"""Problems from the whole range of float32, and every search on them compared with the reference.

Run as a program it goes on with fresh problems:
``python tests/ops/full_range.py --minutes 10 --isa avx2``.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import reference
from inputs import Problem

import fastclip
from fastclip import _C
from fastclip.engine.tuning import TUNING

LARGEST = float(np.finfo(np.float32).max)

# What a row looks like before it is given its magnitude: each makes another sum or bound large.
SHAPES = {
    "normal": lambda rng, n, d: rng.standard_normal((n, d)),
    "all of one sign": lambda rng, n, d: rng.uniform(0.5, 1, (n, d)),
    "all equal": lambda rng, n, d: np.ones((n, d)),
    "signs": lambda rng, n, d: rng.choice([-1.0, 1.0], (n, d)),
    "one spike": lambda rng, n, d: (
        rng.standard_normal((n, d)) * 1e-4 + 1.0 * (np.arange(d) == rng.integers(0, d, (n, 1)))
    ),
    "few values, many ties": lambda rng, n, d: rng.integers(-1, 2, (n, d)).astype(float),
    "exponents of their own": lambda rng, n, d: (
        rng.standard_normal((n, d)) * np.exp2(rng.uniform(-140, 0, (n, d)))
    ),
    "close to each other": lambda rng, n, d: (
        rng.standard_normal((1, d)) * (1 + 1e-6 * rng.standard_normal((n, d)))
    ),
}


def draw_rows(rng: np.random.Generator, count: int, width: int) -> torch.Tensor:
    """Return finite rows; their magnitude is anything from 1e-45 to 3e38."""
    rows = SHAPES[rng.choice(list(SHAPES))](rng, count, width)
    magnitude = np.exp2(rng.uniform(-149, 128))
    if rng.random() < 0.2:  # each row its own
        magnitude = np.exp2(rng.uniform(-149, 128, (count, 1)))
    if rng.random() < 0.2:
        rows = rows + np.exp2(rng.uniform(-10, 10)) * rng.standard_normal(width)
    rows = np.clip(rows * magnitude, -LARGEST, LARGEST).astype(np.float32)
    if rng.random() < 0.2:
        rows[count // 2 :] = rows[: count - count // 2]  # duplicates
    if rng.random() < 0.1:
        rows[rng.integers(count)] = 0
    features = torch.from_numpy(rows)
    other = features.to(torch.bfloat16 if rng.random() < 0.5 else torch.float16)
    return other if rng.random() < 0.2 and other.isfinite().all() else features


def draw(seed: int, most: int = 4_000_000) -> Problem:
    """Return queries and keys; ``most`` bounds N V d."""
    rng = np.random.default_rng(seed)
    width = int(np.exp2(rng.uniform(0, 16)))
    if rng.random() < 0.1:
        width = 65_536
    count = int(np.exp2(rng.uniform(0, 10))) + 1
    count = max(2, min(count, most // width))
    queries = max(1, min(int(rng.integers(1, 40)), most // (width * count)))
    return Problem(draw_rows(rng, queries, width), draw_rows(rng, count, width))


def draw_thresholds(rng: np.random.Generator, scores: np.ndarray) -> np.ndarray:
    """Return a threshold for each row: one of its scores, or any number."""
    any_number = np.exp2(rng.uniform(-149, 128, len(scores))) * rng.choice([-1, 1], len(scores))
    own = scores[np.arange(len(scores)), rng.integers(0, scores.shape[1], len(scores))]
    with np.errstate(over="ignore"):
        return np.where(rng.random(len(scores)) < 0.7, own, any_number).astype(np.float32)


def wrong_answers(seed: int, problem: Problem) -> list[str]:
    """Return what differs from the reference, packed or not, for one problem."""
    rng = np.random.default_rng(seed + 1)
    queries, keys = problem.queries, problem.keys
    n, count = len(queries), len(keys)
    scores = reference.similarity(queries, keys)
    k = int(rng.integers(1, count + 1))
    targets = rng.integers(0, count, n)
    thresholds = draw_thresholds(rng, scores)
    groups = rng.integers(0, rng.integers(1, count + 1), count)
    groups = np.unique(groups, return_inverse=True)[1]
    if rng.random() < 0.7:
        groups.sort()
    best = reference.topk(queries, keys, k)
    best_of_groups = reference.group_max(queries, keys, groups)
    beats = reference.group_beats(queries, keys, groups, targets)
    rows, columns, above = reference.pairs_above(queries, keys, float(thresholds[0]))
    wrong: list[str] = []

    def compare(name: str, *pairs: tuple[object, object]) -> None:
        for found, expected in pairs:
            a, b = np.asarray(found), np.asarray(expected)
            same = reference.same_bits if a.dtype == np.float32 else np.array_equal
            if not same(a, b):
                wrong.append(name)

    compare("similarity", (fastclip.similarity(queries, keys), scores))
    for given, name in ((keys, ""), (fastclip.pack(keys), " packed")):
        found = fastclip.topk(queries, given, k)
        compare(f"topk({k}){name}", (found.values, best[0]), (found.indices, best[1]))
        ranks = fastclip.rank(queries, given, targets)
        compare(f"rank{name}", (ranks, reference.rank(queries, keys, targets)))
        for per in ("key", "query"):
            counted = fastclip.count_above(queries, given, thresholds, per=per)
            expected = reference.count_above(queries, keys, thresholds, per)
            compare(f"count_above per {per}{name}", (counted, expected))
        of_groups = fastclip.group_max(queries, given, groups)
        compare(
            f"group_max{name}",
            (of_groups.values, best_of_groups[0]),
            (of_groups.indices, best_of_groups[1]),
        )
        bits = fastclip.group_beats(queries, given, groups, targets).numpy().view(np.uint8)
        unpacked = np.unpackbits(bits, axis=1, bitorder="little")[:, : groups.max() + 1]
        compare(f"group_beats{name}", (unpacked.astype(bool), beats))
        pairs = fastclip.pairs_above(queries, given, float(thresholds[0]))
        compare(
            f"pairs_above{name}",
            (pairs.values(), above),
            (pairs.col_indices(), columns),
            (pairs.crow_indices()[1:], np.bincount(rows, minlength=n).cumsum()),
        )
    return wrong


def wrong_sums(seed: int, problem: Problem) -> list[str]:
    """Return what is further from float64 than the docstrings allow; inputs that overflow aside."""
    rng = np.random.default_rng(seed + 2)
    queries, keys = problem.queries, problem.keys
    q, k = reference.rows64(queries), reference.rows64(keys)
    width, unit = q.shape[1], 2.0**-24
    sizes = reference.score_sizes(queries, keys).max(axis=1, keepdims=True)
    wrong: list[str] = []

    def factor(largest: float) -> float:
        """Any number, or one that makes exponents of what is so large that they matter."""
        any_number = np.exp2(rng.uniform(-149, 128))
        one = (
            10.0 ** rng.uniform(-2, 4) / max(largest, 1e-300) if rng.random() < 0.5 else any_number
        )
        return float(np.float32(np.clip(one, 1e-45, LARGEST)))

    def compare(name: str, found: torch.Tensor, exact: np.ndarray, error: np.ndarray) -> None:
        error = error + unit * np.abs(exact) + 2.0**-149
        overflows = np.isinf(found.numpy()) & (np.abs(exact) + error > LARGEST)
        if not ((np.abs(found.double().numpy() - exact) <= error) | overflows).all():
            wrong.append(name)

    if sizes.max() < LARGEST / 4:
        scale = factor(sizes.max()) * rng.choice([-1, 1])
        # Products of denormals are rounded to multiples of 2^-149.
        error = abs(scale) * ((64 + width / 64) * unit * sizes[:, 0] + width * 2.0**-149) + 1e-6
        exact = reference.logsumexp(queries, keys, scale)
        compare(f"logsumexp({scale})", fastclip.logsumexp(queries, keys, scale), exact, error)

        beta = min(factor(max(1, sizes.max())), 50 / max(1, sizes.max())) * rng.choice([-1, 1])
        values = draw_rows(rng, len(keys), int(rng.integers(1, 20))).float().clamp(-1e36, 1e36)
        weights = np.exp(-beta * (1 - q @ k.T))
        exact, total = weights @ reference.rows64(values), weights @ abs(reference.rows64(values))
        error = unit * (70 + abs(beta) * (4 + (66 + width / 64) * sizes)) * total
        if total.max() < LARGEST / 4:
            found = fastclip.cache_logits(queries, keys, values, beta)
            compare(f"cache_logits({beta})", found, exact, error + len(keys) * 2.0**-149)

    squares = np.stack([((row - k) ** 2).sum(1) for row in q])
    norms = max(((rows - k.mean(0)) ** 2).sum(1).max() for rows in (q, k))
    if max(squares.max(), norms) < LARGEST / 4:
        t = factor(squares.max())
        largest = (-t * squares).max()
        exact = largest + np.log(np.exp(-t * squares - largest).mean())
        share = (66 + width / 64) * unit
        error = 2 * abs(exact) * share + (40 * share if t * norms < 9 else 0) + 1e-6
        found = fastclip.gaussian_potential(queries, keys, t)
        compare(f"gaussian_potential({t})", found, exact, error + t * width * 2.0**-149)
    return wrong


def describe(seed: int, problem: Problem) -> str:
    q, k = (rows.double().norm(dim=1).max().item() for rows in (problem.queries, problem.keys))
    return (
        f"seed {seed}: {tuple(problem.queries.shape)} {problem.queries.dtype} of length {q:.3g}, "
        f"{tuple(problem.keys.shape)} {problem.keys.dtype} of length {k:.3g}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--isa", default="", help="an instruction set; default: the best")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**40, help="the first one")
    arguments = parser.parse_args()
    _C.select_isa(arguments.isa)
    TUNING.always_screen = True  # small problems, too
    usual = TUNING.pack_from_queries, TUNING.pack_from_keys, TUNING.pack_keys
    end = time.monotonic() + 60 * arguments.minutes
    failed = 0
    for seed in itertools.count(arguments.seed):
        if time.monotonic() > end:
            print(f"{_C.isa()}: {seed - arguments.seed} problems, {failed} wrong", flush=True)
            return 1 if failed else 0
        # Every other time, unpacked keys are packed on the way, in several parts.
        sizes = (2, 2, 64) if seed % 2 else usual
        TUNING.pack_from_queries, TUNING.pack_from_keys, TUNING.pack_keys = sizes
        problem = draw(seed)
        if wrong := wrong_answers(seed, problem) + wrong_sums(seed, problem):
            failed += 1
            print(describe(seed, problem), "|", ", ".join(wrong), flush=True)
    raise AssertionError("the loop ends by itself")


if __name__ == "__main__":
    sys.exit(main())
