"""What CODER-Adapter and Tip-Adapter share: a cache of labelled images beside CLIP's classifier."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat

import torch

from fastclip.coder._classifier import Classifier
from fastclip.coder.search import Grid, Search, checked_grid, search
from fastclip.data.checks import check_choice
from fastclip.engine.checks import Array, as_number, check_some_rows
from fastclip.ops import cache_logits, similarity, topk

if TYPE_CHECKING:
    from typing_extensions import Self

_SCALE = 100.0  # of CLIP's logits
_ROWS = 2048  # images whose representations are held at a time


class CacheModel(Classifier):
    """Scores are ``100 x . W + alpha * cache``; how images are compared is up to subclasses."""

    alpha: SupportsFloat
    beta: SupportsFloat
    _last = "beta_"

    @abstractmethod
    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Learn what is needed of the support images; return W, float32 [C, d]."""

    @abstractmethod
    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return what images are compared by: unit rows, float64 [N, e]."""

    @abstractmethod
    def _labels_for(self, y: Array) -> Any:
        """Return the label of each row of W, or None: ``y`` holds their numbers."""

    @property
    def _min_max(self) -> bool:
        """Whether the affinities of an image are stretched to 0 to 1."""
        return False

    def fit(self, X: Array, y: Array) -> Self:
        """Keep the support images as the cache.

        Parameters
        ----------
        X : tensor, array, list of lists or DataFrame [M, d], unit rows
            M >= 1; of `support_features`, which averages over augmentations, or plain ones.
            float32, float16 and bfloat16 as they are; else converted to float32.
        y : labels [M]
            Numbers from 0 to C - 1, or labels of the classes. A class may have none.

        Raises
        ------
        TypeError, ValueError
            Rows are of another length, no unit rows or none, labels are unknown, or a parameter is
            not allowed.
        """
        self._check_parameters()
        images = self._images(X, fitting=True)
        weights = self._prepare(images)
        order = self._set_classes(self._labels_for(y), len(weights))
        self._weights = weights[order.to(weights.device)]
        self._support = self._codes(y, images)
        self._keys = self._embed(images)
        # Subtracting one vector from all keys changes all affinities of an image by one number,
        # which min-max takes away; without it float32 would hold the differences badly.
        self._centre = self._keys.mean(0) if self._min_max else torch.zeros_like(self._keys[0])
        self._values = torch.nn.functional.one_hot(self._support, len(self._weights)).float()
        self._tuned_on: frozenset[bytes] = frozenset()
        self._tuned_on_test = False
        self.alpha_ = as_number("alpha", self.alpha)
        self.beta_ = as_number("beta", self.beta)
        return self

    def tune(
        self,
        X: Array,
        y: Array,
        *,
        split: str = "validation",
        grid: Grid | Sequence[Any] = Grid(),  # noqa: B008, a constant
    ) -> Search:
        """Set ``alpha_`` and ``beta_`` to the pair of the grid that is right most often.

        The grid is searched on the CPU; affinities of features on a CUDA device are computed there.

        Parameters
        ----------
        X : [N, d], unit rows, N >= 1
        y : labels [N]
        split : "validation" or "test"
            What these images are. After "validation", `score` refuses these images. "test" is what
            the authors do for ImageNet: the accuracy on them is then no estimate of any other.
        grid : Grid
            Which pairs are tried.

        Returns
        -------
        Search
            The pair, its accuracy, and how many images each pair gets right.

        Raises
        ------
        TypeError, ValueError
            As in `fit`; there are no images, or ``split`` is neither word.
        """
        check_choice("split", split, ("validation", "test"))
        tried = checked_grid(grid)
        images = self._images(X)
        check_some_rows("X", images)
        truth = self._codes(y, images)
        embedded = self._embed(images)
        keys = self._keys - self._centre

        def affinities(rows: slice) -> torch.Tensor:
            found = embedded[rows] @ keys.T
            if not self._min_max:
                return found
            low, high = found.amin(1, keepdim=True), found.amax(1, keepdim=True)
            return found.sub_(low).div_(high - low).masked_fill_(high == low, 1.0)

        zero_shot = _SCALE * (images.double() @ self._weights.double().T)
        found = search(
            zero_shot.cpu(),
            lambda rows: affinities(rows).cpu(),
            truth.cpu(),
            self._support.cpu(),
            tried,
        )
        self.alpha_, self.beta_ = found.alpha, found.beta
        self._tuned_on = frozenset(fingerprints(images))
        self._tuned_on_test = split == "test"
        return found

    def score(self, X: Array, y: Array, sample_weight: Array | None = None) -> float:
        """Return the share of the images whose class is right.

        Parameters
        ----------
        X : [N, d], unit rows, N >= 1
        y : labels [N]
        sample_weight : [N], optional
            How much each image counts.

        Raises
        ------
        ValueError
            alpha and beta were chosen on some of these images as a validation split.
        """
        images = self._images(X)
        if self._tuned_on and not self._tuned_on_test:
            known = sum(row in self._tuned_on for row in fingerprints(images))
            if known:
                raise ValueError(
                    f"X: alpha and beta were chosen on {known} of these {len(images)} images; tune "
                    "on others, or say split='test' there"
                )
        return super().score(X, y, sample_weight)

    def _class_scores(self, images: torch.Tensor) -> torch.Tensor:
        """Memory does not grow with the number of support images.

        `fastclip.cache_logits`, whose error holds here, with the affinities' minimum and maximum
        by `fastclip.topk`.
        """
        scores = _SCALE * similarity(images, self._weights)
        for start in range(0, len(images), _ROWS):
            rows = slice(start, start + _ROWS)
            scores[rows] += self.alpha_ * self._cache(images[rows])
        return scores

    def _cache(self, images: torch.Tensor) -> torch.Tensor:
        queries, keys = self._embed(images), (self._keys - self._centre).float()
        if not self._min_max:
            return cache_logits(queries.float(), keys, self._values, self.beta_)
        low = -topk(-queries.float(), keys, 1).values.double()
        high = topk(queries.float(), keys, 1).values.double()
        spread = torch.where(high > low, high - low, 1.0)
        queries = torch.where(high > low, queries, 0.0)
        # (q . k - low) / (high - low) as one inner product
        offset = torch.where(high > low, -low / spread, 1.0)
        queries = torch.cat([queries / spread, offset], 1).float()
        keys = torch.cat([keys, torch.ones_like(keys[:, :1])], 1)
        return cache_logits(queries, keys, self._values, self.beta_)

    def _check_parameters(self) -> None:
        as_number("alpha", self.alpha)
        as_number("beta", self.beta)


def fingerprints(images: torch.Tensor) -> list[bytes]:
    """Equal rows have equal fingerprints, and no others."""
    rows = images.float().cpu().contiguous().numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
