"""Groups of ranks, and problems of which each rank has a part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from inputs import Problem, hard_cases
from torch import distributed as dist

import fastclip
from fastclip.distributed import ShardedKeys


class Group:
    """A process group of some first ranks, and how rows are spread over these."""

    def __init__(self, size: int) -> None:
        self.group = dist.new_group(list(range(size)))
        self.rank, self.size = dist.get_rank(), size

    def spreads(self, count: int) -> list[list[int]]:
        """Ways to cut rows: as even as can be, uneven, all on one rank."""
        even = [count * i // self.size for i in range(self.size + 1)]
        uneven = [0, count // 5, *[count // 3] * (self.size - 2), count]  # an empty one, of three
        first, last = [0, *[count] * self.size], [*[0] * self.size, count]
        return [even, uneven, first, last]

    def potential(
        self, x: torch.Tensor, y: torch.Tensor | None = None, t: float = 2.0
    ) -> torch.Tensor:
        """The potential of rows of which each rank has some."""
        others = None if y is None else ShardedKeys(y, self.group)
        return fastclip.gaussian_potential(ShardedKeys(x, self.group), others, t)

    def own(self, rows: Any, cuts: Sequence[int]) -> Any:
        return rows[cuts[self.rank] : cuts[self.rank + 1]]


def problems() -> list[Problem]:
    rng = np.random.default_rng(0)
    made = [*hard_cases().values()]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        shape = rng.integers(1, 40), rng.integers(3, 200)
        queries, keys = (
            torch.from_numpy(rng.integers(-2, 3, (n, 33)).astype(np.float32)).to(dtype)
            for n in shape
        )
        made.append(Problem(queries, keys))  # many ties
    images, captions = (
        fastclip.data.load_sample(f"coco-{kind}").features[:80] for kind in ("images", "captions")
    )
    return [*made, Problem(images, captions)]


def spread_problems(group: Group) -> Iterator[tuple[Any, ...]]:
    """Each problem with the parts of this rank, spread in ways that differ from one to the next."""
    for number, problem in enumerate(problems()):
        query_cuts = group.spreads(len(problem.queries))[number % 4]
        key_cuts = group.spreads(len(problem.keys))[number // 2 % 4]
        queries = group.own(problem.queries, query_cuts)
        local = group.own(problem.keys, key_cuts)
        keys = ShardedKeys(fastclip.pack(local) if number % 2 else local, group.group)
        assert (keys.begin, len(keys)) == (key_cuts[group.rank], len(problem.keys))
        yield problem, queries, keys, query_cuts, key_cuts
