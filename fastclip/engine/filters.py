"""Keys that do not count: ``allowed`` for all queries, ``exclude`` for each of them.

A filtered question is put to the same kernels. Those of top-k and of counts on the CPU leave out
what is not allowed; for others, and where few keys are allowed, these are gathered first. What a
query excludes is found among its answers and made up for: a count is reduced by the excluded keys
that it has met, a best key is replaced by the next one. So the answer has the bits of the question
about the keys that are left.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from fastclip import _C
from fastclip.engine.arguments import Argument, Sides
from fastclip.engine.checks import INTEGERS, Array, as_tensor, conversion, short
from fastclip.engine.columns import Column, as_numbers
from fastclip.engine.devices import check_movable, on_cuda
from fastclip.engine.operation import LAST, Operation, Part
from fastclip.engine.pair_scores import pair_scores
from fastclip.engine.transforms import transformed
from fastclip.engine.tuning import TUNING

_STRIP = 64  # excluded keys of a query that are scored at a time
_TABLE = 1 << 18  # members of groups that are scored at a time
_PADDED = 1 << 22  # numbers of a padded table, as many as there are entries aside: 32 MB
_ROWS = 1 << 13  # queries that are copied for them


class _Mask:
    """A bool for each of ``count`` keys."""

    def __init__(self, value: Any, sides: Sides) -> None:
        given = as_numbers("allowed", value, "bool")
        mask = as_tensor("allowed", given, "bool")
        if mask.dtype != torch.bool:
            raise TypeError(
                f"allowed: bool is needed, got {short(mask.dtype)}"
                + conversion("allowed", given, mask, "bool")
            )
        if mask.shape != (sides.own_keys,):
            raise ValueError(
                f"allowed: shape ({sides.own_keys},), a bool per key, is needed, "
                f"got {tuple(mask.shape)}"
            )
        check_movable("allowed", mask, sides.device)
        self._mask, self._device = mask, sides.device
        # Of each key, a copy may be made.
        self.row_bytes = 9 + 4 * sides.width + _C.code_width(sides.width) + 12

    def __getitem__(self, rows: slice) -> torch.Tensor:
        return self._mask[rows].to(self._device)

    def described(self) -> dict[str, object]:
        digest = hashlib.sha256(f"torch.bool ({len(self._mask)},)".encode())
        for part in self._mask.split(TUNING.column_numbers):
            digest.update(part.cpu().contiguous().numpy().data)
        return {"allowed_sha256": digest.hexdigest()}


def blocks_of(operation: Operation) -> list[range]:
    """Return the queries to be taken at a time where these are in memory."""
    lists = getattr(operation, "exclude", None)
    return lists.blocks() if lists is not None else [range(operation.sides.queries)]


class Allowed(Argument):
    """Whether each key counts."""

    name = "allowed"
    per = "key"
    needed = False
    metavar = "FILE.npy"

    def check(self, value: Any, sides: Sides) -> Column | None:
        return None if value is None else _Mask(value, sides)


class _Lists:
    """Numbers of keys for each of ``count`` queries: a table padded with -1, or a sparse matrix.

    Rows are sorted, without repetitions, -1 first.
    """

    def __init__(self, value: Any, sides: Sides) -> None:
        self._sides = sides
        self._starts: torch.Tensor | None = None
        sparse = _as_csr(value)
        if sparse is None:
            self._numbers = self._as_table(value)
            width = self._numbers.shape[1]
        else:
            starts, self._numbers, shape = sparse
            if shape != (sides.queries, sides.keys):
                raise ValueError(
                    f"exclude: a sparse matrix must be queries x keys, "
                    f"{(sides.queries, sides.keys)}, got {shape}"
                )
            check_movable("exclude", self._numbers, sides.device)
            self._starts = starts
            width = int(starts.diff().max()) if len(starts) > 1 else 0
            self._check(self._numbers, 0)
        self.row_bytes = 40 * width

    def _as_table(self, value: Any) -> torch.Tensor:
        given = as_numbers("exclude", value, "np.int64")
        table = as_tensor("exclude", given, "np.int64")
        if table.dtype not in INTEGERS:
            convert = conversion("exclude", given, table, "int64")
            if table.dtype == torch.bool:  # whose numbers would be those of two keys
                matrix = "torch.from_numpy(exclude)" if isinstance(given, np.ndarray) else "exclude"
                convert = f"; pass {matrix}.to_sparse() for a bool per query and key"
            got = short(table.dtype)
            raise TypeError(f"exclude: integers or a sparse matrix are needed, got {got}{convert}")
        count = self._sides.queries
        if table.ndim not in (1, 2) or table.shape[0] != count:
            raise ValueError(
                f"exclude: shape ({count},) or ({count}, m), keys of each query, is needed, "
                f"got {tuple(table.shape)}"
            )
        check_movable("exclude", table, self._sides.device)
        table = table if table.ndim == 2 else table[:, None]
        for part in table.split(_rows_at_a_time(table.shape[1])):
            self._check(part, -1)
        return table

    def _check(self, numbers: torch.Tensor, least: int) -> None:
        above = 0  # of what is negative in 64 bits with a sign
        if numbers.dtype == torch.uint64:
            least, above = 0, 2**64
        numbers = numbers.long()
        wrong = (numbers < least) | (numbers >= self._sides.keys)
        if wrong.any():
            none = ", or -1 for none" if least < 0 else ""
            number = int(numbers[wrong][0])
            raise ValueError(
                f"exclude: must be from 0 to {self._sides.keys - 1}, rows of keys{none}, "
                f"got {number + above if number < 0 else number}"
            )

    def __getitem__(self, rows: slice) -> torch.Tensor:
        begin, end, _ = rows.indices(self._sides.queries)
        if self._starts is None:
            table = self._numbers[begin:end].to(self._sides.device, torch.int64)
        else:
            table = self._padded(begin, end)
        table = table.contiguous().sort(dim=1).values
        again = table[:, 1:] == table[:, :-1]
        if again.any():
            table[:, 1:].masked_fill_(again, -1)
            table = table.sort(dim=1).values
        return table

    def blocks(self) -> list[range]:
        """Return queries whose lists may be padded to one length: a few long ones are apart."""
        whole = [range(self._sides.queries)]
        if self._starts is None:
            return whole
        starts, found = self._starts.cpu(), []
        while whole:
            rows = whole.pop()
            lengths = starts[rows.start : rows.stop + 1].diff()
            padded = len(rows) * int(lengths.max()) if len(rows) else 0
            if len(rows) > 1 and padded > max(_PADDED, 2 * int(lengths.sum())):
                half = len(rows) // 2
                whole += [rows[half:], rows[:half]]
            else:
                found.append(rows)
        return found

    def _padded(self, begin: int, end: int) -> torch.Tensor:
        assert self._starts is not None
        starts = self._starts[begin : end + 1].to(self._sides.device)
        counts = starts.diff()
        most = int(counts.max()) if len(counts) else 0
        table = torch.full((end - begin, most), -1, device=self._sides.device)
        numbers = self._numbers[int(starts[0]) : int(starts[-1])]
        here = torch.arange(most, device=table.device) < counts[:, None]
        table[here] = numbers.to(table.device, torch.int64)
        return table

    def described(self) -> dict[str, object]:
        digest = hashlib.sha256(f"lists of {self._sides.queries}".encode())
        step = _rows_at_a_time(self.row_bytes // 40)
        lengths = []
        for begin in range(0, self._sides.queries, step):
            table = self[begin : begin + step]
            lengths.append((table >= 0).sum(1).cpu())
            digest.update(table[table >= 0].cpu().numpy().data)
        for part in lengths:
            digest.update(part.numpy().data)
        return {"exclude_sha256": digest.hexdigest()}


def _rows_at_a_time(width: int) -> int:
    return max(1, TUNING.column_numbers // max(1, width))


def _as_csr(value: Any) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]] | None:
    """Return row starts, columns and shape of a sparse matrix of torch or SciPy, else None."""
    name = type(value).__module__.partition(".")[0]
    blocks = name == "scipy" and getattr(value, "format", None) == "bsr"
    if blocks or getattr(value, "layout", None) in (torch.sparse_bsr, torch.sparse_bsc):
        made = "scipy.sparse.csr_array(exclude.toarray())" if blocks else ""
        raise TypeError(
            f"exclude: a sparse matrix of blocks is not allowed, for all numbers of a block are "
            f"entries; pass {made or 'exclude.to_dense().to_sparse()'}"
        )
    if isinstance(value, torch.Tensor) and value.layout != torch.strided:
        if value.ndim != 2 or value.dense_dim():
            raise ValueError(
                f"exclude: a sparse matrix must have 2 dimensions, and both sparse, got shape "
                f"{tuple(value.shape)}, of which {value.dense_dim()} dense"
            )
        csr = value.detach()
        if csr.layout == torch.sparse_coo:  # torch says of each CSR tensor that it is in beta
            rows, columns = csr.coalesce().indices()
            starts = torch.bincount(rows, minlength=len(csr)).cumsum(0)
            return torch.nn.functional.pad(starts, (1, 0)), columns, tuple(csr.shape)
        if csr.layout != torch.sparse_csr:
            csr = csr.to_sparse_csr()
        return csr.crow_indices().long(), csr.col_indices(), tuple(csr.shape)
    if name == "scipy" and hasattr(value, "tocsr"):
        csr = value.tocsr()
        starts, columns = (torch.from_numpy(x.astype(np.int64)) for x in (csr.indptr, csr.indices))
        return starts, columns, tuple(csr.shape)
    return None


class Exclude(Argument):
    """Keys that do not count for each query, padded with -1."""

    name = "exclude"
    per = "query"
    needed = False
    metavar = "FILE.npy"

    def check(self, value: Any, sides: Sides) -> Column | None:
        return None if value is None else _Lists(value, sides)

    def shared(self, value: Column | None) -> dict[str, object]:
        return {"exclude": "none" if value is None else "given"}


FILTERS: tuple[Argument, ...] = (Allowed(), Exclude())

Excluding = Array | str | os.PathLike[str] | Any
"""What ``exclude`` may be: integers [N] or [N, m], or a sparse matrix of torch or SciPy [N, V]."""


def check_no_batch(*values: Any) -> None:
    """Check that no argument is of a batch of `torch.func.vmap`: how much is done depends on it."""
    functorch = torch._C._functorch
    for value in values:
        while isinstance(value, torch.Tensor) and functorch.is_functorch_wrapped_tensor(value):
            if functorch.is_batchedtensor(value):
                raise NotImplementedError(
                    "allowed, exclude: cannot be used within torch.func.vmap; call for each of the "
                    "batch"
                )
            value = functorch.get_unwrapped(value)


def gathered(queries: Part, keys: Part) -> tuple[Part, torch.Tensor | None, int]:
    """Return the keys, a mask of those that count, and their number; None where all of them do.

    The keys that count are gathered where that takes less time than a search of them alone saves.
    """
    mask = keys.columns.get("allowed")
    count = kept = len(keys)
    if mask is not None:
        kept = int(torch.count_nonzero(mask))
    many = len(queries) * (count - kept) >= TUNING.gather_from_pairs * kept
    if mask is None or kept == count or many or 8 * kept <= count or on_cuda(mask):
        return keys.allowed(), None, kept
    return keys, mask, kept


def as_bytes(mask: torch.Tensor | None) -> torch.Tensor | None:
    """Return a mask as the kernels take it."""
    return None if mask is None else mask.contiguous().view(torch.uint8)


def excluded(queries: Part, keys: Part) -> torch.Tensor | None:
    """Return the places in ``keys`` of what each query excludes, [n, m], sorted, -1 for none.

    None where no query excludes any of these keys.
    """
    numbers = queries.columns.get("exclude")
    if numbers is None or 0 in numbers.shape or len(keys) == 0:
        return None
    if keys.numbers is None:
        places = numbers - keys.begin
        here = (places >= 0) & (places < len(keys))
    else:
        places = torch.searchsorted(keys.numbers, numbers).clamp(max=len(keys) - 1)
        here = keys.numbers[places] == numbers
    most = int(here.sum(1).max())
    places = torch.where(here, places, -1).sort(dim=1).values
    return places[:, places.shape[1] - most :].contiguous() if most else None


def contains(lists: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Whether each of ``numbers`` [n, k] is in the sorted list of its row, [n, m]."""
    at = torch.searchsorted(lists, numbers.contiguous()).clamp(max=lists.shape[1] - 1)
    return (lists.gather(1, at) == numbers) & (numbers >= 0)


