"""Tip-Adapter, the cache model on CLIP's own features: the baseline of CODER-Adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

import torch

from fastclip._estimator import float_rows
from fastclip.coder._cache import CacheModel
from fastclip.coder._classifier import is_text
from fastclip.coder.representation import unit_images
from fastclip.engine.checks import Array
from fastclip.ops import cache_logits, similarity

if TYPE_CHECKING:
    from typing_extensions import Self


class TipAdapter(CacheModel):
    r"""Classify images by CLIP and by the labels of the nearest of few images.

    .. math:: 100 \, x \cdot W + \alpha \sum_i \exp(-\beta (1 - x \cdot s_i)) \, \mathrm{onehot}_i

    (Zhang et al., ECCV 2022.)

    Some ensembles of scikit-learn (VotingClassifier, StackingClassifier, BaggingClassifier) replace
    labels by their places in sorted order. In these, give W in the order of sorted labels, labels
    of all classes, and no ``classes``.

    Parameters
    ----------
    class_weights : tensor or array [C, d]
        W, unit rows: `Coder.name_weights`, or `Model.encode_text` with templates.
    alpha, beta : float
        Until `tune` chooses others.
    classes : sequence of C labels, optional
        What each row of W is called in labels, such as the names of the classes. Default: 0 to
        C - 1.

    Attributes
    ----------
    alpha_, beta_ : float
        What is used: as given, or as chosen by `tune`.
    classes_ : array [C]
        The labels, sorted: the order of the columns of scores.
    n_features_in_ : int
        d

    Examples
    --------
    >>> import torch
    >>> from fastclip.coder import TipAdapter
    >>> adapter = TipAdapter(torch.eye(2), alpha=10).fit(torch.eye(2), torch.tensor([1, 0]))
    >>> adapter.class_scores(torch.tensor([[0.6, 0.8]]))  # exp(-0.4), exp(-0.2)
    tensor([[68.1873, 86.7032]])
    >>> named = TipAdapter(torch.eye(2), classes=["dog", "cat"])
    >>> named.fit([[1.0, 0.0], [0.0, 1.0]], ["dog", "cat"]).predict([[0.6, 0.8]]).tolist()
    ['cat']
    """

    def __init__(
        self,
        class_weights: Array,
        *,
        alpha: SupportsFloat = 1.0,
        beta: SupportsFloat = 1.0,
        classes: Sequence[Any] | Array | None = None,
    ) -> None:
        self.class_weights = class_weights
        self.alpha = alpha
        self.beta = beta
        self.classes = classes

    def _labels_for(self, y: Array) -> Any:
        if self.classes is None and is_text(y):
            raise ValueError(
                "y: holds names; pass classes=NAMES to the constructor, one per row of "
                "class_weights, in their order"
            )
        return self.classes

    def _width(self) -> int:
        return float_rows("class_weights", self.class_weights).shape[1]

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        weights = float_rows("class_weights", self.class_weights)
        return unit_images("class_weights", weights, self._width()).float()

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        return images.double()


class TipAdapterF(TipAdapter):
    """Tip-Adapter with keys that are trained: cross-entropy of the support images, by AdamW.

    Parameters
    ----------
    class_weights, alpha, beta, classes
        As in `TipAdapter`.
    epochs : int, at least 0
    learning_rate : float
        At first; it falls to 0 along a cosine.
    batch_size : int, at least 1
    seed : int
        Seed of the order of the images.
    """

    def __init__(
        self,
        class_weights: Array,
        *,
        alpha: SupportsFloat = 1.0,
        beta: SupportsFloat = 1.0,
        classes: Sequence[Any] | Array | None = None,
        epochs: SupportsIndex = 20,
        learning_rate: float = 1e-3,
        batch_size: SupportsIndex = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(class_weights, alpha=alpha, beta=beta, classes=classes)
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.seed = seed

    def fit(self, X: Array, y: Array) -> Self:
        """Keep the support images and train the keys on them; see `TipAdapter`."""
        super().fit(X, y)
        images, truth = self._keys.float(), self._support
        zero_shot = 100 * similarity(images, self._weights)
        keys = torch.nn.Parameter(images.clone())
        size = int(self.batch_size)
        steps = max(1, int(self.epochs) * -(-len(images) // size))
        optimizer = torch.optim.AdamW([keys], lr=self.learning_rate, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.enable_grad():
            for _ in range(int(self.epochs)):
                for rows in torch.randperm(len(images), generator=generator).split(size):
                    cache = cache_logits(images[rows], keys, self._values, self.beta_)
                    logits = zero_shot[rows] + self.alpha_ * cache
                    loss = torch.nn.functional.cross_entropy(logits, truth[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
        self._keys = keys.detach().double()
        return self
