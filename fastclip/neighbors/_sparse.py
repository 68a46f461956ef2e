"""Sparse matrices of SciPy."""

from __future__ import annotations

from typing import Any

import torch


def scipy_sparse() -> Any:
    """Return the module scipy.sparse.

    Raises
    ------
    ImportError
        SciPy is missing.
    """
    try:
        import scipy.sparse
    except ImportError as error:
        raise ImportError(
            "sparse graphs need SciPy: pip install 'fastclip-kernels[sklearn]'"
        ) from error
    return scipy.sparse


def to_scipy(pairs: torch.Tensor, *, symmetric: bool = False) -> Any:
    """Return the pairs that `fastclip.pairs_above` found as a scipy.sparse array.

    Parameters
    ----------
    pairs : Tensor [N, V], sparse CSR
    symmetric : bool, default False
        Also hold each pair the other way round: for pairs of one set, which come once, with the
        earlier row first. No row is paired with itself then.

    Returns
    -------
    scipy.sparse.csr_array [N, V]
        In order of rows and columns. It shares the memory of ``pairs`` where it can.

    Raises
    ------
    ImportError
        SciPy is missing: ``pip install 'fastclip-kernels[sklearn]'``.
    TypeError
        ``pairs`` is no sparse CSR tensor.
    ValueError
        ``symmetric``, and ``pairs`` holds a row with itself or an earlier one.

    Examples
    --------
    >>> import fastclip
    >>> from fastclip.neighbors import to_scipy
    >>> lvis = fastclip.data.load_sample("lvis").normalized().features
    >>> graph = to_scipy(fastclip.pairs_above(lvis, lvis, 0.95), symmetric=True)
    >>> graph.shape, graph.nnz
    ((1203, 1203), 32)
    """
    if not isinstance(pairs, torch.Tensor) or pairs.layout != torch.sparse_csr:
        got = pairs.layout if isinstance(pairs, torch.Tensor) else type(pairs).__name__
        raise TypeError(f"pairs: the sparse CSR tensor of pairs_above is needed, got {got}")
    sparse = scipy_sparse()
    crow, col, values = (
        part.detach().cpu().numpy()
        for part in (pairs.crow_indices(), pairs.col_indices(), pairs.values())
    )
    found = sparse.csr_array((values, col, crow), shape=tuple(pairs.shape))
    if not symmetric:
        return found
    if sparse.tril(found).nnz or found.shape[0] != found.shape[1]:
        raise ValueError(
            "symmetric: pairs of one set are needed, each with the earlier row first, as "
            "pairs_above(x, x, threshold) returns them"
        )
    both = (found + found.T).tocsr()
    both.sort_indices()
    return both
