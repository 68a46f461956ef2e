"""What is measured on a GPU: each case beside its peers in torch and its two floors.

The floors are times that no program can beat: its operations at the rate of the int8 (or, where
said, other) matrix units, and its bytes at the bandwidth that a copy reaches on this device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import fastclip


@dataclass(frozen=True)
class GpuCase:
    name: str
    ours: Callable[[], Any]
    peers: dict[str, Callable[[], Any]]
    check: Callable[[Any], None]
    """Takes the answer of ``ours``; raises AssertionError if it is wrong."""
    operations: float
    bytes: float


def unit_rows(count: int, width: int, device: torch.device) -> torch.Tensor:
    """Fresh random rows of length 1."""
    return torch.nn.functional.normalize(torch.randn(count, width, device=device))


def in_chunks(
    queries: torch.Tensor, keys: torch.Tensor, use: Callable[[torch.Tensor], Any]
) -> list[Any]:
    """Give the scores of some queries at a time, about 2 GiB of them, to ``use``."""
    rows = max(1, 2**31 // (len(keys) * queries.element_size()))
    return [use(part @ keys.T) for part in queries.split(rows)]


def with_tf32(call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return call()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return run


def exact_topk(queries: torch.Tensor, keys: torch.Tensor, k: int) -> fastclip.TopK:
    """Answer some queries on the CPU."""
    return fastclip.topk(queries.cpu(), fastclip.pack(keys.cpu()), k)


def topk_case(
    count: int, keys_count: int, width: int, k: int, device: torch.device, packed: bool = True
) -> GpuCase:
    queries, rows = unit_rows(count, width, device), unit_rows(keys_count, width, device)
    keys = fastclip.pack(rows, copy=False) if packed else rows
    short_queries, short_rows = queries.bfloat16(), rows.bfloat16()

    def check(answer: fastclip.TopK) -> None:
        some = torch.randint(count, (min(count, 64),), device=device)
        expected = exact_topk(queries[some], rows, k)
        assert torch.equal(answer.indices[some].cpu(), expected.indices)
        assert torch.equal(answer.values[some].cpu(), expected.values)

    def best(scores: torch.Tensor) -> torch.Tensor:
        return scores.topk(k).indices

    return GpuCase(
        f"top-{k}, {count:,} x {keys_count:,} x {width}{'' if packed else ', keys not packed'}",
        lambda: fastclip.topk(queries, keys, k),
        {
            "torch bf16 mm, nothing kept": lambda: in_chunks(
                short_queries, short_rows, lambda scores: None
            ),
            "torch bf16 mm + topk": lambda: in_chunks(short_queries, short_rows, best),
            "torch tf32 mm + topk": with_tf32(lambda: in_chunks(queries, rows, best)),
        },
        check,
        2.0 * count * keys_count * width,
        keys_count * (width + 12) + 4.0 * count * width + 12.0 * count * k,
    )


def rank_case(count: int, keys_count: int, width: int, device: torch.device) -> GpuCase:
    queries, rows = unit_rows(count, width, device), unit_rows(keys_count, width, device)
    keys = fastclip.pack(rows, copy=False)
    targets = fastclip.topk(queries, keys, 10).indices[:, 9].contiguous()
    threshold = (queries * rows[targets]).sum(1)

    def peer() -> list[torch.Tensor]:
        parts = iter(threshold.split(max(1, 2**31 // (len(rows) * 4))))
        return in_chunks(queries, rows, lambda scores: (scores > next(parts)[:, None]).sum(1))

    def check(ranks: torch.Tensor) -> None:
        assert (ranks == 9).all()

    return GpuCase(
        f"rank, {count:,} x {keys_count:,} x {width}",
        lambda: fastclip.rank(queries, keys, targets),
        {"torch tf32 mm + compare + sum": with_tf32(peer)},
        check,
        2.0 * count * keys_count * width,
        keys_count * (width + 12) + 4.0 * count * width,
    )


def group_max_case(count: int, groups: int, width: int, device: torch.device) -> GpuCase:
    size = 8  # prompts of each class
    queries, rows = unit_rows(count, width, device), unit_rows(groups * size, width, device)
    keys = fastclip.pack(rows, copy=False)
    of_key = torch.arange(groups * size, device=device) // size

    def check(answer: fastclip.GroupMax) -> None:
        some = torch.randint(count, (min(count, 16),), device=device)
        expected = fastclip.group_max(queries[some].cpu(), rows.cpu(), of_key.cpu())
        assert torch.equal(answer.indices[some].cpu(), expected.indices)

    return GpuCase(
        f"group_max, {count:,} x {groups * size:,} x {width} in {groups:,} groups",
        lambda: fastclip.group_max(queries, keys, of_key),
        {
            "torch tf32 mm + amax": with_tf32(
                lambda: in_chunks(queries, rows, lambda s: s.view(len(s), groups, size).amax(2))
            )
        },
        check,
        2.0 * count * groups * size * width,
        groups * size * (width + 12) + 12.0 * count * groups,
    )


def logsumexp_case(count: int, keys_count: int, width: int, device: torch.device) -> GpuCase:
    queries, rows = unit_rows(count, width, device), unit_rows(keys_count, width, device)

    def check(answer: torch.Tensor) -> None:
        some = torch.randint(count, (min(count, 16),), device=device)
        exact = (100 * queries[some].double() @ rows.double().T).logsumexp(1)
        torch.testing.assert_close(answer[some].double(), exact, rtol=1e-6, atol=1e-5)

    return GpuCase(
        f"logsumexp at scale 100, {count:,} x {keys_count:,} x {width}",
        lambda: fastclip.logsumexp(queries, rows, 100.0),
        {
            "torch fp32 mm + logsumexp": lambda: in_chunks(
                queries, rows, lambda scores: (100 * scores).logsumexp(1)
            ),
            "torch tf32 mm + logsumexp": with_tf32(
                lambda: in_chunks(queries, rows, lambda scores: (100 * scores).logsumexp(1))
            ),
        },
        check,
        2.0 * count * keys_count * width,
        4.0 * (count + keys_count) * width,
    )


def pixel_labels_case(images: int, side: int, tags: int, device: torch.device) -> GpuCase:
    width, h = 512, 32
    pixels = torch.nn.functional.normalize(torch.randn(images, width, h, h, device=device), dim=1)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    names = unit_rows(tags, width, device)

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

    return GpuCase(
        f"pixel_labels, {images} images {h} x {h} to {side} x {side}, {tags:,} tags",
        lambda: fastclip.pixel_labels(pixels, names, (side, side), 1),
        {"torch einsum + interpolate + max": with_tf32(peer)},
        check,
        2.0 * images * h * h * tags * width,
        4.0 * width * (images * h * h + tags) + 12.0 * images * side * side,
    )


def cases(device: torch.device, shrink: int) -> dict[str, Callable[[], GpuCase]]:
    """Return what builds each case; ``shrink`` divides numbers of rows, to try the script."""
    s = shrink
    return {
        "topk": lambda: topk_case(50_000 // s, 1_000_000 // s, 512, 10, device),
        "topk-not-packed": lambda: topk_case(50_000 // s, 1_000_000 // s, 512, 10, device, False),
        "top1-128": lambda: topk_case(16_384 // s, 100_000 // s, 128, 1, device),
        "top10-128": lambda: topk_case(16_384 // s, 100_000 // s, 128, 10, device),
        "top32-128": lambda: topk_case(16_384 // s, 100_000 // s, 128, 32, device),
        "topk-1-query": lambda: topk_case(1, 1_000_000 // s, 512, 10, device),
        "topk-64-queries": lambda: topk_case(64, 1_000_000 // s, 512, 10, device),
        "rank": lambda: rank_case(50_000 // s, 1_000_000 // s, 512, device),
        "group_max": lambda: group_max_case(50_000 // s, 12_500 // s, 512, device),
        "logsumexp": lambda: logsumexp_case(16_384 // s, 1_000_000 // s, 512, device),
        "pixel_labels": lambda: pixel_labels_case(32, 512 // min(s, 8), 1203 // s, device),
    }
