"""Fixed inputs, and the SHA-256 of all that is answered to them: answers must keep their bits.

Inputs are made of the raw bits of PCG64, which NumPy does not change, by arithmetic that rounds
nothing, or are features that ship with the package: they are the same on every machine. So are the
answers in ``golden.json``: they are documented as the same for every instruction set, or come of
numbers that no operation rounds. Other answers depend on the compiler, which may contract products
and sums, or on torch: ``--local`` and ``--large`` compare two versions on one machine.

    python tests/ops/golden.py --write                         golden.json
    python tests/ops/golden.py --check tests/ops/golden.json
    python tests/ops/golden.py --large --write FILE            and, in another version,
    python tests/ops/golden.py --large --check FILE
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastclip
from fastclip import _C

FILE = Path(__file__).with_name("golden.json")

F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
SHORT = {F32: "float32", F16: "float16", BF16: "bfloat16"}

Arguments = dict[str, Any]
Hashes = dict[str, str]


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


@dataclass(frozen=True)
class Question:
    """One call; ``arguments`` beside queries and keys, or images and tags or masks."""

    name: str
    op: str
    arguments: Arguments = field(default_factory=dict)
    to_itself: bool = False


SEARCHES = [
    Search("sample", 1, 80, 512, everywhere=True),
    Search("sample", 100, 500, 512),
    Search("sample", 8, 1000, 512, F16, F16),
    Search("numbers", 0, 10, 5),
    Search("numbers", 3, 10, 0),
    Search("numbers", 1, 1, 1),
    Search("numbers", 1, 200, 1, F16, F16),
    Search("numbers", 3, 50, 7, everywhere=True),
    Search("numbers", 2, 129, 512, BF16, F32, "every second row"),
    Search("numbers", 5, 700, 513, F16, BF16, "columns adjacent"),
    Search("numbers", 8, 1000, 64, BF16, BF16, everywhere=True),
    Search("numbers", 17, 333, 65, F32, F16, "rows apart"),
    Search("numbers", 4, 600, 513, F32, F32, "unaligned"),
    Search("ties", 17, 600, 65, everywhere=True),
    Search("ties", 300, 500, 7, F16, F16),
    Search("ties", 9, 400, 64, BF16, F16, "unaligned"),
    Search("equal keys", 5, 333, 64),
    Search("equal keys", 5, 70, 512, F16, F16),
    Search("close keys", 9, 700, 64),
    Search("offset", 9, 300, 65, everywhere=True),
    Search("huge", 9, 300, 64),
    Search("huge", 9, 300, 64, BF16, BF16),
    Search("overflow", 4, 100, 64),
    Search("denormal", 9, 300, 65),
    Search("denormal halves", 9, 300, 64, F16, F16, everywhere=True),
    Search("denormal halves", 3, 40, 7, F16, F32),
    Search("lengths", 9, 700, 64),
    Search("lengths", 6, 300, 7, BF16, F32, "rows apart"),
    Search("zeros", 10, 300, 65, everywhere=True),
    Search("zeros", 10, 300, 7, BF16, BF16),
    Search("signs of zero", 5, 90, 7),
    Search("rising", 4, 2000, 64),
    Search("rising", 64, 300, 7, F16, F16),
    Search("repeated", 9, 1000, 65),
    Search("spike", 9, 500, 65),
    # One query in parts, and many, for which keys are packed on the way, in one part and in two.
    Search("numbers", 1, 20_000, 64),
    Search("ties", 64, 9000, 7),
    Search("numbers", 300, 8200, 65),
    Search("ties", 256, 8192, 64, F16, BF16),
    Search("sample", 260, 8200, 96),
    Search("ties", 256, 262_221, 5),
]
_BIG = 3_000_000  # products: more than these get fewer questions
_TWO_PARTS = 1 << 18  # keys: more than these are packed in several parts, and get one question


def search_questions(search: Search, queries: torch.Tensor, keys: torch.Tensor) -> list[Question]:
    """Return the questions whose answers are exact."""
    n, v = len(queries), len(keys)
    big = search.work > _BIG
    asked: list[Question] = []

    def ask(op: str, label: str = "", **arguments: Any) -> None:
        asked.append(Question(f"{op}{label and ', ' + label}", op, arguments))

    if v > _TWO_PARTS:
        ask("topk", "k=10", k=10)
        return asked
    targets = (torch.arange(n) * 7919 + 3) % v
    own = fastclip.similarity(queries, keys[targets]).diagonal().clone()
    for k in sorted({1, min(10, v), min(v, 1500)} | (set() if big else {v // 2 + 1, v})):
        ask("topk", f"k={k}", k=k)
    ask("rank", targets=targets)
    ask("count_above", "per key", thresholds=own)
    ask("count_above", "per query", thresholds=own, per="query")
    tenth = fastclip.topk(queries[:1], keys, min(10, v)).values[:, -1].tolist() or [0.0]
    ask("pairs_above", threshold=tenth[0])
    some = min(v, 67)
    in_order, mixed = torch.arange(v) * some // v, torch.arange(v) * 7919 % some
    ask("group_max", "groups in order", groups=in_order)
    ask("group_beats", "groups mixed", groups=mixed, targets=targets)
    if not big:
        ask("count_above", "one threshold", thresholds=tenth[0])
        ask("pairs_above", "all", threshold=-1e300)
        ask("group_max", "groups mixed", groups=mixed)
        ask("group_max", "one group", groups=torch.zeros(v, dtype=torch.int64))
        ask("group_beats", "groups in order", groups=in_order, targets=targets)
        ask("group_mean", "groups mixed", groups=mixed)
        for dtype, short in SHORT.items():
            ask("similarity", short, dtype=dtype)
    if v <= 2000:
        third = fastclip.topk(keys[:1], keys, min(3, v)).values[0, -1].item()
        asked.append(Question("pairs_above, itself", "pairs_above", {"threshold": third}, True))
    return asked


def loose_questions(search: Search, queries: torch.Tensor, keys: torch.Tensor) -> list[Question]:
    """Return the questions whose answers depend on the instruction set."""
    if not 0 < len(queries) * len(keys) < 1 << 24 or search.kind not in ["sample", *FINITE]:
        return []
    width = max(1, search.d)
    # Whole multiples, so that the number is the same everywhere; scores are up to `width` at most.
    scales = [1.0, 100.0, -3.0] if search.kind != "offset" else [2.0**-20]
    asked = [
        Question(f"logsumexp, scale {scale:g}", "logsumexp", {"scale": scale}) for scale in scales
    ]
    values = torch.from_numpy(Draw(3).integers(-9, 10, len(keys), 5)).float()
    beta = 2.0**-28 if search.kind == "offset" else 1 / width
    asked.append(Question("cache_logits", "cache_logits", {"values": values, "beta": beta}))
    asked += [
        Question(f"gaussian_potential, t {t:g}", "gaussian_potential", {"t": t})
        for t in (2.0, 2.0**-10)
    ]
    if 1 < len(keys) < 10_000:
        asked.append(Question("gaussian_potential, itself", "gaussian_potential", {}, True))
    return asked


# Where a question is asked.


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def in_memory(question: Question, queries: torch.Tensor, keys: Any) -> Any:
    function = getattr(fastclip, question.op)
    if question.to_itself:
        own = () if question.op == "gaussian_potential" else (keys,)
        return function(keys, *own, **question.arguments)
    return function(queries, keys, **question.arguments)


def as_arrays(question: Question, queries: torch.Tensor, keys: torch.Tensor) -> Any:
    return in_memory(question, queries.numpy(), keys.numpy())


def in_given_memory(question: Question, queries: torch.Tensor, keys: torch.Tensor) -> Any:
    dtype = question.arguments["dtype"]
    out = torch.full((len(queries), len(keys) + 3), 7.0, dtype=dtype)[:, : len(keys)]
    return fastclip.similarity(queries, keys, out=out)


def from_files(question: Question, queries: torch.Tensor, keys: torch.Tensor) -> Any:
    """Ask files, in as little memory as is allowed, so that keys come in several chunks."""
    arguments = dict(question.arguments)
    with tempfile.TemporaryDirectory() as folder:
        sides: list[Path | None] = []
        for name, rows in (("queries", queries), ("keys", keys)):
            sides.append(Path(folder) / f"{name}.safetensors")
            fastclip.data.write_features(sides[-1], fastclip.data.Features(rows.contiguous()))
        if "values" in arguments:
            np.save(f"{folder}/values.npy", arguments["values"].numpy())
            arguments["values"] = f"{folder}/values.npy"
        if question.to_itself:
            sides = [sides[1], None]
        given = (question.op, *sides, f"{folder}/answer")
        per_key = question.op == "count_above" and arguments.get("per", "key") == "key"
        shard = len(keys if per_key or question.to_itself else queries) // 3 + 1
        try:
            fastclip.sweep.run(*given, memory=1, shard_size=shard, **arguments)
        except ValueError as error:
            needed = re.search(r"at least ([\d,]+) bytes", str(error))
            if needed is None:
                raise
            memory = int(needed[1].replace(",", ""))
        fastclip.sweep.run(*given, memory=memory, shard_size=shard, **arguments)
        return copy_of(fastclip.sweep.read(f"{folder}/answer"))  # before its files are deleted


def copy_of(answer: Any) -> Any:
    if isinstance(answer, torch.Tensor):
        return answer.clone()
    return type(answer)(*map(copy_of, answer))


def on_ranks(question: Question, queries: torch.Tensor, keys: torch.Tensor) -> Any:
    """Ask keys that are spread over the ranks of a process group, which must have been started."""
    return call_on_ranks(question.op, queries, fastclip.distributed.ShardedKeys(keys), question)


def call_on_ranks(op: str, queries: torch.Tensor, keys: Any, question: Question) -> Any:
    """All that depends on how a function is called on several ranks."""
    return getattr(fastclip, op)(queries, keys, **question.arguments)


@contextmanager
def one_rank() -> Iterator[None]:
    """Start a process group of this process alone."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


