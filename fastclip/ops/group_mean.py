"""The mean score of each group of keys."""

from typing import Any, SupportsIndex, cast

import torch

from fastclip import _C
from fastclip.engine.answer import Keys, Queries, answer, elsewhere
from fastclip.engine.arguments import GroupColumn, Groups
from fastclip.engine.checks import Array, OneWait, check_finite, with_adjacent_elements
from fastclip.engine.devices import on_cuda
from fastclip.engine.floats import rounded
from fastclip.engine.groups import as_groups, check_groups
from fastclip.engine.kernels import run
from fastclip.engine.operation import Operation, Part, State, register
from fastclip.engine.packed import as_sides, finite_rows
from fastclip.engine.transforms import Gradient, call, define
from fastclip.ops.similarity import similarity


def group_mean(
    queries: Queries,
    keys: Keys,
    groups: Array,
    *,
    num_groups: SupportsIndex | None = None,
) -> torch.Tensor:
    r"""Return the mean score of each query with the keys of each group.

    .. math:: \mathrm{out}_{ig} = \frac{1}{|\{j : g_j = g\}|} \sum_{j : g_j = g} q_i \cdot k_j

    A mean of inner products is the product with the mean: keys are averaged in float64, the means
    rounded to float32, and the result is their :func:`fastclip.similarity`. It differs from the
    mean score by at most ``2**-23 * mean_j sum_i abs(q_i * k_j_i)`` (plus ``2**-149 * sum_i
    abs(q_i)``, which counts where keys are denormal) and is the same to the bit for
    any number of threads and instruction set; on CUDA devices, too, it is always the same, but the
    order of the additions is another. Differentiable in ``queries`` and unpacked ``keys``.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16; also Rows if ``keys`` are
        No queries (N = 0) give an empty result.
    keys : tensor or array [V, d], PackedKeys, fastclip.data.Rows, or ShardedKeys
        At least one; such as the prompts of all classes.
    groups : integer tensor or array [V]
        The group of each key, in any order; every group from 0 to the largest needs a key.
    num_groups : int, optional
        G; needed inside torch.compile, where shapes cannot depend on the content of ``groups``.

    Returns
    -------
    Tensor [N, G] float32
        Beyond inputs and result, the call uses 12 bytes * G * d (on CUDA devices 4 bytes * G * d
        and some 32 bytes * V), and what ``similarity`` uses.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.group_max`.

    Examples
    --------
    >>> import torch, fastclip
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> fastclip.group_mean(images, captions, torch.arange(500) // 50).shape
    torch.Size([500, 10])
    """
    if elsewhere(keys):
        found = answer(_GroupMean, queries, keys, groups=groups, num_groups=num_groups)
        return cast(torch.Tensor, found)
    query_rows, key_rows, screen = as_sides(queries, keys)
    ids, count = as_groups(groups, key_rows, num_groups)
    with OneWait(query_rows):
        means = call("group_mean_keys", key_rows, ids, count, not screen)
        return similarity(query_rows, means)


def _group_mean_keys(
    keys: torch.Tensor, groups: torch.Tensor, num_groups: int, check_keys: bool
) -> torch.Tensor:
    keys = with_adjacent_elements(keys)
    with OneWait(keys):
        if check_keys:
            check_finite("keys", keys)
        groups, counts = check_groups(groups, num_groups)
        if on_cuda(keys):
            return _group_mean_keys_cuda(keys, groups, counts)
    sums = torch.zeros(num_groups, keys.shape[1], dtype=torch.float64, device=keys.device)
    _add_rows(sums, groups, keys)
    return rounded(sums, counts)


def _add_rows(sums: torch.Tensor, groups: torch.Tensor, keys: torch.Tensor) -> None:
    """Add the keys, in their order on the CPU, to the float64 sums of their groups."""
    if keys.is_cuda:
        count = _C.cuda.tuning.mean_rows
        for ids, rows in zip(groups.split(count), keys.split(count), strict=True):
            sums.index_add_(0, ids, rows.double())
        return
    _C.group_sums(keys, groups.contiguous(), sums, torch.get_num_threads())


def _group_mean_keys_cuda(
    keys: torch.Tensor, groups: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Add the rows of each group in a fixed order, which index_add_ does not keep on devices."""
    order = groups.argsort(stable=True)
    starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    means = keys.new_empty((len(counts), keys.shape[1]), dtype=torch.float32)
    run("group_means", keys, order, starts, means)
    return means


def _empty(
    keys: torch.Tensor, groups: torch.Tensor, num_groups: int, check_keys: bool
) -> torch.Tensor:
    return keys.new_empty((num_groups, keys.shape[1]), dtype=torch.float32)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    keys, groups, ctx.num_groups, _ = inputs
    ctx.dtype = keys.dtype
    ctx.save_for_backward(groups)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (groups,) = ctx.saved_tensors
    counts = torch.bincount(groups, minlength=ctx.num_groups)
    return (grad / counts[:, None])[groups].to(ctx.dtype), None, None, None


define(
    "group_mean_keys(Tensor keys, Tensor groups, int num_groups, bool check_keys) -> Tensor",
    _group_mean_keys,
    _empty,
    Gradient(_backward, _setup_context),
    function="group_mean",
)


@register
class _GroupMean(Operation):
    """The state holds sums [G, d] and sizes [G] of the groups, the same for all queries."""

    name = "group_mean"
    arguments = (Groups(),)
    fields = ("mean",)
    exact = False
    once = True
    groups: GroupColumn

    @property
    def row_bytes(self) -> int:
        return 16 * self.groups.num_groups

    def start(self, rows: int) -> State:
        count = self.groups.num_groups
        return (
            torch.zeros(count, self.sides.width, dtype=torch.float64),
            torch.zeros(count, dtype=torch.int64),
        )

    def add(self, state: State, block: Part, chunk: Part) -> State:
        rows, groups = finite_rows(chunk.rows), chunk.columns["groups"]
        _add_rows(state[0], groups, rows)
        return state[0], state[1] + torch.bincount(groups, minlength=self.groups.num_groups)

    def merge(self, first: State, second: State) -> State:
        return first[0] + second[0], first[1] + second[1]

    def finish(self, state: State, rows: torch.Tensor) -> torch.Tensor:
        return similarity(rows, rounded(*state))
