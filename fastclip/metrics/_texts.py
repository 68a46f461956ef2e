"""Captions, hard positives and hard negatives of items, as features or as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastclip.engine.checks import as_indices, as_rows, check_range
from fastclip.engine.pair_scores import pair_scores
from fastclip.metrics._inputs import check_same_width, rows

_PAIRS = 8192  # of image and text at a time: bounds the copies of rows


@dataclass(frozen=True)
class Texts:
    """Texts of items: rows ``indices`` of ``table``, the text i belonging to item ``owner[i]``."""

    name: str
    table: torch.Tensor
    indices: torch.Tensor
    owner: torch.Tensor

    @property
    def count(self) -> int:
        return len(self.indices)

    def scores(self, other: str, queries: torch.Tensor, row_of_item: torch.Tensor) -> torch.Tensor:
        """Exact score of each text with the row of its item."""
        check_same_width(self.name, self.table, queries, other)
        parts = [
            pair_scores(self.table[indices], queries, row_of_item[owner].contiguous())
            for indices, owner in zip(
                self.indices.split(_PAIRS), self.owner.split(_PAIRS), strict=True
            )
        ]
        return torch.cat(parts)

    def extreme(
        self, other: str, queries: torch.Tensor, row_of_item: torch.Tensor, which: str
    ) -> torch.Tensor:
        """The lowest or highest score of each item."""
        scores = self.scores(other, queries, row_of_item)
        items = int(self.owner[-1]) + 1
        if items == len(scores):
            return scores
        result = scores.new_empty(items)
        return result.scatter_reduce(0, self.owner, scores, which, include_self=False)

    def sizes(self, items: int) -> np.ndarray[Any, Any]:
        """How many texts each item has."""
        return torch.bincount(self.owner.cpu(), minlength=items).numpy()


def as_texts(name: str, texts: Any, items: int | None, table: torch.Tensor | None) -> Texts:
    """Read an argument of texts; ``items`` is None for the captions, which tell how many."""
    if texts is None:
        if name != "hard_positives":
            raise TypeError(f"{name}: features or integers are needed, got None")
        nothing = torch.empty(0, dtype=torch.int64)
        return Texts(name, torch.empty(0, 0), nothing, nothing)
    sizes: list[int] | None = None
    if items is not None and isinstance(texts, Sequence) and not isinstance(texts, (str, bytes)):
        sizes = _sizes(name, texts)
        texts = _joined(name, texts, table is None)
    if table is None:
        table = rows(name, texts)
        indices = torch.arange(len(table), device=table.device)
    else:
        if isinstance(texts, (list, tuple)):
            texts = torch.tensor(texts)
        length = len(texts) if hasattr(texts, "__len__") else 0
        indices = as_indices(name, texts, length, table.device)
        check_range(name, indices, len(table), "rows of text_features")
    if len(indices) == 0:
        raise ValueError(f"{name}: at least one item is needed, got none")
    count = len(indices) if sizes is None else len(sizes)
    if items is not None and count != items:
        raise ValueError(f"{name}: one entry for each of {items} captions is needed, got {count}")
    owner = torch.arange(count)
    if sizes is not None:
        owner = owner.repeat_interleave(torch.tensor(sizes))
    return Texts(name, table, indices, owner.to(indices.device))


def _sizes(name: str, texts: Sequence[Any]) -> list[int]:
    sizes = [len(entry) if hasattr(entry, "__len__") else 1 for entry in texts]
    if 0 in sizes:
        raise ValueError(f"{name}: each item needs at least one, item {sizes.index(0)} has none")
    return sizes


def _joined(name: str, texts: Sequence[Any], features: bool) -> torch.Tensor:
    if features:
        found = [as_rows(f"{name}[{i}]", entry) for i, entry in enumerate(texts)]
        if len({row.shape[1] for row in found}) > 1:
            raise ValueError(f"{name}: all rows must be of one length")
        return torch.cat(found) if found else torch.empty(0, 1)
    parts = [torch.as_tensor(entry).reshape(-1) for entry in texts]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
