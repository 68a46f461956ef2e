"""What all estimators share: scikit-learn's base classes, and tensors beside what it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fastclip.engine.checks import INTEGERS, Array, as_rows, as_tensor

# scikit-learn is an extra: without it, all works but what it alone does with an estimator.
try:
    from sklearn.base import BaseEstimator as BaseEstimator
    from sklearn.base import ClassifierMixin as ClassifierMixin
    from sklearn.base import ClassNamePrefixFeaturesOutMixin as ClassNamePrefixFeaturesOutMixin
    from sklearn.base import TransformerMixin as TransformerMixin
    from sklearn.exceptions import NotFittedError as NotFittedError
    from sklearn.utils.validation import column_or_1d as column_or_1d
    from sklearn.utils.validation import validate_data
except ImportError:
    from fastclip._without_sklearn import BaseEstimator as BaseEstimator
    from fastclip._without_sklearn import ClassifierMixin as ClassifierMixin
    from fastclip._without_sklearn import (
        ClassNamePrefixFeaturesOutMixin as ClassNamePrefixFeaturesOutMixin,
    )
    from fastclip._without_sklearn import NotFittedError as NotFittedError
    from fastclip._without_sklearn import TransformerMixin as TransformerMixin
    from fastclip._without_sklearn import column_or_1d as column_or_1d
    from fastclip._without_sklearn import validate_data


def check_fitted(estimator: Any, attribute: str) -> None:
    """Raise NotFittedError where an estimator lacks what `fit` gives it at its end."""
    if not hasattr(estimator, attribute):
        raise NotFittedError(f"{type(estimator).__name__} is not fitted, call fit first")


def speaks_tensors(X: object) -> bool:
    """Whether answers about X are tensors: for tensors and DLPack arrays other than NumPy's."""
    return hasattr(X, "__dlpack__") and not isinstance(X, np.ndarray)


def float_rows(name: str, x: Any) -> torch.Tensor:
    """Return an argument as float rows [rows, d], float32 if it is of another number type."""
    if not speaks_tensors(x) and not isinstance(x, np.ndarray):
        x = np.asarray(x)
    rows = as_tensor(name, x)
    if rows.dtype == torch.float64 or rows.dtype in INTEGERS:
        rows = rows.float()
    return as_rows(name, rows)


def rows_of(
    estimator: Any, X: Any, *, reset: bool = False, least: int = 0, width: int | None = None
) -> torch.Tensor:
    """Return X as float rows [rows, d], float32 if it is of another number type.

    Parameters
    ----------
    estimator
        Its ``n_features_in_`` is set to d with ``reset``, else compared with it; so are names of
        columns.
    X : tensor, array, list of lists, or DataFrame
    reset : bool
    least : int
        How many rows are needed.
    width : int, optional
        d, where it is known before.
    """
    rows = _tensor_rows(estimator, X, reset, least) if speaks_tensors(X) else None
    if rows is None:
        if isinstance(X, np.ma.MaskedArray):
            as_tensor("X", X)  # says why not
        array = validate_data(
            estimator,
            X,
            reset=reset,
            dtype=(np.float32, np.float16),
            ensure_all_finite=False,  # who computes with them says which row it is
            ensure_min_samples=least,
        )
        rows = as_tensor("X", array)
    if width is not None and rows.shape[1] != width:
        estimator.n_features_in_ = width
        raise ValueError(f"X: rows of {width} numbers are needed, got {rows.shape[1]}")
    return rows


def _tensor_rows(estimator: Any, X: Any, reset: bool, least: int) -> torch.Tensor:
    rows = float_rows("X", X)
    if len(rows) < least:
        raise ValueError(f"X: at least {least} row is needed, got shape {tuple(rows.shape)}")
    if reset:
        estimator.n_features_in_ = rows.shape[1]
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    elif rows.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X: rows of {estimator.n_features_in_} numbers are needed, got {rows.shape[1]}"
        )
    return rows


def as_given(found: torch.Tensor, X: object) -> Array:
    """Return what was found about X: a tensor if X `speaks_tensors`, else a NumPy array."""
    return found if speaks_tensors(X) else found.cpu().numpy()