Place = Callable[[Question, torch.Tensor, torch.Tensor], Any]


def places_here(search: Search, question: Question, coded: fastclip.PackedKeys) -> dict[str, Place]:
    """Return where else than in memory the same bits must be answered in a moment."""
    if question.op == "gaussian_potential" or search.v > _TWO_PARTS:
        return {}
    places: dict[str, Place] = {
        "packed": lambda asked, queries, _: in_memory(asked, queries, coded)
    }
    if search.work <= _BIG and BF16 not in (search.queries, search.keys):
        places["arrays"] = as_arrays
    if question.op == "similarity":
        places["given memory"] = in_given_memory
    return places


NOT_SWEPT = ("similarity", "gaussian_potential")
SUMS = ("logsumexp", "cache_logits", "group_mean", "gaussian_potential")
"""Functions that do not say that several ranks, or another device, give the same bits."""


def places_elsewhere(question: Question) -> dict[str, Place]:
    """Return the files and ranks that must answer with the same bits."""
    places: dict[str, Place] = {}
    if question.op not in NOT_SWEPT:
        places["files"] = from_files
    if question.op not in (*NOT_SWEPT, *SUMS) and not question.to_itself:
        places["ranks"] = on_ranks
    return places


# Other questions, each with a name of its own.


@dataclass(frozen=True)
class Other:
    """A question that is not about queries and keys alone."""

    name: str
    ask: Callable[[], Any]
    work: int = 0
    host: bool = False
    """Whether only the CPU's own kernels give these bits."""


