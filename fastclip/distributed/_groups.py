"""Groups of keys that are spread over ranks, as arguments."""

from __future__ import annotations

from typing import Any

import torch

from fastclip.engine.checks import Array, as_indices
from fastclip.ops._groups import check_count

from .keys import ShardedKeys


def as_groups(function: str, groups: Array, keys: ShardedKeys) -> tuple[torch.Tensor, int]:
    """Return the groups of this rank's keys, and how many there are on all ranks together."""
    ids = torch.empty(0)

    def describe() -> dict[str, Any]:
        nonlocal ids
        ids = as_indices("groups", groups, len(keys.local), keys.local.rows.device)
        if len(ids) and ids.min() < 0:
            raise ValueError(f"groups: must be 0 or more, got {int(ids.min())}")
        return {"function": function, "count": int(ids.max()) + 1 if len(ids) else 0}

    count = max(keys.ranks.agree(describe, own="count"))
    check_count("groups", count, len(keys))
    found = keys.ranks.share(torch.bincount(ids, minlength=count))
    sizes = torch.stack([counts for (counts,) in found]).sum(0)
    if (sizes == 0).any():
        raise ValueError(f"groups: group {int(sizes.argmin())} has no key on any rank")
    return ids, count
