"""What is measured on a GPU: each case beside its peers in torch and its two floors.

The floors are times that no program can beat: its operations at the rate of the int8 matrix units,
and its bytes at the bandwidth that a copy reaches on this device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

import fastclip
from fastclip.benchmark.clock import captured
from fastclip.benchmark.questions import with_tf32

CHUNK_BYTES = 2**33  # of scores that a peer makes at a time
FEW = 64  # rows, which are not made fewer
CHECKED = 16  # queries whose answers are compared with those of the CPU


@dataclass(frozen=True)
class GpuCase:
    name: str
    ours: dict[str, Callable[[], Any]]
    peers: dict[str, Callable[[], Any]]
    check: Callable[[Any], None]
    """Takes the answer of each of ``ours``; raises AssertionError if it is wrong."""
    operations: float
    bytes: float


class Data:
    """Random rows of length 1 and what is made of them, once for all cases."""

    def __init__(self, device: torch.device, shrink: int) -> None:
        self.device, self.shrink = device, shrink
        self._made: dict[tuple[Any, ...], Any] = {}

    def _once(self, make: Callable[[], Any], *key: Any) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def rows(self, what: str, count: int, width: int) -> torch.Tensor:
        """Return ``queries`` or ``keys``; those of one width are the same in all cases."""

        def make() -> torch.Tensor:
            count = max(FEW, most // self.shrink)
            x = torch.randn(count, width, device=self.device)
            return torch.nn.functional.normalize(x)

        most = {"queries": 50_000, "keys": 1_000_000 if width > 128 else 100_000}[what]
        return self._once(make, what, width)[: max(min(count, FEW), count // self.shrink)]

    def short(self, what: str, count: int, width: int) -> torch.Tensor:
        """Return the same in bfloat16."""
        rows = self.rows(what, count, width)
        return self._once(lambda: rows.bfloat16(), "short", what, len(rows), width)

    def packed(self, count: int, width: int) -> fastclip.PackedKeys:
        keys = self.rows("keys", count, width)
        return self._once(lambda: fastclip.pack(keys, copy=False), "packed", len(keys), width)

    def on_cpu(self, keys: torch.Tensor) -> torch.Tensor:
        return self._once(keys.cpu, "on CPU", *keys.shape)

    def some(self, queries: torch.Tensor) -> torch.Tensor:
        """Return the places of the queries that are checked."""
        return torch.randint(len(queries), (min(len(queries), CHECKED),), device=self.device)


def in_chunks(
    queries: torch.Tensor, keys: torch.Tensor, use: Callable[[torch.Tensor], Any]
) -> list[Any]:
    """Give the scores of some queries at a time to ``use``."""
    return [use(part @ keys.T) for part in queries.split(chunk_rows(queries, keys))]


def chunk_rows(queries: torch.Tensor, keys: torch.Tensor) -> int:
    """Return how many queries have CHUNK_BYTES of scores: a power of two, whole tiles of mm."""
    return 1 << max(0, (CHUNK_BYTES // (len(keys) * queries.element_size())).bit_length() - 1)


def topk_case(
    data: Data, count: int, keys_count: int, width: int, k: int, packed: bool = True
) -> GpuCase:
    queries, rows = data.rows("queries", count, width), data.rows("keys", keys_count, width)
    keys = data.packed(keys_count, width) if packed else rows
    short = data.short("queries", count, width), data.short("keys", keys_count, width)

    def ask() -> fastclip.TopK:
        return fastclip.topk(queries, keys, k)

    def check(answer: fastclip.TopK) -> None:
        some = data.some(queries)
        expected = fastclip.topk(queries[some].cpu(), data.on_cpu(rows), k)
        assert torch.equal(answer.indices[some].cpu(), expected.indices)
        assert torch.equal(answer.values[some].cpu(), expected.values)

    def best(scores: torch.Tensor) -> torch.Tensor:
        return scores.topk(k).indices

    ours = {"fastclip": ask}
    if len(queries) <= FEW and data.device.type == "cuda":
        graph = cache(lambda: captured(ask))

        def replay() -> fastclip.TopK:
            graph()[0].replay()
            return graph()[1]

        ours["fastclip, captured graph"] = replay
    n, v = len(queries), len(rows)
    return GpuCase(
        f"top-{k}, {n:,} x {v:,} x {width}{'' if packed else ', keys not packed'}",
        ours,
        {
            "torch bf16 mm, nothing kept": lambda: in_chunks(*short, lambda scores: None),
            "torch bf16 mm + topk": lambda: in_chunks(*short, best),
            "torch tf32 mm + topk": with_tf32(lambda: in_chunks(queries, rows, best)),
        },
        check,
        2.0 * n * v * width,
        v * (width + 12) + 4.0 * n * width + 12.0 * n * k,
    )


def rank_case(data: Data, count: int, keys_count: int, width: int) -> GpuCase:
    queries, rows = data.rows("queries", count, width), data.rows("keys", keys_count, width)
    keys = data.packed(keys_count, width)
    targets = fastclip.topk(queries, keys, 10).indices[:, 9].contiguous()
    scores_of_targets = (queries * rows[targets]).sum(1)

    def check(ranks: torch.Tensor) -> None:
        assert (ranks == 9).all()

    n, v = len(queries), len(rows)
    return GpuCase(
        f"rank, {n:,} x {v:,} x {width}",
        {"fastclip": lambda: fastclip.rank(queries, keys, targets)},
        {"torch tf32 mm + compare + sum": count_by_torch(queries, rows, scores_of_targets)},
        check,
        2.0 * n * v * width,
        v * (width + 12) + 4.0 * n * width,
    )


def count_by_torch(
    queries: torch.Tensor, keys: torch.Tensor, thresholds: torch.Tensor
) -> Callable[[], Any]:
    def count() -> list[torch.Tensor]:
        parts = iter(thresholds.split(chunk_rows(queries, keys)))
        return in_chunks(queries, keys, lambda scores: (scores > next(parts)[:, None]).sum(1))

    return with_tf32(count)


def count_above_case(data: Data, count: int, keys_count: int, width: int) -> GpuCase:
    queries, rows = data.rows("queries", count, width), data.rows("keys", keys_count, width)
    keys = data.packed(keys_count, width)
    thresholds = fastclip.topk(queries, keys, 10).values[:, 9].contiguous()

    def check(counts: torch.Tensor) -> None:
        some = data.some(queries)
        asked = queries[some].cpu(), data.on_cpu(rows), thresholds[some].cpu()
        assert torch.equal(counts[some].cpu(), fastclip.count_above(*asked, per="query"))

    n, v = len(queries), len(rows)
    return GpuCase(
        f"count_above per query, {n:,} x {v:,} x {width}",
        {"fastclip": lambda: fastclip.count_above(queries, keys, thresholds, per="query")},
        {"torch tf32 mm + compare + sum": count_by_torch(queries, rows, thresholds)},
        check,
        2.0 * n * v * width,
        v * (width + 12) + 4.0 * n * width,
    )


def group_max_case(data: Data, count: int, keys_count: int, width: int) -> GpuCase:
    size = 8  # prompts of each class
    queries, rows = data.rows("queries", count, width), data.rows("keys", keys_count, width)
    rows = rows[: len(rows) // size * size]
    keys = fastclip.pack(rows, copy=False)
    of_key = torch.arange(len(rows), device=data.device) // size

    def check(answer: fastclip.GroupMax) -> None:
        some = data.some(queries)
        expected = fastclip.group_max(queries[some].cpu(), rows.cpu(), of_key.cpu())
        assert torch.equal(answer.indices[some].cpu(), expected.indices)
        assert torch.equal(answer.values[some].cpu(), expected.values)

    def best(scores: torch.Tensor) -> torch.Tensor:
        return scores.view(len(scores), -1, size).amax(2)

    n, v = len(queries), len(rows)
    return GpuCase(
        f"group_max, {n:,} x {v:,} x {width} in {v // size:,} groups",
        {"fastclip": lambda: fastclip.group_max(queries, keys, of_key)},
        {"torch tf32 mm + amax": with_tf32(lambda: in_chunks(queries, rows, best))},
        check,
        2.0 * n * v * width,
        v * (width + 12) + 12.0 * n * v / size,
    )


def logsumexp_case(data: Data, count: int, keys_count: int, width: int) -> GpuCase:
    queries, rows = data.rows("queries", count, width), data.rows("keys", keys_count, width)

    def check(answer: torch.Tensor) -> None:
        some = data.some(queries)
        exact = (100 * queries[some].double() @ rows.double().T).logsumexp(1)
        torch.testing.assert_close(answer[some].double(), exact, rtol=1e-6, atol=1e-5)

    def total(scores: torch.Tensor) -> torch.Tensor:
        return (100 * scores).logsumexp(1)

    n, v = len(queries), len(rows)
    return GpuCase(
        f"logsumexp at scale 100, {n:,} x {v:,} x {width}",
        {"fastclip": lambda: fastclip.logsumexp(queries, rows, 100.0)},
        {
            "torch fp32 mm + logsumexp": lambda: in_chunks(queries, rows, total),
            "torch tf32 mm + logsumexp": with_tf32(lambda: in_chunks(queries, rows, total)),
        },
        check,
        2.0 * n * v * width,
        4.0 * (n + v) * width,
    )


def pixel_labels_case(data: Data, images: int, side: int, tags: int) -> GpuCase:
    width, h = 512, 32
    shape = max(1, images // data.shrink), width, h, h
    pixels = torch.nn.functional.normalize(torch.randn(shape, device=data.device), dim=1)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    names = data.rows("keys", tags, width)
    side //= min(data.shrink, 8)

    def peer() -> list[torch.Tensor]:
        return [
            torch.nn.functional.interpolate(
                torch.einsum("bdhw,td->bthw", image[None], names), (side, side), mode="bilinear"
            ).max(1)[1]
            for image in pixels
        ]

    def check(answer: fastclip.PixelLabels) -> None:
        expected = fastclip.pixel_labels(pixels[:1].cpu(), names.cpu(), (side, side), 1)
        assert torch.equal(answer.indices[:1].cpu(), expected.indices)
        assert torch.equal(answer.values[:1].cpu(), expected.values)

    n = len(pixels)
    return GpuCase(
        f"pixel_labels, {n} images {h} x {h} to {side} x {side}, {len(names):,} tags",
        {"fastclip": lambda: fastclip.pixel_labels(pixels, names, (side, side), 1)},
        {"torch tf32 einsum + interpolate + max": with_tf32(peer)},
        check,
        2.0 * n * h * h * len(names) * width,
        4.0 * width * (n * h * h + len(names)) + 12.0 * n * side * side,
    )


def cases(data: Data) -> dict[str, Callable[[], GpuCase]]:
    """Return what builds each case, the most telling ones first."""
    million = 1_000_000
    return {
        "topk": lambda: topk_case(data, 50_000, million, 512, 10),
        "top10-128": lambda: topk_case(data, 16_384, 100_000, 128, 10),
        "topk-1-query": lambda: topk_case(data, 1, million, 512, 10),
        "topk-64-queries": lambda: topk_case(data, 64, million, 512, 10),
        "rank": lambda: rank_case(data, 50_000, million, 512),
        "group_max": lambda: group_max_case(data, 50_000, 100_000, 512),
        "logsumexp": lambda: logsumexp_case(data, 16_384, million, 512),
        "pixel_labels": lambda: pixel_labels_case(data, 32, 512, 1203),
        "top1-128": lambda: topk_case(data, 16_384, 100_000, 128, 1),
        "top32-128": lambda: topk_case(data, 16_384, 100_000, 128, 32),
        "topk-1024": lambda: topk_case(data, 16_384, million, 1024, 10),
        "topk-1280": lambda: topk_case(data, 16_384, million, 1280, 10),
        "count_above": lambda: count_above_case(data, 50_000, million, 512),
        "topk-16-queries": lambda: topk_case(data, 16, million, 512, 10),
        "topk-not-packed": lambda: topk_case(data, 50_000, million, 512, 10, packed=False),
    }
