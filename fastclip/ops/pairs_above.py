"""All pairs above a threshold."""

from __future__ import annotations

import warnings
from typing import SupportsFloat

import torch

from fastclip import _C
from fastclip.engine.checks import (
    Array,
    as_rows,
    as_threshold,
    check_finite,
    check_same_width,
    matrix,
    screen_keys,
    with_adjacent_elements,
)
from fastclip.engine.devices import on_cuda
from fastclip.engine.library import implement, library
from fastclip.engine.packed import PackedKeys, as_keys
from fastclip.engine.transforms import call
from fastclip.ops import _search_cuda


def pairs_above(
    queries: Array | PackedKeys, keys: Array | PackedKeys, threshold: SupportsFloat
) -> torch.Tensor:
    """Return every pair of a query and a key with a score above ``threshold``, and the scores.

    The non-zero part of ``s * (s > threshold)`` for ``s = queries @ keys.T``, without the [N, V]
    matrix. Scores are those of :func:`fastclip.topk`; strictly above. Where ``queries is keys``,
    each pair of two rows comes once, with the earlier row as query: near-duplicates of a set. The
    answer is the same to the bit for any number of threads, instruction set and device,
    packed or not.

    Parameters
    ----------
    queries : tensor or array [N, d], float32, float16 or bfloat16, or PackedKeys
    keys : tensor or array [V, d], or PackedKeys
        Packed keys are screened: only scores that may pass are computed.
    threshold : float
        Rounded to float32, beyond its range to infinity.

    Returns
    -------
    Tensor [N, V], float32, sparse CSR with int64 indices
        In order of rows and columns. Beyond inputs and result, 24 bytes for each pair, and each
        thread uses about 24 bytes * 512 * d of workspace and 2 MiB. On CUDA devices 48 bytes for
        each pair, the w + 50 bytes of each of up to 8,192 queries, w being d rounded up to a
        multiple of 64, and 48 MiB (V (w + 12) bytes more for unpacked keys).

    Raises
    ------
    TypeError
        An argument is no array or has another dtype.
    ValueError
        An argument has a wrong shape, is on another device, or holds NaN or infinity, or the
        threshold is NaN.

    Examples
    --------
    >>> import fastclip
    >>> lvis = fastclip.data.load_sample("lvis").normalized()
    >>> pairs = fastclip.pairs_above(lvis.features, lvis.features, 0.95).to_sparse_coo()
    >>> [(lvis.names[i], lvis.names[j]) for i, j in pairs.indices().T[:3]]
    [('alcohol', 'liquor'), ('armchair', 'chair'), ('baseball', 'softball')]
    """
    once = queries is keys
    query_rows = queries.rows if isinstance(queries, PackedKeys) else as_rows("queries", queries)
    key_rows, screen = as_keys(keys)
    check_same_width(query_rows, key_rows)
    threshold = as_threshold("threshold", threshold)
    crow, col, values = call(
        "pairs_above", query_rows.detach(), key_rows.detach(), screen, threshold, once
    )
    shape = (query_rows.shape[0], key_rows.shape[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        place = values.device
        return torch.sparse_csr_tensor(
            crow, col, values, shape, device=place, check_invariants=False
        )


def _pairs_above(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    threshold: float,
    later_only: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    queries, keys = with_adjacent_elements(queries), with_adjacent_elements(keys)
    check_finite("queries", queries)
    if not screen:
        check_finite("keys", keys)
    if on_cuda(queries):
        place, values = _search_cuda.pairs_above(queries, keys, screen, threshold, later_only)
        ends = torch.arange(1, len(queries) + 1, device=place.device) * len(keys)
        crow = torch.cat([ends.new_zeros(1), torch.searchsorted(place, ends)])
        return crow, place % max(1, len(keys)), values
    pairs = _C.pairs_above(
        matrix(queries),
        matrix(keys),
        screen_keys(screen, keys),
        threshold,
        later_only,
        torch.get_num_threads(),
    )
    crow = torch.empty(queries.shape[0] + 1, dtype=torch.int64, device="cpu")
    col = torch.empty(len(pairs), dtype=torch.int64, device="cpu")
    values = torch.empty(len(pairs), dtype=torch.float32, device="cpu")
    pairs.write(queries.shape[0], crow.data_ptr(), col.data_ptr(), values.data_ptr())
    return crow, col, values


def _pairs_above_fake(
    queries: torch.Tensor,
    keys: torch.Tensor,
    screen: list[torch.Tensor],
    threshold: float,
    later_only: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return (
        queries.new_empty((queries.shape[0] + 1,), dtype=torch.int64),
        queries.new_empty((count,), dtype=torch.int64),
        queries.new_empty((count,), dtype=torch.float32),
    )


implement("pairs_above", _pairs_above)
torch.library.register_fake("fastclip::pairs_above", _pairs_above_fake, lib=library)
