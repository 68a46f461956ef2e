"""Images by their nearness to texts, without the matrix of all of it."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import torch

from fastclip._estimator import BaseEstimator, TransformerMixin, as_given, rows_of
from fastclip.coder.prompts import KINDS, Prompts, TextTemplates
from fastclip.coder.texts import ClassTexts
from fastclip.data.checks import check_choice
from fastclip.engine.checks import Array, as_rows, check_finite, check_some_rows
from fastclip.ops import TopK, group_mean, pack, similarity, topk

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastclip.models import Model

_TOLERANCE = 1e-3  # how far the length of a row may be from 1: float16 features are within 5e-4

Weighting = Literal["text", "class"]


class Coder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # without types
    r"""The texts of all classes with their features: cross-modal neighbour representation.

    .. math:: \phi(x) = (x \cdot t_1, \dots, x \cdot t_K)

    of an image feature x and text features t (Yi et al., CVPR 2024). What follows from it seldom
    needs the K numbers: :math:`\phi(x) \cdot \phi(y) = x^T (T^T T) y`, a mean of cosines is one
    product with the mean text, and the nearest texts are found without the others' scores.

    It is a transformer for pipelines of scikit-learn, too, and learns nothing in `fit`: clones
    share its features.

    Parameters
    ----------
    texts : ClassTexts or Prompts
    features : Model, or tensor or array [K, d], float32, float16 or bfloat16
        What encodes the texts, or their features in the order of ``Prompts.texts``: unit rows.
    pair_features : tensor or array [P, d], optional
        Of ``Prompts.pair_texts``; with features only. Without them no image is reranked.
    templates : TextTemplates, or what `text_templates` takes
        For ClassTexts.
    progress : bool
        Show a bar on stderr while texts are encoded, where that is a terminal.

    Raises
    ------
    TypeError
        An argument is of another type or dtype.
    ValueError
        Features have a wrong shape, no unit rows, or hold NaN or infinity; pair features come
        with a model, or templates are unknown.

    Examples
    --------
    >>> import torch
    >>> from fastclip.coder import ClassTexts, Coder, OneClass
    >>> known = ClassTexts((OneClass("cat", attributes=("whiskers",)), OneClass("dog")))
    >>> coder = Coder(known, torch.eye(3, 4))  # features of the three texts
    >>> image = torch.tensor([[0.6, 0.0, 0.8, 0.0]])
    >>> coder.transform(image)
    tensor([[0.6000, 0.0000, 0.8000]])
    >>> best = coder.neighbours(image, k=1)
    >>> coder.texts[best.indices[0, 0]]
    'a photo of dog'
    >>> coder.inner_products(image, image)  # 0.6 ** 2 + 0.8 ** 2
    tensor([[1.0000]], dtype=torch.float64)
    """

    def __init__(
        self,
        texts: ClassTexts | Prompts,
        features: Model | Array,
        pair_features: Array | None = None,
        *,
        templates: TextTemplates | str | os.PathLike[str] = "default",
        progress: bool = False,
    ) -> None:
        self.prompts = texts.prompts(templates) if isinstance(texts, ClassTexts) else texts
        if not isinstance(self.prompts, Prompts):
            raise TypeError(f"texts: ClassTexts or Prompts are needed, got {type(texts).__name__}")
        if hasattr(features, "encode_text"):
            if pair_features is not None:
                raise ValueError("pair_features: a model encodes the texts, None is needed")
            encode: Any = features.encode_text
            features = encode(self.prompts.texts, progress=progress)
            pair_features = encode(self.prompts.pair_texts, progress=progress)
        self.features = _unit_rows("features", features, len(self.prompts.texts))
        """[K, d] float32 unit rows."""
        width = self.features.shape[1]
        if pair_features is None:
            pair_features = self.features.new_empty((0, width))
            pairs = 0
        else:
            pairs = len(self.prompts.pair_texts)
        self.pair_features = _unit_rows("pair_features", pair_features, pairs)
        """[P, d] float32 unit rows; none if they are not known."""
        if self.pair_features.shape[1] != width:
            raise ValueError(
                f"pair_features: rows must be as long as those of features, {width}, "
                f"got {self.pair_features.shape[1]}"
            )
        self.n_features_in_ = width

    @property
    def texts(self) -> tuple[str, ...]:
        """The K texts."""
        return self.prompts.texts

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C names."""
        return self.prompts.class_names

    @cached_property
    def _packed(self) -> Any:
        return pack(self.features, copy=False)

    def subset(self, rows: torch.Tensor) -> Coder:
        """Return the same with some of the texts, and all texts on pairs.

        Parameters
        ----------
        rows : bool tensor [K]
            At least one is True.
        """
        prompts = replace(
            self.prompts,
            texts=tuple(self.texts[row] for row in rows.nonzero().flatten().tolist()),
            class_of=self.prompts.class_of[rows],
            kind_of=self.prompts.kind_of[rows],
        )
        pairs = self.pair_features if len(self.pair_features) else None
        return Coder(prompts, self.features[rows.to(self.features.device)], pairs)

    def fit(self, X: Array | None = None, y: Array | None = None) -> Self:
        """Check rows and pack the texts' features; ``y`` is ignored: there is nothing to learn."""
        if X is not None:
            width = self.features.shape[1]
            check_finite("X", rows_of(self, X, reset=True, least=1, width=width))
        self._packed  # noqa: B018, which `transform` would make
        return self

    def transform(self, X: Array, *, out: Any = None) -> Array:
        """Return the representation itself, [N, K] float32: `fastclip.similarity` with all texts.

        Parameters
        ----------
        X : tensor, array, list of lists or DataFrame [N, d]
            Features of images.
        out : optional
            As in `fastclip.similarity`; a memory map, too.

        Returns
        -------
        tensor where X is one, else array
        """
        return as_given(similarity(rows_of(self, X), self._packed, out=out), X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray[Any, Any]:
        """Return the names of the columns of `transform`: the K texts."""
        return np.array(self.texts, dtype=object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return parameters that make an equal Coder: prompts and features, no model."""
        return {
            "texts": self.prompts,
            "features": self.features,
            "pair_features": self.pair_features if len(self.pair_features) else None,
            "templates": "default",
            "progress": False,
        }

    def set_params(self, **params: Any) -> Self:
        """Make it anew with other parameters.

        Raises
        ------
        TypeError, ValueError
            As the constructor, or there is no such parameter.
        """
        known = self.get_params()
        for name in params:
            if name not in known:
                raise ValueError(f"{name}: no such parameter, allowed: {', '.join(known)}")
        if "features" in params:
            known["pair_features"] = None
        if params:
            self.__dict__.update(type(self)(**{**known, **params}).__dict__)
            self.__dict__.pop("_packed", None)
        return self

    def __sklearn_clone__(self) -> Coder:
        clone = copy.copy(self)  # no copy of features, which are never written to
        clone.__dict__.pop("feature_names_in_", None)
        return clone

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __repr__(self) -> str:
        return f"Coder({len(self.texts):,} texts of {len(self.class_names):,} classes)"

    def neighbours(self, image_features: Array, k: SupportsIndex) -> TopK:
        """Return the k nearest texts of each image: `fastclip.topk`; rows of `texts`.

        This is the sparse form of `transform`.
        """
        return topk(image_features, self._packed, k)

    def weights(self, weighting: Weighting = "text") -> torch.Tensor:
        """Return how much each text counts in inner products, [K] float64.

        "text": 1 each, so that classes with more texts count more. "class": 1 over the number of
        texts of its class.
        """
        check_choice("weighting", weighting, ("text", "class"))
        counts = torch.bincount(self.prompts.class_of).double()
        each = 1 / counts if weighting == "class" else torch.ones_like(counts)
        return each[self.prompts.class_of].to(self.features.device)

    def gram(self, kinds: Iterable[str] = KINDS, *, weighting: Weighting = "text") -> torch.Tensor:
        """Return ``T' diag(weights) T`` of the texts of some kinds, [d, d] float64."""
        rows = self.prompts.of_kinds(kinds).to(self.features.device)
        weights = self.weights(weighting)
        width = self.features.shape[1]
        total = torch.zeros(width, width, dtype=torch.float64, device=self.features.device)
        chosen = rows.nonzero().flatten()
        for part in chosen.split(8192):  # bounds the float64 copy
            texts = self.features[part].double()
            total += (texts * weights[part, None]).T @ texts
        return total

    def inner_products(
        self,
        image_features: Array,
        others: Array,
        kinds: Iterable[str] = KINDS,
        *,
        weighting: Weighting = "text",
    ) -> torch.Tensor:
        """Return the inner products of representations, [N, M] float64, by the d x d Gram matrix.

        Parameters
        ----------
        image_features : tensor or array [N, d]
        others : tensor or array [M, d]
        kinds, weighting
            As in `gram`.
        """
        rows = as_rows("image_features", image_features).double()
        columns = as_rows("others", others).double()
        return rows @ self.gram(kinds, weighting=weighting) @ columns.T

    def name_weights(self) -> torch.Tensor:
        """Return CLIP's classifier, [C, d] float32: the unit mean of the name texts of a class."""
        rows = self.prompts.of_kinds(("name",))
        return group_directions(self.features[rows], self.prompts.class_of[rows])


def group_directions(rows: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Return the mean row of each group, scaled to unit length, [G, d] float32."""
    eye = torch.eye(rows.shape[1], device=rows.device)
    means = group_mean(eye, rows, groups.to(rows.device)).T  # the product with each axis
    return torch.nn.functional.normalize(means.double(), dim=1).float()


def unit_images(name: str, features: Array, width: int) -> torch.Tensor:
    """Check image features: unit rows [N, ``width``] of any number type."""
    rows = as_rows(name, features).detach()
    if rows.shape[1] != width:
        raise ValueError(f"{name}: rows of {width} numbers are needed, got {rows.shape[1]}")
    _check_unit(name, rows)
    return rows


def _unit_rows(name: str, features: Array, count: int) -> torch.Tensor:
    rows = as_rows(name, features).detach().float()
    if rows.shape[0] != count:
        raise ValueError(f"{name}: {count} rows are needed, one per text, got {rows.shape[0]}")
    if name == "features":
        check_some_rows(name, rows)
    _check_unit(name, rows)
    return rows


def _check_unit(name: str, rows: torch.Tensor) -> None:
    check_finite(name, rows)
    lengths = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32)
    wrong = ((lengths - 1).abs() > 4 * _TOLERANCE).nonzero().flatten()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"{name}: rows of unit length are needed, row {row} has length {lengths[row]:.4g}"
        )
