"""What CODER-Adapter and Tip-Adapter share: a cache of labelled images beside CLIP's classifier."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat

import torch

from fastclip.coder._estimator import Estimator
from fastclip.coder.representation import unit_images
from fastclip.coder.search import Grid, Search, checked_grid, search
from fastclip.data.checks import check_choice
from fastclip.engine.checks import Array, as_indices, as_number, check_range, check_some_rows
from fastclip.ops import cache_logits, similarity, topk

if TYPE_CHECKING:
    from typing_extensions import Self

_SCALE = 100.0  # of CLIP's logits
_ROWS = 2048  # images whose representations are held at a time


class CacheModel(Estimator):
    """Scores are ``100 x . W + alpha * cache``; how images are compared is up to subclasses."""

    alpha: SupportsFloat
    beta: SupportsFloat

    @abstractmethod
    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Learn what is needed of the support images; return W, float32 [C, d]."""

    @abstractmethod
    def _embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return what images are compared by: unit rows, float64 [N, e]."""

    @property
    def _min_max(self) -> bool:
        """Whether the affinities of an image are stretched to 0 to 1."""
        return False

    def fit(self, support_features: Array, labels: Array) -> Self:
        """Keep the support images as the cache.

        Parameters
        ----------
        support_features : tensor or array [M, d], float32, float16 or bfloat16, unit rows
            M >= 1; of `support_features`, which averages over augmentations, or plain ones.
        labels : integer tensor or array [M]
            From 0 to C - 1.

        Raises
        ------
        TypeError, ValueError
            Rows are of another length, no unit rows or none, labels are out of range, or a
            parameter is not allowed.
        """
        self._check_parameters()
        images = unit_images("support_features", support_features, self._width())
        check_some_rows("support_features", images)
        self._weights = self._prepare(images)
        self._labels = as_indices("labels", labels, len(images), images.device)
        check_range("labels", self._labels, len(self._weights), "classes")
        self._keys = self._embed(images)
        # Subtracting one vector from all keys changes all affinities of an image by one number,
        # which min-max takes away; without it float32 would hold the differences badly.
        self._centre = self._keys.mean(0) if self._min_max else torch.zeros_like(self._keys[0])
        self._values = torch.nn.functional.one_hot(self._labels, len(self._weights)).float()
        self.classes_ = torch.arange(len(self._weights)).numpy()
        self.n_features_in_ = images.shape[1]
        self._tuned_on: frozenset[bytes] = frozenset()
        self._tuned_on_test = False
        return self

    def tune(
        self,
        image_features: Array,
        labels: Array,
        *,
        split: str = "validation",
        grid: Grid | Sequence[Any] = Grid(),  # noqa: B008, a constant
    ) -> Search:
        """Set alpha and beta to the pair of the grid that is right most often.

        The grid is searched on the CPU; affinities of features on a CUDA device are computed there.

        Parameters
        ----------
        image_features : tensor or array [N, d], unit rows, N >= 1
        labels : integer tensor or array [N]
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
        images, truth = self._labelled(image_features, labels)
        check_some_rows("image_features", images)
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
            self._labels.cpu(),
            tried,
        )
        self.alpha, self.beta = found.alpha, found.beta
        self._tuned_on = frozenset(fingerprints(images))
        self._tuned_on_test = split == "test"
        return found

    def decision_function(self, image_features: Array) -> torch.Tensor:
        """Return the scores of all classes, [N, C] float32.

        Memory does not grow with the number of support images: `fastclip.cache_logits`, whose
        error holds here, with the affinities' minimum and maximum by `fastclip.topk`.
        """
        self._check_parameters()
        images = self._checked(image_features)
        scores = _SCALE * similarity(images, self._weights)
        for start in range(0, len(images), _ROWS):
            rows = slice(start, start + _ROWS)
            scores[rows] += float(self.alpha) * self._cache(images[rows])
        return scores

    def predict(self, image_features: Array) -> torch.Tensor:
        """Return the class of each image, [N] int64."""
        return self.decision_function(image_features).argmax(1)

    def predict_proba(self, image_features: Array) -> torch.Tensor:
        """Return the softmax of the scores, [N, C] float32."""
        return self.decision_function(image_features).softmax(1)

    def score(self, image_features: Array, labels: Array) -> float:
        """Return the share of the images whose class is right.

        Raises
        ------
        ValueError
            alpha and beta were chosen on some of these images as a validation split.
        """
        images, truth = self._labelled(image_features, labels)
        check_some_rows("image_features", images)
        if self._tuned_on and not self._tuned_on_test:
            known = sum(row in self._tuned_on for row in fingerprints(images))
            if known:
                raise ValueError(
                    f"image_features: alpha and beta were chosen on {known} of these "
                    f"{len(images)} images; tune on others, or say split='test' there"
                )
        return float((self.predict(images) == truth).double().mean())

    def _cache(self, images: torch.Tensor) -> torch.Tensor:
        queries, keys = self._embed(images), (self._keys - self._centre).float()
        if not self._min_max:
            return cache_logits(queries.float(), keys, self._values, self.beta)
        low = -topk(-queries.float(), keys, 1).values.double()
        high = topk(queries.float(), keys, 1).values.double()
        spread = torch.where(high > low, high - low, 1.0)
        queries = torch.where(high > low, queries, 0.0)
        # (q . k - low) / (high - low) as one inner product
        offset = torch.where(high > low, -low / spread, 1.0)
        queries = torch.cat([queries / spread, offset], 1).float()
        keys = torch.cat([keys, torch.ones_like(keys[:, :1])], 1)
        return cache_logits(queries, keys, self._values, self.beta)

    def _check_parameters(self) -> None:
        as_number("alpha", self.alpha)
        as_number("beta", self.beta)

    @abstractmethod
    def _width(self) -> int:
        """Return d."""

    def _checked(self, image_features: Array) -> torch.Tensor:
        self.check_fitted("n_features_in_")
        return unit_images("image_features", image_features, self.n_features_in_)

    def _labelled(self, image_features: Array, labels: Array) -> tuple[torch.Tensor, torch.Tensor]:
        images = self._checked(image_features)
        truth = as_indices("labels", labels, len(images), images.device)
        check_range("labels", truth, len(self._weights), "classes")
        return images, truth


def fingerprints(images: torch.Tensor) -> list[bytes]:
    """Equal rows have equal fingerprints, and no others."""
    rows = images.float().cpu().contiguous().numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
