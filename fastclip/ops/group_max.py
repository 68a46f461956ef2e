"""The best key of each group."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import torch

from fastclip import _C
from fastclip.ops._arguments import (
    Array,
    as_keys,
    as_rows,
    check_finite,
    check_same_width,
    matrix,
    with_adjacent_elements,
)
from fastclip.ops._gather import picked_backward, save_picked
from fastclip.ops._groups import as_groups, check_groups
from fastclip.ops._library import library
from fastclip.ops.pack import PackedKeys


class GroupMax(NamedTuple):
    """The best key of each group, for each query."""

    values: torch.Tensor
    """[N, G] float32: exact scores."""
    indices: torch.Tensor
    """[N, G] int64: rows of ``keys``."""


def group_max(
    queries: Array,
    keys: Array | PackedKeys,
    groups: Array,
    *,
    num_groups: SupportsIndex | None = None,
) -> GroupMax:
    """Return the largest score of each query within each group of keys, and its key.

    ``(queries @ keys.T)`` followed by a ``scatter_reduce("amax")`` over groups, without the [N, V]
    matrix: the class score of prompts that compete. Scores and ties are those of
    :func:`fastclip.topk`: exact, and the lower index first. The answer is the same to the bit for
    any number of threads and instruction set. Differentiable in ``values``.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], or PackedKeys
        At least one.
    groups : integer tensor or array [V]
        The group of each key, in any order; every group from 0 to the largest needs a key.
    num_groups : int, optional
        G; needed inside torch.compile, where shapes cannot depend on the content of ``groups``.

    Returns
    -------
    GroupMax
        ``values`` [N, G] float32 and ``indices`` [N, G] int64. Beyond inputs and result, each
        thread uses about 16 bytes * 256 * d of workspace.

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape, is not on the CPU, or holds NaN or infinity, there are no
        keys, a group is out of range, or one has no key.

    Examples
    --------
    >>> import torch, fastclip
    >>> prompts = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> fastclip.group_max(torch.tensor([[0.6, 0.8]]), prompts, torch.tensor([0, 0, 1]))
    GroupMax(values=tensor([[1.0000, 0.8000]]), indices=tensor([[1, 2]]))
    """
    query_rows = as_rows("queries", queries)
    key_rows, screen = as_keys(keys)
    check_same_width(query_rows, key_rows)
    ids, count = as_groups(groups, key_rows, num_groups)
    return GroupMax(*torch.ops.fastclip.group_max(query_rows, key_rows, ids, count, not screen))


def _group_max(
    queries: torch.Tensor,
    keys: torch.Tensor,
    groups: torch.Tensor,
    num_groups: int,
    check_keys: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    check_finite("queries", queries)
    if check_keys:
        check_finite("keys", keys)
    check_groups(groups, num_groups)
    values, indices = _group_max_fake(queries, keys, groups, num_groups, check_keys)
    _C.group_max(
        matrix(queries),
        matrix(keys),
        groups.data_ptr(),
        num_groups,
        values.data_ptr(),
        indices.data_ptr(),
        torch.get_num_threads(),
    )
    return values, indices


def _group_max_fake(
    queries: torch.Tensor,
    keys: torch.Tensor,
    groups: torch.Tensor,
    num_groups: int,
    check_keys: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (queries.shape[0], num_groups)
    return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(
        shape, dtype=torch.int64
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    save_picked(ctx, inputs[0], inputs[1], output[1])


def _backward(
    ctx: Any, grad_values: torch.Tensor, _: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    return (*picked_backward(ctx, grad_values), None, None, None)


library.impl("group_max", _group_max, "CPU")
torch.library.register_fake("fastclip::group_max", _group_max_fake, lib=library)
torch.library.register_autograd(
    "fastclip::group_max", _backward, setup_context=_setup_context, lib=library
)
