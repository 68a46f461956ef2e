"""The estimators of fastclip inside scikit-learn: its own checks, and its tools around them."""

from __future__ import annotations

from contextlib import suppress
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch

from fastclip.coder import (
    ClassTexts,
    Coder,
    CoderAdapter,
    CoderClassifier,
    OneClass,
    TipAdapter,
    TipAdapterF,
)

pytest.importorskip("sklearn", minversion="1.6")
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastclip._estimator import rows_of
from fastclip.coder.representation import unit_images
from fastclip.neighbors import KNeighborsTransformer, NearestNeighbors


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


def class_features(X: Any, y: Any) -> tuple[torch.Tensor, np.ndarray]:
    """A unit row for each label of any data, in their order: its mean row, if that can be told."""
    labels, width = np.arange(2), 2
    with suppress(Exception):
        width = max(1, (X if hasattr(X, "shape") else np.asarray(X)).shape[1])
    with suppress(Exception):
        labels = np.unique(np.asarray(y))
    features = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(0))
    with suppress(Exception):
        rows = unit(torch.from_numpy(np.asarray(X).astype(np.float32, casting="same_kind")))
        means = torch.stack([rows[np.asarray(y).ravel() == label].mean(0) for label in labels])
        if means.shape == features.shape and means.isfinite().all():
            features = means
    return unit(features), labels


def made_up_coder(features: torch.Tensor) -> Coder:
    return Coder(ClassTexts(tuple(OneClass(f"{i}") for i in range(len(features)))), features)


class OfAnyData:
    """Classes as of the data, whose rows are scaled to unit length: what checks hand over is any.

    All but the texts and the scaling is the estimator's own.
    """

    def fit(self, X: Any, y: Any) -> Any:
        given = self.get_params(deep=False)
        features, labels = class_features(X, y)
        self._labels = labels
        own = {"coder": made_up_coder(features), "class_weights": features, "classes": labels}
        vars(self).update({name: value for name, value in own.items() if name in given})
        try:
            return super().fit(X, y)
        finally:
            vars(self).update(given)

    def _width(self) -> int:
        return self.n_features_in_

    def _images(self, X: Any, *, fitting: bool = False) -> torch.Tensor:
        if not fitting:
            super()._images(np.ones((0, getattr(self, "n_features_in_", 0))))  # is it fitted
        rows = rows_of(self, X, reset=fitting, least=int(fitting))
        rows = rows.clone()
        rows[(rows == 0).all(1), :1] = 1  # without a direction
        return unit_images("X", unit(rows), self._width())

    def _labels_for(self, *_: Any) -> np.ndarray:
        return self._labels


class AnyTip(OfAnyData, TipAdapter):
    pass


class AnyTipF(OfAnyData, TipAdapterF):
    pass


class AnyAdapter(OfAnyData, CoderAdapter):
    pass


class AnyClassifier(OfAnyData, CoderClassifier):
    pass


class AnyCoder(Coder):
    def fit(self, X: Any = None, y: Any = None) -> Any:
        vars(self).update(vars(made_up_coder(class_features(X, [0, 1, 2])[0])))
        return super().fit(X, y)


AS_WIDE = "the texts of this test are made as wide as what fit is given"
EXPECTED = {
    AnyCoder: {
        "check_no_attributes_set_in_init": "a Coder checks and encodes its texts when it is made",
        "check_do_not_raise_errors_in_init_or_set_params": "a Coder checks its texts when made",
        "check_set_params": "a Coder checks its texts when made",
        "check_n_features_in": "the length of rows is that of the texts' features, known before",
        "check_estimators_overwrite_params": AS_WIDE,
        "check_dont_overwrite_parameters": AS_WIDE,
        "check_transformers_unfitted_stateless": AS_WIDE,
    }
}
"""Of each estimator, checks that fail, and why they may."""

# Checks that are expected to fail must do so, where scikit-learn can tell.
STRICT = (
    {"xfail_strict": True}
    if "xfail_strict" in signature(parametrize_with_checks).parameters
    else {}
)


@parametrize_with_checks(
    [
        NearestNeighbors(),
        NearestNeighbors(metric="inner_product"),
        KNeighborsTransformer(n_neighbors=2),
        AnyTip(None, alpha=1000, beta=50),
        AnyTipF(None, alpha=1000, beta=50, epochs=2),
        AnyAdapter(None, alpha=1000, beta=50),
        AnyClassifier(),
        AnyCoder(ClassTexts((OneClass("a"),)), torch.eye(1, 2)),
    ],
    expected_failed_checks=lambda estimator: EXPECTED.get(type(estimator), {}),
    **STRICT,
)
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)
