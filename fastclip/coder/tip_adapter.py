"""Tip-Adapter, the cache model on CLIP's own features: the baseline of CODER-Adapter."""

from __future__ import annotations

from typing import SupportsFloat, SupportsIndex

import torch

from fastclip.coder._cache import CacheModel
from fastclip.coder.representation import unit_images
from fastclip.engine.checks import Array, as_indices
from fastclip.ops import cache_logits, similarity


class TipAdapter(CacheModel):
    r"""Classify images by CLIP and by the labels of the nearest of few images.

    .. math:: 100 \, x \cdot W + \alpha \sum_i \exp(-\beta (1 - x \cdot s_i)) \, \mathrm{onehot}_i

    (Zhang et al., ECCV 2022.)

    Parameters
    ----------
    class_weights : tensor or array [C, d]
        W, unit rows: `Coder.name_weights`, or `Model.encode_text` with templates.
    alpha, beta : float
        As chosen by `tune`.

    Examples
    --------
    >>> import torch
    >>> from fastclip.coder import TipAdapter
    >>> adapter = TipAdapter(torch.eye(2), alpha=10).fit(torch.eye(2), torch.tensor([1, 0]))
    >>> adapter.decision_function(torch.tensor([[0.6, 0.8]]))  # exp(-0.4), exp(-0.2)
    tensor([[68.1873, 86.7032]])
    """

    def __init__(
        self, class_weights: Array, *, alpha: SupportsFloat = 1.0, beta: SupportsFloat = 1.0
    ) -> None:
        self.class_weights = class_weights
        self.alpha = alpha
        self.beta = beta

    def _width(self) -> int:
        return int(self.class_weights.shape[1])

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        return unit_images("class_weights", self.class_weights, self._width()).float()

    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        return images.double()


class TipAdapterF(TipAdapter):
    """Tip-Adapter with keys that are trained: cross-entropy of the support images, by AdamW.

    Parameters
    ----------
    class_weights, alpha, beta
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
        epochs: SupportsIndex = 20,
        learning_rate: float = 1e-3,
        batch_size: SupportsIndex = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(class_weights, alpha=alpha, beta=beta)
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.seed = seed

    def fit(self, support_features: Array, labels: Array) -> TipAdapterF:
        """Keep the support images and train the keys on them; see `TipAdapter`."""
        super().fit(support_features, labels)
        images = unit_images("support_features", support_features, self._width()).float()
        truth = as_indices("labels", labels, len(images), images.device)
        zero_shot = 100 * similarity(images, self._weights)
        keys = torch.nn.Parameter(self._keys.float())
        size = int(self.batch_size)
        steps = max(1, int(self.epochs) * -(-len(images) // size))
        optimizer = torch.optim.AdamW([keys], lr=self.learning_rate, eps=1e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.enable_grad():
            for _ in range(int(self.epochs)):
                for rows in torch.randperm(len(images), generator=generator).split(size):
                    cache = cache_logits(images[rows], keys, self._values, self.beta)
                    logits = zero_shot[rows] + float(self.alpha) * cache
                    loss = torch.nn.functional.cross_entropy(logits, truth[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
        self._keys = keys.detach().double()
        return self
