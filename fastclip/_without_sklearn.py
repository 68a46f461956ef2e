"""The part of scikit-learn that our estimators rest on, for where scikit-learn is not installed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self


class NotFittedError(ValueError, AttributeError):
    """An estimator is used before it is fitted."""


class BaseEstimator:
    """Parameters by name, as given to the constructor."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters; ``deep`` changes nothing."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name.

        Raises
        ------
        ValueError
            There is no such parameter.
        """
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(f"{name}: no such parameter, allowed: {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        params = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({params})"

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]


class ClassifierMixin:
    """Tells scikit-learn what an estimator is; nobody asks without it."""


class ClassNamePrefixFeaturesOutMixin:
    """Names the columns of DataFrames, which scikit-learn makes."""


class TransformerMixin:
    """Fit and transform in one call."""

    def fit_transform(self: Any, X: Any, y: Any = None) -> Any:
        """Fit to X, then transform it."""
        return self.fit(X, y).transform(X)


def validate_data(
    estimator: Any,
    X: Any,
    *,
    reset: bool,
    dtype: Sequence[Any],
    ensure_min_samples: int,
    **_: Any,
) -> np.ndarray[Any, Any]:
    """Return X as an array [rows, d] in one of the types, by default the first; may hold NaN."""
    array = np.asarray(X)
    if array.dtype not in dtype:
        array = array.astype(dtype[0])
    if array.ndim != 2:
        raise ValueError(f"X: 2 dimensions [rows, d] are needed, got shape {array.shape}")
    if len(array) < ensure_min_samples:
        raise ValueError(f"X: at least {ensure_min_samples} row is needed, got none")
    if reset:
        estimator.n_features_in_ = array.shape[1]
    elif array.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X: rows of {estimator.n_features_in_} numbers are needed, got {array.shape[1]}"
        )
    return array


def column_or_1d(y: Any, *, warn: bool) -> np.ndarray[Any, Any]:
    """Return labels as an array [rows]."""
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"y: 1 dimension [rows] is needed, got shape {array.shape}")
    return array
