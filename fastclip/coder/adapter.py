"""CODER-Adapter: few-shot classification by a cache of cross-modal neighbour representations."""

from collections.abc import Iterable
from typing import Any, Literal, SupportsFloat

import torch

from fastclip._estimator import float_rows
from fastclip.coder._cache import CacheModel
from fastclip.coder._classifier import is_text
from fastclip.coder.prompts import checked_kinds
from fastclip.coder.representation import Coder, Weighting, unit_images
from fastclip.data.checks import check_choice
from fastclip.engine.checks import Array

Affinity = Literal["min-max", "cosine"]


class CoderAdapter(CacheModel):
    r"""Classify images by CLIP and by the labels of few images that lie near the same texts.

    With the representation :math:`\phi` of `Coder`, affinity
    :math:`A_i = \cos(\phi(x), \phi(s_i))` to support image i, and :math:`\hat A_i` the same
    stretched to 0 to 1 over the support images:

    .. math:: 100 \, x \cdot W + \alpha \sum_i \exp(-\beta (1 - \hat A_i)) \, \mathrm{onehot}_i

    Representations are never built: rows of d numbers, the features times a square root of the
    texts' Gram matrix, have the same inner products.

    Some ensembles of scikit-learn (VotingClassifier, StackingClassifier, BaggingClassifier) replace
    labels by their places in sorted order. In these, use a coder whose class names are sorted, and
    labels of all classes.

    Parameters
    ----------
    coder : Coder
    class_weights : tensor or array [C, d], optional
        W, unit rows. Default: the name texts of ``coder``.
    alpha, beta : float
        Until `tune` chooses others. Default: 1 each.
    kinds : iterable of str
        Which texts count; the authors use no synonyms.
    affinity : "min-max" or "cosine"
        "cosine": A itself, which lies near 1 for all images.
    weighting : "text" or "class"
        "class": each text counts 1 over the number of texts of its class. Not in the paper.
    centre : bool
        Subtract the mean representation of the support images from all, and scale the result to
        unit length. Not in the paper.

    Attributes
    ----------
    alpha_, beta_ : float
        What is used: as given, or as chosen by `tune`.
    classes_ : array [C]
        0 to C - 1; where `fit` was given names of the coder's classes, these, sorted.
    n_features_in_ : int
        d

    Examples
    --------
    >>> import torch
    >>> from fastclip.coder import ClassTexts, Coder, CoderAdapter, OneClass
    >>> known = ClassTexts((OneClass("cat", attributes=("whiskers",)), OneClass("dog")))
    >>> adapter = CoderAdapter(Coder(known, torch.eye(3, 4)))
    >>> support = torch.tensor([[0.6, 0.8, 0.0, 0.0], [0.6, 0.0, 0.8, 0.0]])
    >>> adapter = adapter.fit(support, torch.tensor([0, 1]))
    >>> adapter.class_scores(support[:1])  # 100 * 0.8 + 1, exp(-1)
    tensor([[81.0000,  0.3679]])
    >>> adapter.fit(support.tolist(), ["cat", "dog"]).predict(support[:1].tolist()).tolist()
    ['cat']
    """

    def __init__(
        self,
        coder: Coder,
        class_weights: Array | None = None,
        *,
        alpha: SupportsFloat = 1.0,
        beta: SupportsFloat = 1.0,
        kinds: Iterable[str] = ("attribute", "sentence", "analogous", "name"),
        affinity: Affinity = "min-max",
        weighting: Weighting = "text",
        centre: bool = False,
    ) -> None:
        self.coder = coder
        self.class_weights = class_weights
        self.alpha = alpha
        self.beta = beta
        self.kinds = kinds
        self.affinity = affinity
        self.weighting = weighting
        self.centre = centre

    @property
    def _min_max(self) -> bool:
        return self.affinity == "min-max"

    def _labels_for(self, y: Array) -> Any:
        return self.coder.class_names if is_text(y) else None

    def _width(self) -> int:
        return self.coder.features.shape[1]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.coder, Coder):
            raise TypeError(f"coder: a Coder is needed, got {type(self.coder).__name__}")
        check_choice("affinity", self.affinity, ("min-max", "cosine"))
        checked_kinds(self.kinds)

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        gram = self.coder.gram(self.kinds, weighting=self.weighting)
        values, vectors = torch.linalg.eigh(gram)
        self._root = vectors * values.clamp(min=0).sqrt()
        self._mean = torch.zeros_like(self._root[0])
        if self.centre:
            self._mean = torch.nn.functional.normalize(images.double() @ self._root, dim=1).mean(0)
        if self.class_weights is None:
            return self.coder.name_weights()
        return unit_images(
            "class_weights", float_rows("class_weights", self.class_weights), self._width()
        ).float()

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        rows = torch.nn.functional.normalize(images.double() @ self._root, dim=1)
        if not self.centre:
            return rows
        return torch.nn.functional.normalize(rows - self._mean, dim=1)
