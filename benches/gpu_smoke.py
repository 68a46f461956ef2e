"""One question in one process, small and quick: python benches/gpu_smoke.py topk-512

The answer of the device against that of the CPU, on numbers drawn anew. A process each, so that a
kernel that hangs, or reads where it must not, costs one question. `profile` and `ceiling` measure:
where the time of a large call goes, and what the libraries reach here.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import fastclip
from fastclip.benchmark.clock import captured, copy_bandwidth, times


@dataclass(frozen=True)
class Place:
    device: torch.device
    shrink: int

    def rows(self, count: int, width: int) -> torch.Tensor:
        """Random rows of length 1, on the CPU."""
        count = max(1, count // self.shrink)
        return torch.nn.functional.normalize(torch.randn(count, width))

    def both(self, call: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
        """The answers of the device and of the CPU."""
        moved = [x.to(self.device) if hasattr(x, "to") else x for x in arguments]
        return call(*moved), call(*arguments)

    def same(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Check that both have the same bits."""
        for found, expected in zip(*map(parts, self.both(call, *arguments)), strict=True):
            found = found.cpu()
            wrong = (found != expected).sum() if found.shape == expected.shape else found.shape
            assert torch.equal(found, expected), f"{wrong} of {tuple(expected.shape)} are wrong"

    def close(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Check sums, which are not the same to the bit."""
        for found, expected in zip(*map(parts, self.both(call, *arguments)), strict=True):
            torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-4)


def parts(answer: Any) -> list[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        if answer.layout == torch.sparse_csr:
            return [answer.crow_indices(), answer.col_indices(), answer.values()]
        return [answer]
    return [part for part in answer if part is not None]


def topk(width: int) -> Callable[[Place], None]:
    # 3 tiles of queries and 79 of keys: every ring of stages goes round. On Hopper tiles have 256
    # keys of up to 768 codes, 192 of up to 1,024, 128 of up to 1,536; wider rows do not stay in
    # shared memory.
    def ask(at: Place) -> None:
        queries, keys = at.rows(300, width), at.rows(20_000, width)
        for k in (1, 10, 100):
            at.same(lambda q, r, k=k: fastclip.topk(q, fastclip.pack(r), k), queries, keys)
        at.same(lambda q, r: fastclip.topk(q, r, 10), queries[:1], keys)

    return ask


def rank(at: Place) -> None:
    queries, keys = at.rows(300, 512), at.rows(20_000, 512)
    targets = torch.randint(len(keys), (len(queries),))
    at.same(lambda q, r, t: fastclip.rank(q, fastclip.pack(r), t), queries, keys, targets)


def count_above(at: Place) -> None:
    queries, keys = at.rows(300, 512), at.rows(20_000, 512)
    thresholds = torch.rand(len(queries)) / 5
    for per in ("query", "key"):
        at.same(
            lambda q, r, t, per=per: fastclip.count_above(q, fastclip.pack(r), t, per=per),
            *(queries, keys, thresholds),
        )


def groups(at: Place) -> None:
    queries, keys = at.rows(300, 512), at.rows(20_000, 512)
    ids, targets = torch.arange(len(keys)) // 8, torch.randint(len(keys), (len(queries),))
    for of_key in (ids, ids[torch.randperm(len(ids))]):
        at.same(lambda q, r, g: fastclip.group_max(q, fastclip.pack(r), g), queries, keys, of_key)
        at.same(
            lambda q, r, g, t: fastclip.group_beats(q, fastclip.pack(r), g, t),
            *(queries, keys, of_key, targets),
        )


def pairs_above(at: Place) -> None:
    queries, keys = at.rows(300, 512), at.rows(20_000, 512)
    at.same(lambda q, r: fastclip.pairs_above(q, fastclip.pack(r), 0.15), queries, keys)
    at.same(lambda r: fastclip.pairs_above(r, r, 0.15), keys[:3000])


def similarity(at: Place) -> None:
    queries, keys = at.rows(300, 512), at.rows(20_000, 512)
    for dtype in (torch.float32, torch.bfloat16):
        at.same(fastclip.similarity, queries.to(dtype), keys.to(dtype))
    at.close(fastclip.group_mean, queries, keys, torch.arange(len(keys)) // 8)


def pixels(at: Place) -> None:
    images = torch.nn.functional.normalize(torch.randn(2, 512, 14, 14), dim=1)
    tags = at.rows(1203, 512)
    for k in (1, 3):
        at.same(lambda p, t, k=k: fastclip.pixel_labels(p, t, (56, 60), k)[:2], images, tags)
    at.same(fastclip.pixel_scores, images, tags)


def sums(at: Place) -> None:
    queries, keys = at.rows(300, 512), at.rows(20_000, 512)
    at.close(lambda q, r: fastclip.logsumexp(q, r, 100.0), queries, keys)
    at.close(lambda q, r, v: fastclip.cache_logits(q, r, v, 5.0), queries, keys, keys[:, :7])
    at.close(fastclip.gaussian_potential, queries, keys)
    at.close(lambda q, r: fastclip.softmax_topk(q, r, 5, 100.0), queries, keys)


def masks(at: Place) -> None:
    at.close(fastclip.refine_masks, torch.rand(2, 3, 40, 50), torch.rand(2, 5, 40, 50))


def graph(at: Place) -> None:
    """A captured CUDA graph, replayed on other queries than it was captured with."""
    queries, keys = at.rows(300, 512), at.rows(20_000, 512)
    if at.device.type != "cuda":
        print("a CUDA graph needs a GPU")
        return
    packed, given = fastclip.pack(keys.to(at.device)), at.rows(300, 512).to(at.device)
    replay, found = captured(lambda: fastclip.topk(given, packed, 10))
    given.copy_(queries)
    replay.replay()
    expected = fastclip.topk(queries, keys, 10)
    assert torch.equal(found.indices.cpu(), expected.indices)
    assert torch.equal(found.values.cpu(), expected.values)


def profile(at: Place) -> None:
    from torch.profiler import ProfilerActivity

    count, keys_count = 16_384 // at.shrink, 1_000_000 // at.shrink
    queries, rows = (
        torch.nn.functional.normalize(torch.randn(n, 512, device=at.device))
        for n in (count, keys_count)
    )
    keys = fastclip.pack(rows, copy=False)
    seconds = min(times(lambda: fastclip.topk(queries, keys, 10), at.device, 3))
    rate = 2 * count * keys_count * 512 / seconds / 1e12
    cuda = at.device.type == "cuda"
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profiler:
        fastclip.topk(queries, keys, 10)
        fastclip.topk(queries, rows, 10)
    print("a call with packed keys and one without:")
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    print(profiler.key_averages().table(order, row_limit=20, max_name_column_width=70))
    size = f"{count:,} x {keys_count:,} x 512"
    print(f"top-10, {size}: {seconds * 1e3:.2f} ms, {rate:.1f} TOP/s")


def ceiling(at: Place) -> None:
    n = max(64, 8192 // at.shrink)
    a, b = (torch.randint(-127, 128, (n, n), dtype=torch.int8, device=at.device) for _ in range(2))
    c, d = (torch.randn(n, n, device=at.device, dtype=torch.bfloat16) for _ in range(2))
    for name, call in {
        "int8 (cublasLt)": lambda: torch._int_mm(a, b.t()),
        "bf16": lambda: c @ d.t(),
    }.items():
        rate = 2 * n**3 / min(times(call, at.device, 5))
        print(f"torch's product of {n:,} x {n:,}, {name}: {rate / 1e12:.1f} TOP/s")
    print(f"a copy: {copy_bandwidth(at.device, at.shrink) / 1e9:.0f} GB/s")


QUESTIONS: dict[str, Callable[[Place], None]] = {
    **{f"topk-{width}": topk(width) for width in (64, 512, 768, 1024, 1536, 1600)},
    "rank": rank,
    "count_above": count_above,
    "groups": groups,
    "pairs_above": pairs_above,
    "similarity": similarity,
    "pixels": pixels,
    "sums": sums,
    "masks": masks,
    "graph": graph,
    "profile": profile,
    "ceiling": ceiling,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("question", choices=QUESTIONS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shrink", type=int, default=1, help="divides numbers of rows")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    torch.manual_seed(arguments.seed)
    begin = time.perf_counter()
    QUESTIONS[arguments.question](Place(torch.device(arguments.device), arguments.shrink))
    print(f"{arguments.question}: as expected, {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