def excluded_scores(
    queries: Part, keys: Part, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return query, place and exact score of each excluded pair; ``places`` are of `excluded`."""
    found = []
    for end in range(places.shape[1], 0, -_STRIP):
        strip = places[:, max(0, end - _STRIP) : end]
        rows = (strip[:, -1] >= 0).nonzero()[:, 0]
        strip, some = strip[rows], queries.tensor
        if len(rows) < len(some):
            some = some[rows]
        scores = pair_scores(some, keys.tensor, strip.clamp(min=0))
        row, column = (strip >= 0).nonzero(as_tuple=True)
        found.append((rows[row], strip[row, column], scores[row, column]))
    rows, columns, of_pairs = (torch.cat(parts) for parts in zip(*found, strict=True))
    return rows, columns, of_pairs


def members(groups: torch.Tensor, wanted: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield tables of the keys of the groups ``wanted``: which of these, and places, -1 for none.

    Together they say the keys of each, in order.
    """
    sizes = torch.bincount(groups)
    order, starts = groups.argsort(stable=True), sizes.cumsum(0) - sizes
    by_size = sizes[wanted].argsort()
    ends = sizes[wanted[by_size]].tolist()
    begin = 0
    while begin < len(ends):
        end = begin + 1
        while end < len(ends) and (end + 1 - begin) * max(ends[end], _TABLE // _ROWS) <= _TABLE:
            end += 1
        some = by_size[begin:end]
        group = wanted[some]
        step = torch.arange(ends[end - 1], device=groups.device)
        at = (starts[group][:, None] + step).clamp(max=len(order) - 1)
        yield some, torch.where(step < sizes[group][:, None], order[at], -1)
        begin = end


def best_member(
    queries: torch.Tensor, keys: torch.Tensor, table: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best score of each query with the keys of its row of ``table``, and its place.

    ``LAST`` and minus infinity where there is none. The scores have gradients.
    """
    scores = pair_scores(queries.detach(), keys.detach(), table.clamp(min=0))
    there = table >= 0
    best = scores.masked_fill(~there, -torch.inf).max(dim=1, keepdim=True).values
    places = table.masked_fill(~(there & (scores == best)), LAST)
    place, column = places.min(dim=1)
    found = place < LAST
    values = scores.gather(1, column[:, None])[:, 0].masked_fill(~found, -torch.inf)
    backward = torch.is_grad_enabled() and (queries.requires_grad or keys.requires_grad)
    if backward or transformed():
        picked = keys[place.masked_fill(~found, 0)]
        # In float64, which does not overflow; what is taken off, +0, leaves -0 as it is.
        product = (queries.double() * picked.double()).sum(1).masked_fill(~found, 0)
        values = values - (product.detach() - product).float()
    return values, place
