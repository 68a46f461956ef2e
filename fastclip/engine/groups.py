"""Groups of keys as arguments."""

from typing import SupportsIndex

import torch

from fastclip.engine.checks import (
    Array,
    as_in_range,
    as_indices,
    as_integer,
    check_none,
    check_some_rows,
)
from fastclip.engine.devices import on_cuda
from fastclip.engine.transforms import transformed


def as_groups(
    groups: Array, keys: torch.Tensor, num_groups: SupportsIndex | None
) -> tuple[torch.Tensor, int]:
    """Return the group of each key as int64, and how many groups there are."""
    check_some_rows("keys", keys)
    ids = as_indices("groups", groups, keys.shape[0], keys.device)
    count = _largest(ids) + 1 if num_groups is None else as_integer("num_groups", num_groups)
    check_count("groups" if num_groups is None else "num_groups", count, keys.shape[0])
    return ids, count


def _largest(groups: torch.Tensor) -> int:
    try:
        return int(groups.max())
    except RuntimeError as error:
        if not transformed():
            raise
        raise TypeError("num_groups: must be given where groups are transformed") from error


def check_count(name: str, count: int, keys: int) -> None:
    """Check that ``count`` groups can have a key each; ``name`` is the argument that says so."""
    if not 1 <= count <= keys:
        raise ValueError(
            f"{name}: from 1 to {keys} groups are possible, as many as keys, got {count}"
        )


def check_groups(groups: torch.Tensor, num_groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Check that every group from 0 to ``num_groups`` - 1 has a key.

    Returns the groups, those that are out of range replaced as by :func:`as_in_range`, and how many
    keys each has.
    """
    groups = as_in_range("groups", groups, num_groups, "groups")
    if on_cuda(groups):  # where the host would wait for bincount
        sizes = groups.new_zeros(num_groups).index_add_(0, groups, torch.ones_like(groups))
    else:
        sizes = torch.bincount(groups, minlength=num_groups)
    check_sizes(sizes)
    return groups, sizes


def check_sizes(sizes: torch.Tensor, where: str = "") -> None:
    """Check that no group is empty. CUDA graphs are captured unchecked."""
    check_none(sizes == 0, lambda at: ValueError(f"groups: group {at} has no key{where}"))
