"""Metrics of torchmetrics for what functions ask about all data at once: batch by batch."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch

from fastclip.data.checks import check_choice
from fastclip.engine.checks import Array, as_tensor
from fastclip.metrics._inputs import (
    as_groups,
    as_inputs,
    check_grouped,
    check_same_width,
    finite_rows,
    group_without_image,
    images_of,
    within_groups,
)
from fastclip.metrics._metric import ExactMetric, Scores
from fastclip.metrics.compositionality import OUTCOMES, item_scores
from fastclip.metrics.openness._outcomes import Outcomes, outcomes
from fastclip.metrics.openness.expansion import as_orders, as_seed, expansion_of
from fastclip.metrics.retrieval import as_ks, retrieval

_OPENNESS = ("acc_c", "acc_e", "acc_s", "acc_full", "delta_e", "delta_s")


class RetrievalRecall(ExactMetric):
    """Recall at k of texts for images and of images for texts: `fastclip.metrics.retrieval`.

    The features of all images and texts are kept, since each is searched among all: memory grows
    by ``d`` numbers per image and text in the dtype they are given in, and 8 bytes per image. Over
    ranks, ``compute`` gives each the features of all, and uses some four times as much memory
    while these travel. No matrix of similarities is made.

    The result is that of ``retrieval`` on all features in the order of updates and ranks, the texts
    of a batch in the order of their images. Order matters for equal scores alone.

    ``forward`` searches within the batch, and copies all that was kept so far: call ``update``.
    Needs ``pip install 'fastclip-kernels[metrics]'``.

    Parameters
    ----------
    ks : iterable of int, each >= 1
    captions : "best" or "each"
        As in `fastclip.metrics.retrieval`.
    **kwargs
        Those of `torchmetrics.Metric`; ``compute_on_cpu=True`` keeps features there.

    Raises
    ------
    TypeError, ValueError
        A k is no integer or below 1, or ``captions`` is neither word.

    Examples
    --------
    >>> import fastclip
    >>> from fastclip.metrics import RetrievalRecall
    >>> images = fastclip.data.load_sample("coco-images").normalized().features
    >>> captions = fastclip.data.load_sample("coco-captions").normalized().features
    >>> metric = RetrievalRecall(ks=(1, 5))
    >>> for start in range(0, 500, 100):
    ...     metric.update(images[start : start + 100], captions[start : start + 100])
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'image_to_text_R@1': 0.552, 'image_to_text_R@5': 0.808,
     'text_to_image_R@1': 0.506, 'text_to_image_R@5': 0.766}
    """

    higher_is_better = True
    plot_lower_bound, plot_upper_bound = 0.0, 1.0
    image_rows: list[torch.Tensor]

    def __init__(
        self,
        ks: Iterable[SupportsIndex] = (1, 5, 10),
        *,
        captions: Literal["best", "each"] = "best",
        **kwargs: Any,
    ) -> None:
        check_choice("captions", captions, ("best", "each"))
        super().__init__(**kwargs)
        self._ks, self._captions = as_ks(ks), captions
        for name in ("image_rows", "text_rows", "texts_of_image"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self, image_features: Array, text_features: Array, image_of_text: Array | None = None
    ) -> None:
        """Take images and the texts that describe them.

        Parameters
        ----------
        image_features : tensor or array [B, d], float32, float16 or bfloat16
            Normalise them for cosines.
        text_features : tensor or array [V, d], float32, float16 or bfloat16
        image_of_text : integer tensor or array [V], optional
            The row of this batch's image that each text describes; every image has at least one
            text. Default: text i describes image i, and V = B.

        Raises
        ------
        TypeError, ValueError
            As `fastclip.metrics.retrieval`, or rows are not as long as those before.
        """
        images = finite_rows("image_features", image_features)
        texts = finite_rows("text_features", text_features)
        check_same_width("text_features", texts, images)
        if self.image_rows and images.shape[1] != self.image_rows[0].shape[1]:
            raise ValueError(
                f"image_features: rows must be as long as those of updates before, "
                f"got {images.shape[1]} and {self.image_rows[0].shape[1]}"
            )
        of_text = images_of("image_of_text", image_of_text, images, len(texts))
        counts = torch.bincount(of_text, minlength=len(images))
        if (counts == 0).any():
            raise ValueError(
                f"image_of_text: every image needs a text, {int(counts.argmin())} has none"
            )
        if image_of_text is not None:
            texts = texts[of_text.argsort(stable=True)]
        self._keep(image_rows=images, text_rows=texts, texts_of_image=counts)

    def compute(self) -> Scores:
        """Return ``image_to_text_R@k`` and ``text_to_image_R@k`` for each k, float64.

        Raises
        ------
        ValueError
            No image was given.
        """
        images, texts = self._joined("image_rows"), self._joined("text_rows")
        self._require(len(images) > 0, "update: no images were given, needed: at least one")
        recalls = dict.fromkeys(("image_to_text", "text_to_image"), dict.fromkeys(self._ks, np.nan))
        if len(images):
            counts = self._joined("texts_of_image")
            of_text = torch.arange(len(images), device=counts.device).repeat_interleave(counts)
            found = retrieval(images, texts, of_text, ks=self._ks, captions=self._captions)
            recalls = {way: summary.recall for way, summary in found._asdict().items()}
        return Scores(
            {
                f"{way}_R@{k}": torch.tensor(share, dtype=torch.float64, device=self.device)
                for way, recall in recalls.items()
                for k, share in recall.items()
            }
        )


class HardPositives(ExactMetric):
    """Whether captions and hard positives both beat hard negatives: `hard_positive_scores`.

    Only nine numbers are kept: the number of items, and the sums of their outcomes. Fractions equal
    those of `fastclip.metrics.hard_positive_scores` on all items to the bit. ``score_change`` is a
    float64 sum: splitting N items into other updates or ranks changes it by less than N * 2^-52 of
    its value. Bootstrap intervals need all items and are left to the function; for categories, use
    one metric each.

    Needs ``pip install 'fastclip-kernels[metrics]'``.

    Parameters
    ----------
    **kwargs
        Those of `torchmetrics.Metric`.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import HardPositives
    >>> metric = HardPositives()
    >>> texts = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.5, 0.1], [0.0, 0.7], [0.0, 0.3], [0, 0.4]])
    >>> for image, own in zip(torch.eye(2), texts.split(3)):
    ...     metric.update(image[None], own[:1], own[1:2], own[2:])
    >>> found = metric.compute()
    >>> float(found.original_accuracy), float(found.augmented_accuracy), float(found.brittleness)
    (1.0, 0.5, 0.5)
    """

    item_count: torch.Tensor
    outcome_sums: torch.Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("item_count", torch.tensor(0), dist_reduce_fx="sum")
        sums = torch.zeros(len(OUTCOMES), dtype=torch.float64)
        self.add_state("outcome_sums", sums, dist_reduce_fx="sum")

    def update(
        self,
        image_features: Array,
        captions: Array,
        hard_positives: Array | Sequence[Any] | None,
        hard_negatives: Array | Sequence[Any],
        *,
        text_features: Array | None = None,
        image_of_item: Array | None = None,
    ) -> None:
        """Take items; arguments and errors are those of `hard_positive_scores`.

        Without ``hard_positives`` in any update, all but ``original_accuracy`` is NaN.
        """
        found = item_scores(
            image_features, captions, hard_positives, hard_negatives, text_features, image_of_item
        )
        values = found.outcomes()
        self.item_count = self.item_count + len(values)
        self.outcome_sums = self.outcome_sums + torch.from_numpy(values.sum(0)).to(self.device)

    def compute(self) -> Scores:
        """Return the measures of all items so far, float64, by their names in
        `fastclip.metrics.HardPositiveSummary`.

        Raises
        ------
        ValueError
            No item was given.
        """
        self._require(bool(self.item_count), "update: no items were given, needed: at least one")
        means = self.outcome_sums / self.item_count
        return Scores(zip(OUTCOMES, means, strict=True))


class Openness(ExactMetric):
    """Accuracy while groups of classes join the vocabulary (Ren et al.): `vocabulary_expansion`.

    Features are not kept. Each image adds its class and which groups of classes beat it, which is
    8 + (M + 8) // 8 bytes with M groups. ``compute`` takes the expectation over all orders of
    groups, or over drawn ones, as `fastclip.metrics.openness.vocabulary_expansion` does with
    protocol "exact" and the best of several prompts. The results equal those of the function on
    all images, except for the order in which float64 numbers are added: differences stay below
    1e-12.

    Every group needs an image, so ``forward`` returns NaN for most batches: call ``update``.
    Needs ``pip install 'fastclip-kernels[metrics]'``. The report that
    `fastclip.metrics.openness.measure_openness` returns has the same name.

    Parameters
    ----------
    groups : integer tensor or array [C]
        The group of each class, 0 to M - 1, M >= 2; -1: in no group.
    permutations : "all" or int >= 1
    seed : int, 0 to 2^32 - 1
        As in `vocabulary_expansion`.
    **kwargs
        Those of `torchmetrics.Metric`.

    Raises
    ------
    TypeError, ValueError
        An argument has a wrong type or is out of range, or a group has no class.

    Examples
    --------
    >>> import torch
    >>> from fastclip.metrics import Openness
    >>> classes, images = torch.eye(4), torch.eye(4)
    >>> images[2] = torch.tensor([0.0, 0.9, 0.4, 0.0])
    >>> metric = Openness(groups=torch.tensor([0, 0, 1, 1]))
    >>> for half in torch.arange(4).split(2):
    ...     metric.update(images[half], half, classes)
    >>> found = metric.compute()
    >>> float(found.acc_c), float(found.acc_e), float(found.acc_s), float(found.delta_s)
    (1.0, 0.875, 0.75, -0.25)
    """

    higher_is_better = True
    plot_upper_bound = 1.0
    _constants = ("class_groups",)
    class_groups: torch.Tensor

    def __init__(
        self,
        groups: Array,
        *,
        permutations: Literal["all"] | SupportsIndex = "all",
        seed: SupportsIndex = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._orders, self._seed = as_orders(permutations), as_seed(seed)
        given = as_tensor("groups", groups, "np.int64")
        ids = as_groups(given, given.numel(), given.device)
        self.add_state("class_groups", ids.to(self.device), dist_reduce_fx="max")
        self.add_state("image_classes", [], dist_reduce_fx="cat")
        self.add_state("image_outcomes", [], dist_reduce_fx="cat")

    def update(self, image_features: Array, labels: Array, class_features: Array) -> None:
        """Take images of some classes.

        Parameters
        ----------
        image_features : tensor or array [B, d], float32, float16 or bfloat16, B >= 1
        labels : integer tensor or array [B]
            The class of each image; it is in a group.
        class_features : tensor or array [C, d], or [C, P, d] with P prompts per class
            Of all classes, by the same model in every update.

        Raises
        ------
        TypeError, ValueError
            As `vocabulary_expansion`.
        """
        inputs = as_inputs(image_features, labels, class_features)
        if inputs.classes != len(self.class_groups):
            raise ValueError(
                f"class_features: {len(self.class_groups)} classes are needed, as many as have "
                f"a group, got {inputs.classes}"
            )
        ids = self.class_groups.to(inputs.labels.device)
        check_grouped(inputs.labels, ids)
        found = outcomes(*within_groups(inputs, ids), None)
        bits = np.packbits(np.column_stack([found.bad, found.ok]), axis=1)
        self._keep(image_classes=inputs.labels, image_outcomes=torch.from_numpy(bits))

    def compute(self) -> Scores:
        """Return ``acc_c``, ``acc_e``, ``acc_s``, ``acc_full``, ``delta_e`` and ``delta_s``,
        float64, which `fastclip.metrics.openness.VocabularyExpansion` explains.

        Raises
        ------
        ValueError
            A group has no image, or no image was given; or as `vocabulary_expansion` of
            ``permutations``.
        """
        found = self._outcomes()
        missing = found is None or (found.sizes == 0).any()
        self._require(
            not missing,
            "update: no images were given, needed: some of every group"
            if found is None
            else group_without_image(torch.from_numpy(found.sizes)),
        )
        if found is None or missing:
            values = [np.nan] * len(_OPENNESS)
        else:
            expansion = expansion_of(found, self._orders, self._seed)
            values = [getattr(expansion, name) for name in _OPENNESS]
        return Scores(
            {
                name: torch.tensor(value, dtype=torch.float64, device=self.device)
                for name, value in zip(_OPENNESS, values, strict=True)
            }
        )

    def _outcomes(self) -> Outcomes | None:
        labels = self._joined("image_classes").cpu().numpy()
        if not len(labels):
            return None
        groups = self.class_groups.cpu().numpy()
        count = int(groups.max()) + 1
        packed = self._joined("image_outcomes").cpu().numpy()
        bits = np.unpackbits(packed, axis=1, count=count + 1).astype(bool)
        return Outcomes(groups[labels], labels, ok=bits[:, count], bad=bits[:, :count])
