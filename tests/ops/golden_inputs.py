"""Queries and keys of golden.py, with the same bits on every machine, and hashes of answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import fastclip

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
SHORT = {F32: "float32", F16: "float16", BF16: "bfloat16"}

Arguments = dict[str, Any]


class Draw:
    """Whole numbers from a seed."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Return int64 numbers from low to high - 1."""
        count = int(np.prod(shape))
        raw = self._bits.random_raw(count) if count else np.zeros(0, np.uint64)
        span = np.uint64(high - low)
        scaled = ((raw >> np.uint64(32)) * span) >> np.uint64(32)
        return scaled.astype(np.int64).reshape(shape) + low

    def one(self, low: int, high: int) -> int:
        return int(self.integers(low, high, 1)[0])

    def choice(self, options: Any) -> Any:
        options = list(options)
        return options[self.one(0, len(options))]

    def numbers(self, *shape: int) -> np.ndarray:
        """Return float64 numbers of 24 bits in [-1, 1)."""
        return np.ldexp(self.integers(-(2**23), 2**23, *shape).astype(np.float64), -23)


# Queries [n, d] and keys [v, d] in float64; those of mixed magnitudes are for float32 alone.
Made = tuple[np.ndarray, np.ndarray]


def _equal(draw: Draw, n: int, v: int, d: int) -> Made:
    return draw.numbers(n, d), np.repeat(draw.numbers(1, d), v, axis=0)


def _close(draw: Draw, n: int, v: int, d: int) -> Made:
    steps = np.ldexp(draw.integers(-4, 5, v, d).astype(np.float64), -23)
    return draw.numbers(n, d), draw.numbers(1, d) + steps


def _offset(draw: Draw, n: int, v: int, d: int) -> Made:
    steps = [
        np.ldexp(draw.integers(-1024, 1025, rows, d).astype(np.float64), -9) for rows in (n, v)
    ]
    return 2.0**13 + steps[0], 2.0**13 + steps[1]


def _lengths(draw: Draw, n: int, v: int, d: int) -> Made:
    q, k = draw.numbers(n, d), draw.numbers(v, d)
    return np.ldexp(q, draw.integers(-60, 60, n, 1)), np.ldexp(k, draw.integers(-60, 60, v, 1))


def _zeros(draw: Draw, n: int, v: int, d: int) -> Made:
    q, k = draw.numbers(n, d), draw.numbers(v, d)
    q[1::3], k[::3], k[1::9] = 0, 0, -0.0
    return q, k


def _signs_of_zero(draw: Draw, n: int, v: int, d: int) -> Made:
    q, k = (np.abs(draw.numbers(rows, d)) + 2.0**-20 for rows in (n, v))
    k[::2] *= -1
    return np.ldexp(q, -100), np.ldexp(k, -100)


def _rising(draw: Draw, n: int, v: int, d: int) -> Made:
    base = draw.integers(-127, 128, 1, d).astype(np.float64)
    steps = np.arange(v)[:, None] - v // 2
    return np.ldexp(base * draw.integers(1, 9, n, 1), -7), np.ldexp(base * steps, -10)