PIXEL_LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every second column": lambda x: x.repeat_interleave(2, dim=3)[..., ::2],
}

# Kind, images, tags, width, height and width of the grid, dtypes, layout.
PIXELS: list[tuple[str, int, int, int, int, int, torch.dtype, torch.dtype, str]] = [
    ("numbers", 2, 40, 65, 5, 9, F32, F32, ""),
    ("numbers", 1, 90, 24, 3, 5, F16, BF16, "channels last"),
    ("numbers", 1, 200, 7, 14, 14, F32, F32, "every second column"),
    ("ties", 2, 90, 7, 4, 6, F32, F32, ""),
    ("ties", 1, 30, 64, 7, 1, BF16, BF16, ""),
    ("equal keys", 1, 50, 24, 5, 4, F16, F16, ""),
    ("close keys", 1, 90, 24, 3, 5, F32, F32, ""),
    ("offset", 1, 60, 24, 3, 5, F32, F32, "channels last"),
    ("huge", 1, 60, 8, 3, 5, F32, F32, ""),
    ("denormal", 1, 60, 24, 3, 5, F32, F32, ""),
    ("zeros", 1, 60, 24, 3, 5, F32, F32, ""),
    ("signs of zero", 1, 60, 24, 3, 5, F32, F32, ""),
    ("numbers", 0, 5, 3, 2, 2, F32, F32, ""),
    ("numbers", 1, 1, 1, 1, 1, F32, F32, ""),
]


