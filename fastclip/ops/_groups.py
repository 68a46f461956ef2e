"""Groups of keys as arguments."""

from __future__ import annotations

from typing import SupportsIndex

import torch

from fastclip.ops._arguments import Array, as_indices, as_integer, check_range, check_some_rows
from fastclip.ops._tensors import check_memory


def as_groups(
    groups: Array, keys: torch.Tensor, num_groups: SupportsIndex | None
) -> tuple[torch.Tensor, int]:
    """Return the group of each key as int64, and how many groups there are."""
    check_some_rows("keys", keys)
    ids = as_indices("groups", groups, keys.shape[0], keys.device)
    if num_groups is None:
        if not torch.compiler.is_compiling():
            check_memory("groups", ids)
        count = int(ids.max()) + 1
    else:
        count = as_integer("num_groups", num_groups)
    if not 1 <= count <= keys.shape[0]:
        raise ValueError(
            f"{'groups' if num_groups is None else 'num_groups'}: from 1 to {keys.shape[0]} "
            f"groups are possible, as many as keys, got {count}"
        )
    return ids, count


def check_groups(groups: torch.Tensor, num_groups: int) -> torch.Tensor:
    """Check that every group from 0 to ``num_groups`` - 1 has a key; return how many."""
    check_range("groups", groups, num_groups, "groups")
    counts = torch.bincount(groups, minlength=num_groups)
    if (counts == 0).any():
        raise ValueError(f"groups: group {int(counts.argmin())} has no key")
    return counts
