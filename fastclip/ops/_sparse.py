"""Sparse tensors of torch, without its warnings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def making_sparse() -> Iterator[None]:
    """Leave out what torch says where a sparse tensor is made."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        # torch 2.11 says so although check_invariants is given.
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
        yield