def pixel_cases() -> Iterator[Other]:
    for kind, images, tags, d, h, w, of_pixels, of_tags, layout in PIXELS:
        dtypes = "-".join(dict.fromkeys([SHORT[of_pixels], SHORT[of_tags]]))
        about = f"{kind} {images}x{d}x{h}x{w} {tags} {dtypes}{layout and ', ' + layout}"
        work = images * h * w * d * tags

        def make(
            kind: str = kind,
            sizes: tuple[int, ...] = (images, h, w, d),
            tags: int = tags,
            dtypes: tuple[torch.dtype, torch.dtype] = (of_pixels, of_tags),
            layout: str = layout,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            b, h, w, d = sizes
            rows, tag_rows = KINDS[kind](Draw(sum(sizes) + tags), b * h * w, tags, d)
            if kind == "ties":  # neighbours that are equal, too
                rows[1::2] = rows[::2][: len(rows[1::2])]
            grid = torch.from_numpy(rows.reshape(b, h, w, d)).permute(0, 3, 1, 2).float()
            tags_given = torch.from_numpy(tag_rows).float().to(dtypes[1])
            return PIXEL_LAYOUTS[layout](grid.contiguous().to(dtypes[0])), tags_given

        def scores(make: Callable[[], Any] = make) -> Any:
            return fastclip.pixel_scores(*make())

        yield Other(f"{about}: pixel_scores", scores, work)
        settings: dict[str, Arguments] = {
            "up": {"size": (4 * h, 4 * w)},
            "up, k=3": {"size": (3 * h + 1, 5 * w - 1), "k": min(3, tags)},
            "down": {"size": (max(1, h // 2), max(1, w - 1))},
            "all": {"size": (h + 2, w), "k": tags},
            "background": {"size": (2 * h, 2 * w), "background": 0.0},
        }
        for label, arguments in settings.items():

            def labels(
                make: Callable[[], Any] = make, arguments: Arguments = arguments
            ) -> tuple[torch.Tensor, torch.Tensor]:
                pixels, tags = make()
                found = fastclip.pixel_labels(pixels, tags, **arguments)
                again = fastclip.pixel_labels(pixels, fastclip.pack(tags), **arguments)
                same_or_raise("packed tags", found[:2], again[:2])
                return found[:2]

            yield Other(f"{about}: pixel_labels, {label}", labels, 8 * work)


def same_or_raise(where: str, answer: Any, other: Any) -> None:
    if digest(answer) != digest(other):
        raise AssertionError(f"{where}: other bits")


MASKS: list[tuple[int, int, int, int, int, int, tuple[int, ...], int, torch.dtype]] = [
    (1, 3, 4, 33, 40, 10, (1, 2, 4, 8, 12, 24), 0, F32),
    (2, 3, 2, 16, 21, 3, (1, 3), 0, F16),
    (1, 1, 1, 1, 1, 2, (1,), 0, F32),
    (1, 4, 3, 5, 70, 1, (2, 90), 0, BF16),
    (1, 3, 2, 9, 9, 0, (1,), 0, F32),
    (1, 3, 2, 12, 10, 4, (1, 2), 60, F32),
    (1, 3, 2, 12, 10, 4, (1, 2), -140, F32),
]


def mask_cases() -> Iterator[Other]:
    for batch, channels, count, h, w, iterations, dilations, exponent, dtype in MASKS:

        def ask(
            shapes: tuple[tuple[int, ...], ...] = ((batch, channels, h, w), (batch, count, h, w)),
            options: Arguments = {"iterations": iterations, "dilations": dilations},  # noqa: B006
            exponent: int = exponent,
            dtype: torch.dtype = dtype,
        ) -> torch.Tensor:
            draw = Draw(sum(shapes[0]))
            coarse = draw.integers(-3, 4, *shapes[0]).astype(np.float64)
            coarse[..., 1::2] = coarse[..., : coarse.shape[-1] // 2 * 2 : 2]  # edges and flat parts
            noise = np.ldexp(draw.integers(-8, 9, *shapes[0]).astype(np.float64), -6)
            images = torch.from_numpy(np.ldexp(coarse + noise, exponent)).float().to(dtype)
            masks = torch.from_numpy(np.abs(draw.numbers(*shapes[1]))).float().to(dtype)
            return fastclip.refine_masks(images, masks, **options)

        about = f"{batch}x{channels}x{h}x{w} {count} {SHORT[dtype]}, 2^{exponent}"
        yield Other(f"{about}: refine_masks, {iterations} iterations, {dilations}", ask, host=True)


def gradients(result: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the gradients of a sum of the result with small whole weights."""
    weights = torch.from_numpy(Draw(1).integers(-2, 3, *result.shape)).to(result.dtype)
    return torch.autograd.grad((result * weights).sum(), inputs)


def gradient_questions(dtype: torch.dtype, kind: str) -> Iterator[Other]:
    """Gradients; of small whole numbers nothing is rounded, in whatever order torch adds them."""
    groups = torch.arange(48) // 4

    def rows() -> tuple[torch.Tensor, torch.Tensor]:
        given = KINDS[kind](Draw(2), 9, 48, 20)
        q, k = (torch.from_numpy(x).float().to(dtype).requires_grad_() for x in given)
        return q, k

    def of(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[], Any]:
        def ask() -> tuple[torch.Tensor, ...]:
            q, k = rows()
            return gradients(function(q, k), q, k)

        return ask

    def of_pixels() -> tuple[torch.Tensor, ...]:
        q, k = rows()
        pixels = q.detach().view(1, 3, 3, 20).permute(0, 3, 1, 2).requires_grad_()
        return gradients(fastclip.pixel_scores(pixels, k).values, pixels, k)

    about = f"{kind} {SHORT[dtype]}: gradient of"
    yield Other(f"{about} topk", of(lambda q, k: fastclip.topk(q, k, 5).values))
    yield Other(f"{about} group_max", of(lambda q, k: fastclip.group_max(q, k, groups).values))
    yield Other(f"{about} group_mean", of(lambda q, k: fastclip.group_mean(q, k, groups)))
    yield Other(f"{about} similarity", of(fastclip.similarity))
    yield Other(f"{about} pixel_scores", of_pixels)


def spikes(width: int) -> torch.Tensor:
    """Keys whose mean is zero and whose codes are all 127 or -127, whatever is rounded."""
    rows = torch.zeros(2 * width, width)
    rows[::2].fill_diagonal_(127)
    rows[1::2] = -rows[::2]
    return rows


def other_cases() -> list[Other]:
    """Questions whose answers are the same on every machine."""

    def of_sums(n: int, v: int, d: int) -> Iterator[Other]:
        """Sums of exponentials of zero, and logarithms of one."""

        def whole(count: int) -> torch.Tensor:
            return torch.from_numpy(Draw(n + v + d).integers(-8, 9, count, d)).float()

        values = torch.from_numpy(Draw(v).integers(-8, 9, v, 33)).float()
        about, work = f"whole {n}x{v}x{d}:", n * v * d
        for scale in (0.5, -4.0):
            yield Other(
                f"{about} logsumexp of one key, scale {scale:g}",
                lambda scale=scale: fastclip.logsumexp(whole(n), whole(1), scale),
                work,
            )
        yield Other(
            f"{about} cache_logits, beta 0",
            lambda: fastclip.cache_logits(whole(n), whole(v), values, 0.0),
            work,
        )
        yield Other(
            f"{about} gaussian_potential of equal rows",
            lambda: fastclip.gaussian_potential(whole(1).repeat(n + 1, 1), whole(1).repeat(v, 1)),
            work,
        )
        yield Other(
            f"{about} gaussian_potential of equal rows, itself",
            lambda: fastclip.gaussian_potential(whole(1).repeat(v + 1, 1)),
            work,
        )

    cases = [*pixel_cases(), *mask_cases()]
    for dtype in SHORT:
        cases += gradient_questions(dtype, "ties")
    for sizes in ((1, 5, 7), (3, 300, 65), (9, 700, 64)):
        cases += of_sums(*sizes)
    for width in (64, 100, 128, 256):
        cases.append(
            Other(
                f"spikes {width}: codes of pack",
                lambda width=width: fastclip.pack(spikes(width)).codes,
                host=True,
            )
        )
    for search in SEARCHES:
        cases.append(
            Other(
                f"{search.name}: center of pack",
                lambda search=search: fastclip.pack(search.make()[1]).center,
                host=True,
            )
        )
    return cases


# Hashes.


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


def same_in(
    places: dict[str, Place], question: Question, rows: tuple[torch.Tensor, torch.Tensor]
) -> tuple[str, list[str]]:
    """Return the hash of the answer in memory, and the places where another one is given."""
    with _quietly():
        found = digest(in_memory(question, *rows))
        return found, [p for p, ask in places.items() if digest(ask(question, *rows)) != found]


def search_hashes(search: Search, wrong: list[str], *, elsewhere: bool = False) -> Hashes:
    """Return the hashes of exact answers; to ``wrong`` is added what differs between places."""
    rows = search.make()
    coded = fastclip.pack(rows[1])
    hashes = {}
    for question in search_questions(search, *rows):
        name = f"{search.name}: {question.name}"
        places = places_here(search, question, coded)
        if elsewhere:
            places |= places_elsewhere(question)
        hashes[name], others = same_in(places, question, rows)
        wrong += [f"{name}, {place}" for place in others]
    return hashes


def exact_hashes(wrong: list[str]) -> Hashes:
    hashes: Hashes = {}
    with one_rank():
        for search in SEARCHES:
            hashes |= search_hashes(search, wrong, elsewhere=search.everywhere)
    for case in other_cases():
        hashes[case.name] = digest(case.ask())
    return hashes


def loose_hashes(search: Search, wrong: list[str], *, elsewhere: bool = False) -> Hashes:
    rows = search.make()
    coded = fastclip.pack(rows[1])
    hashes = {}
    for question in loose_questions(search, *rows):
        name = f"{search.name}: {question.name}"
        places = places_here(search, question, coded)
        if elsewhere:
            places |= places_elsewhere(question)
        hashes[name], others = same_in(places, question, rows)
        wrong += [f"{name}, {place}" for place in others]
        if elsewhere and question.op in SUMS and question.op != "gaussian_potential":
            hashes[f"{name}, on ranks"] = digest(on_ranks(question, *rows))
    hashes[f"{search.name}: pack"] = digest((coded.codes, coded.bounds, coded.center))
    return hashes


def local_hashes(wrong: list[str]) -> Hashes:
    """Return hashes that hold for this machine, compiler and version of torch."""
    hashes: Hashes = {}
    with one_rank():
        for search in SEARCHES:
            hashes |= loose_hashes(search, wrong, elsewhere=search.everywhere)
        x = sample_rows("coco-images", 50, 512)
        for t in (2.0, 2000.0):
            found = fastclip.distributed.gaussian_potential(x, t=t)
            hashes[f"sample 50x512: gaussian_potential, t {t:g}, on ranks"] = digest(found)
    for dtype in SHORT:
        for case in gradient_questions(dtype, "numbers"):
            hashes[case.name] = digest(case.ask())
    for name, ask in loose_gradients().items():
        hashes[name] = digest(ask())
    grid = grid_answer()
    if grid is not None:
        hashes["numbers: cache grid"] = digest(grid)
    return hashes


def loose_gradients() -> dict[str, Callable[[], Any]]:
    def of(function: Callable[..., torch.Tensor], *names: str) -> Callable[[], Any]:
        def ask() -> tuple[torch.Tensor, ...]:
            rows = [sample_rows(name, 60, 512).clone().requires_grad_() for name in names]
            return torch.autograd.grad(function(*rows).sum(), rows)

        return ask

    values = torch.from_numpy(Draw(3).integers(-9, 10, 60, 5)).float()
    both = ("coco-images", "coco-captions")
    return {
        "sample: gradient of logsumexp": of(lambda q, k: fastclip.logsumexp(q, k, 100.0), *both),
        "sample: gradient of logsumexp, in float64": of(
            lambda q, k: fastclip.logsumexp(q, k, 1000.0), *both
        ),
        "sample: gradient of cache_logits": of(
            lambda q, k: fastclip.cache_logits(q, k, values, 5.5), *both
        ),
        "sample: gradient of gaussian_potential": of(fastclip.gaussian_potential, both[0]),
        "sample: gradient of gaussian_potential of two": of(fastclip.gaussian_potential, *both),
    }


def grid_answer() -> torch.Tensor | None:
    """Return what the search of CODER-Adapter counts, wherever its private function is."""
    import fastclip.coder  # noqa: F401

    modules = [module for name, module in sys.modules.items() if name.startswith("fastclip.")]
    named = [getattr(module, "cache_grid", None) for module in modules]
    function = next(filter(inspect.isfunction, named), None)
    if function is None:
        return None
    draw = Draw(5)
    affinities, zero_shot = (torch.from_numpy(draw.numbers(70, n)) for n in (90, 9))
    labels, of_support = (torch.from_numpy(draw.integers(0, 9, n)) for n in (70, 90))
    alphas = torch.arange(1, 30, dtype=torch.float64) / 8
    found: torch.Tensor = function(
        affinities, zero_shot, labels, of_support, (0.25, 0.125, 100), alphas
    )
    return found


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


def large_hashes(wrong: list[str]) -> Hashes:
    """Return exact and other answers to many questions, for this machine."""
    hashes: Hashes = {}
    for seed in range(400):
        search = random_search(seed)
        hashes |= search_hashes(search, wrong) | loose_hashes(search, wrong)
    return hashes


SETS: dict[str, Callable[[list[str]], Hashes]] = {
    "exact": exact_hashes,
    "local": local_hashes,
    "large": large_hashes,
}


@cache
def golden() -> Hashes:
    hashes: Hashes = json.loads(FILE.read_text())
    return hashes


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", nargs="?", const=FILE, type=Path, metavar="FILE")
    action.add_argument("--check", type=Path, metavar="FILE")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--local", action="store_const", const="local", dest="kind")
    kind.add_argument("--large", action="store_const", const="large", dest="kind")
    parser.add_argument(
        "--isa", action="append", choices=_C.available_isas(), help="default: every instruction set"
    )
    arguments = parser.parse_args()
    chosen = arguments.kind or "exact"
    if arguments.write == FILE and chosen != "exact":
        parser.error(f"--{chosen} --write: a file is needed")
    problems: list[str] = []
    found: dict[str, Hashes] = {}
    for isa in arguments.isa or _C.available_isas():
        _C.select_isa(isa)
        wrong: list[str] = []
        found[isa] = SETS[chosen](wrong)
        problems += [f"{isa}: {name}: other bits than in memory" for name in wrong]
        print(f"{isa}: {len(found[isa])} answers", file=sys.stderr)
    _C.select_isa("")
    if chosen == "exact":
        first = next(iter(found))
        for isa, hashes in found.items():
            problems += [
                f"{isa}: {name}: other bits than with {first}"
                for name in hashes
                if hashes[name] != found[first][name]
            ]
        found = {first: found[first]}
    if arguments.write is not None and not problems:
        content = found[first] if chosen == "exact" else found
        arguments.write.write_text(json.dumps(content, indent=0) + "\n")
    if arguments.check is not None:
        expected = json.loads(arguments.check.read_text())
        expected = {first: expected} if chosen == "exact" else expected
        for isa in [isa for isa in expected if isa in found]:
            problems += [
                f"{isa}: {name}: {'missing' if name not in found[isa] else 'other bits'}"
                for name, value in expected[isa].items()
                if found[isa].get(name) != value
            ]
            problems += [f"{isa}: {name}: new" for name in found[isa].keys() - expected[isa].keys()]
    print("\n".join(problems) or "no differences", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
