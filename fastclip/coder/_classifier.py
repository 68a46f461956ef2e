"""What classifiers share: labels of classes, and scikit-learn's methods on their scores."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fastclip._estimator import (
    BaseEstimator,
    ClassifierMixin,
    as_given,
    check_fitted,
    column_or_1d,
    rows_of,
    speaks_tensors,
)
from fastclip.coder.representation import unit_images
from fastclip.engine.checks import Array, as_indices, check_range, check_some_rows


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # without types
    """Classes with the labels 0 to C - 1, or with labels of their own, in sorted order."""

    classes_: np.ndarray[Any, Any]
    n_features_in_: int
    _last: str
    """What `fit` sets last."""

    @abstractmethod
    def _width(self) -> int:
        """Return d."""

    @abstractmethod
    def _class_scores(self, images: torch.Tensor) -> torch.Tensor:
        """Return the scores of all classes, [N, C] float32, in the order of ``classes_``."""

    def class_scores(self, X: Array) -> Array:
        """Return the scores of all classes, [N, C] float32.

        Parameters
        ----------
        X : [N, d], unit rows
            Features of images: a tensor, or what scikit-learn takes, such as an array.

        Returns
        -------
        tensor where X is one, else array
            A column per class, in the order of ``classes_``.

        Raises
        ------
        ValueError
            Rows are of another length, no unit rows, or hold NaN or infinity; or not fitted.
        """
        return as_given(self._class_scores(self._images(X)), X)

    def decision_function(self, X: Array) -> Array:
        """Return the scores as scikit-learn expects them.

        Those of `class_scores`, [N, C]; of two classes [N], by how much the second is ahead.
        """
        scores = self.class_scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: Array) -> Array:
        """Return the softmax of `class_scores`, [N, C] float32."""
        return as_given(self._class_scores(self._images(X)).softmax(1), X)

    def predict(self, X: Array) -> Array:
        """Return the label of the class of each image, [N].

        Numbers of classes are a tensor where X is one; all else is an array.
        """
        return self._labels_of(self._predicted(self._images(X)), X)

    def score(self, X: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Return the share of the images whose class is right.

        Parameters
        ----------
        X : [N, d], unit rows, N >= 1
        y : labels [N]
        sample_weight : [N], optional
            How much each image counts.
        """
        images = self._images(X)
        check_some_rows("X", images)
        right = (self._predicted(images) == self._codes(y, images)).double()
        if sample_weight is None:
            return float(right.mean())
        weights = torch.as_tensor(sample_weight).to(right)
        if weights.shape != right.shape:
            raise ValueError(
                f"sample_weight: shape ({len(right)},) is needed, got {tuple(weights.shape)}"
            )
        return float((right * weights).sum() / weights.sum())

    def __repr__(self) -> str:
        """Parameters that are no defaults; scikit-learn would print all texts of a Coder."""
        defaults = inspect.signature(type(self)).parameters
        given = self.get_params(deep=False).items()
        changed = [f"{name}={x!r}" for name, x in given if x is not defaults[name].default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def _predicted(self, images: torch.Tensor) -> torch.Tensor:
        """Return the place in ``classes_`` of the class of each image."""
        return self._class_scores(images).argmax(1)

    def _images(self, X: Array, *, fitting: bool = False) -> torch.Tensor:
        """Check features of images: unit rows [N, d]."""
        if fitting:
            self.__dict__.pop(self._last, None)  # what is fitted is never partly of another fit
        else:
            check_fitted(self, self._last)
        width = self._width()
        rows = rows_of(self, X, reset=fitting, least=int(fitting), width=width)
        return unit_images("X", rows, width)

    def _set_classes(self, labels: Sequence[Any] | Array | None, count: int) -> torch.Tensor:
        """Set ``classes_``; return which of ``count`` classes each of them is, [C].

        Tools of scikit-learn expect labels in order.
        """
        self._named = labels is not None
        if labels is None:
            self.classes_ = np.arange(count)
            return torch.arange(count)
        given = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
        if given.shape != (count,):
            raise ValueError(f"classes: {count} labels are needed, got shape {given.shape}")
        if given.dtype.kind == "f" and not (np.isfinite(given) & (given == given.round())).all():
            raise ValueError(
                "classes: Unknown label type: continuous numbers, allowed: whole numbers and names"
            )
        self.classes_, order = np.unique(given, return_index=True)
        if len(order) < count:
            raise ValueError(f"classes: a label occurs twice among {count}, all must differ")
        return torch.from_numpy(order)

    def _codes(self, y: Array, images: torch.Tensor) -> torch.Tensor:
        """Return the place of each label in ``classes_``, int64 on the device of ``images``."""
        if not self._named:
            if not speaks_tensors(y):
                y = column_or_1d(y, warn=True)
                if is_text(y):
                    raise ValueError(
                        "y: numbers of classes are needed, for it was fitted with such, got "
                        f"{y.tolist()[0]!r} at 0"
                    )
            codes = as_indices("y", y, len(images), images.device)
            check_range("y", codes, len(self.classes_), "classes")
            return codes
        y = torch.as_tensor(y).cpu().numpy() if speaks_tensors(y) else column_or_1d(y, warn=True)
        if len(y) != len(images):
            raise ValueError(f"y: {len(images)} labels are needed, one per row of X, got {len(y)}")
        place = {label: i for i, label in enumerate(self.classes_.tolist())}
        for i, label in enumerate(y.tolist()):
            if label not in place:
                known = ", ".join(map(repr, list(place)[:10]))
                more = ", ..." if len(place) > 10 else ""
                raise ValueError(f"y: {label!r} at {i} is no class, known: {known}{more}")
        return torch.tensor([place[label] for label in y.tolist()], device=images.device).long()

    def _labels_of(self, codes: torch.Tensor, X: Array) -> Array:
        if not self._named:
            return as_given(codes, X)
        labels = self.classes_[codes.cpu().numpy()]
        if speaks_tensors(X) and labels.dtype.kind in "iuf":
            return torch.from_numpy(labels).to(codes.device)
        return labels


def is_text(y: Any) -> bool:
    """Whether labels are names: they are no tensor, and no numbers."""
    return not speaks_tensors(y) and column_or_1d(y, warn=False).dtype.kind not in "iufb"