def _repeated(draw: Draw, n: int, v: int, d: int) -> Made:
    some = draw.numbers(v // 10 + 1, d)
    return draw.numbers(n, d), np.concatenate([some] * 10)[:v]


def _spike(draw: Draw, n: int, v: int, d: int) -> Made:
    q, k = draw.numbers(n, d), draw.numbers(v, d)
    q[:, d // 3] += 64
    k[:, d // 3] += 128
    k[v // 2] = np.ldexp(k[v // 2], 90)
    return q, k


KINDS: dict[str, Callable[[Draw, int, int, int], Made]] = {
    "numbers": lambda draw, n, v, d: (draw.numbers(n, d), draw.numbers(v, d)),
    "ties": lambda draw, n, v, d: (
        draw.integers(-2, 3, n, d).astype(np.float64),
        draw.integers(-2, 3, v, d).astype(np.float64),
    ),
    "equal keys": _equal,
    "close keys": _close,
    "offset": _offset,
    "huge": lambda draw, n, v, d: (
        np.ldexp(draw.numbers(n, d), 59),
        np.ldexp(draw.numbers(v, d), 59),
    ),
    "overflow": lambda draw, n, v, d: (
        np.ldexp(draw.numbers(n, d), 100),
        np.ldexp(draw.numbers(v, d), 100),
    ),
    "denormal": lambda draw, n, v, d: (
        draw.numbers(n, d),
        np.ldexp(draw.integers(-(2**22), 2**22, v, d).astype(np.float64), -149),
    ),
    "denormal halves": lambda draw, n, v, d: (
        np.ldexp(draw.integers(-1023, 1024, n, d).astype(np.float64), -24),
        np.ldexp(draw.integers(-1023, 1024, v, d).astype(np.float64), -24),
    ),
    "lengths": _lengths,
    "zeros": _zeros,
    "signs of zero": _signs_of_zero,
    "rising": _rising,
    "repeated": _repeated,
    "spike": _spike,
}
OF_HALVES = ["numbers", "ties", "equal keys", "denormal halves", "zeros", "rising", "repeated"]
"""Kinds that float16 can hold."""
FINITE = [kind for kind in KINDS if kind not in ("overflow", "huge", "lengths", "spike")]
"""Kinds whose scores, squared, are within the range of float32."""

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x,
    "rows apart": lambda x: torch.cat([x, x.new_ones(len(x), 3)], 1)[:, : x.shape[1]],
    "columns adjacent": lambda x: x.T.contiguous().T,
    "every second row": lambda x: x.repeat_interleave(2, 0)[::2],
    "unaligned": lambda x: torch.cat([x.new_ones(1), x.reshape(-1)])[1:].view(x.shape),
}


def sample_rows(name: str, count: int, width: int) -> torch.Tensor:
    """Return features that ship, repeated up to ``count`` rows; not whole rows where narrower."""
    rows = fastclip.data.load_sample(name).features
    return torch.cat([rows] * -(-count // len(rows)))[:count, :width]


@dataclass(frozen=True)
class Search:
    """Queries and keys, by what they are made of."""

    kind: str
    n: int
    v: int
    d: int
    queries: torch.dtype = F32
    keys: torch.dtype = F32
    layout: str = ""
    everywhere: bool = False
    """Whether files and ranks are asked, too."""
    seed: int = 0

    @property
    def name(self) -> str:
        dtypes = dict.fromkeys([SHORT[self.queries], SHORT[self.keys]])
        layout = f", {self.layout}" if self.layout else ""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{self.kind} {self.n}x{self.v}x{self.d} {'-'.join(dtypes)}{layout}{seed}"

    @property
    def work(self) -> int:
        return self.n * self.v * max(1, self.d)

    def make(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self.kind == "sample":
            names = ("lvis", "lvis") if self.keys == F16 else ("coco-images", "coco-captions")
            q, k = (
                sample_rows(name, count, self.d)
                for name, count in zip(names, (self.n, self.v), strict=True)
            )
        else:
            draw = Draw(self.seed * 1000 + 7 * self.n + self.v + self.d)
            q, k = map(torch.from_numpy, KINDS[self.kind](draw, self.n, self.v, self.d))
        place = LAYOUTS[self.layout]
        return place(q.float().to(self.queries)), place(k.float().to(self.keys))


def random_search(seed: int) -> Search:
    """Return any shape, dtype and layout."""
    draw = Draw(10_000 + seed)
    most = 100_000_000 if seed % 20 == 0 else 4_000_000
    dtypes = [draw.choice(SHORT) for _ in range(2)]
    d = draw.choice([1, 2, 7, 16, 31, 63, 64, 65, 100, 127, 128, 200, 512, 513, 768, 1024, 2049])
    n = 2 ** draw.one(0, 9) + draw.one(0, 5)
    v = 2 ** draw.one(0, 13) + draw.one(0, 40)
    if seed % 20 == 0:
        n, v, d = 256 + draw.one(0, 300), 8192 + draw.one(0, 9000), min(d, 128)
    n = min(n, max(1, most // d // v))
    v = min(v, max(1, most // d // n))
    kinds = OF_HALVES if F16 in dtypes else list(KINDS)
    layout = draw.choice(LAYOUTS)
    return Search(draw.choice(kinds), n, v, d, *dtypes, layout, seed=seed + 1)


def digest(answer: Any) -> str:
    """Return the SHA-256 of dtypes, shapes and bytes."""
    found = hashlib.sha256()

    def add(x: Any) -> None:
        if isinstance(x, torch.Tensor) and x.layout == torch.sparse_csr:
            found.update(f"csr {tuple(x.shape)}\n".encode())
            x = x.crow_indices(), x.col_indices(), x.values()
        if isinstance(x, torch.Tensor):
            found.update(f"{x.dtype} {tuple(x.shape)}\n".encode())
            found.update(x.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
            return
        for part in x:
            add(part)

    add(answer)
    return found.hexdigest()
