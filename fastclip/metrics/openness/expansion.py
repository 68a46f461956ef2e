"""How accuracy changes while groups of classes join the vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, SupportsIndex

import numpy as np
import torch

from fastclip.data.checks import check_at_least, check_choice
from fastclip.engine.checks import Array, as_integer
from fastclip.engine.transforms import call
from fastclip.metrics._inputs import (
    Inputs,
    Prompts,
    as_class_groups,
    as_inputs,
    as_names,
    within_groups,
)
from fastclip.metrics.openness import _exact, _sampled
from fastclip.metrics.openness._outcomes import (
    Outcomes,
    as_outcomes,
    outcomes,
    unpacked,
    warn_of_shared,
)
from fastclip.ops.group_beats import group_beats as _group_beats  # noqa: F401  registers it

Protocol = Literal["exact", "authors"]


class ExpansionCurve(NamedTuple):
    """Accuracy by the number of groups in the vocabulary, from 1 to M; float64."""

    mean: torch.Tensor
    """[M]: over target groups and permutations."""
    std: torch.Tensor
    """[M]: the spread over these; NaN where it is unknown (see ``permutations``)."""
    by_group: torch.Tensor
    """[M, M]: the mean for each target group, a row each."""


@dataclass(frozen=True)
class VocabularyExpansion:
    """Result of :func:`vocabulary_expansion`; accuracies are fractions, tensors are float64.

    Attributes
    ----------
    acc_c, acc_e, acc_s : float
        Acc-C, each group alone; Acc-E, groups join with their images; Acc-S, groups join without.
    acc_full : float
        Accuracy of all images with all classes.
    group_acc_c, group_acc_e, group_acc_s : Tensor [M]
        The same for each target group; their plain means are the three above.
    extensibility, stability : ExpansionCurve
        What Acc-E and Acc-S are means of: all M points, and all but the first.
    standard_error_e, standard_error_s : float
        Of Acc-E and Acc-S over drawn permutations: 0 where all count, NaN with one per group.
    """

    acc_c: float
    acc_full: float
    group_acc_c: torch.Tensor
    extensibility: ExpansionCurve
    stability: ExpansionCurve
    standard_error_e: float
    standard_error_s: float

    @property
    def group_acc_e(self) -> torch.Tensor:
        return self.extensibility.by_group.mean(1)

    @property
    def group_acc_s(self) -> torch.Tensor:
        return self.stability.by_group[:, 1:].mean(1)

    @property
    def acc_e(self) -> float:
        return float(self.group_acc_e.mean())

    @property
    def acc_s(self) -> float:
        return float(self.group_acc_s.mean())

    @property
    def delta_e(self) -> float:
        """Acc-E less Acc-C."""
        return self.acc_e - self.acc_c

    @property
    def delta_s(self) -> float:
        """Acc-S less Acc-C."""
        return self.acc_s - self.acc_c

    @property
    def group_delta_e(self) -> torch.Tensor:
        """[M]: Acc-E less Acc-C of each target group."""
        return self.group_acc_e - self.group_acc_c

    @property
    def group_delta_s(self) -> torch.Tensor:
        """[M]: Acc-S less Acc-C of each target group."""
        return self.group_acc_s - self.group_acc_c


def vocabulary_expansion(
    image_features: Array,
    labels: Array,
    class_features: Array,
    groups: Array,
    *,
    permutations: Literal["all"] | SupportsIndex = "all",
    seed: SupportsIndex = 0,
    protocol: Protocol = "exact",
    prompts: Prompts = "max",
    class_names: Sequence[str] | None = None,
) -> VocabularyExpansion:
    r"""Return how accuracy changes while groups of classes join the vocabulary.

    Section 3 of Ren et al., *Delving into the Openness of CLIP*
    (`arXiv:2206.01986 <https://arxiv.org/abs/2206.01986>`_). From one target group :math:`V_i` on,
    the other groups join in an order :math:`\sigma`, so that
    :math:`U_{i,k} = V_i \cup V_{\sigma(1)} \cup \dots \cup V_{\sigma(k)}`, and

    .. math::
        \text{Acc-C} &= \operatorname{mean}_i \operatorname{Acc}(V_i) \\
        \text{Acc-E} &= \operatorname{mean}_{i, \sigma} \operatorname{mean}_{0 \le k < M}
            \operatorname{Acc}(U_{i,k}) \\
        \text{Acc-S} &= \operatorname{mean}_{i, \sigma} \operatorname{mean}_{1 \le k < M}
            \operatorname{Acc}(V_i \mid U_{i,k})

    :math:`\operatorname{Acc}(U)` is that of all images of classes in U, pooled;
    :math:`\operatorname{Acc}(V_i \mid U)` that of the images of the target, a mean over its classes
    that have images.
    An image is right if the exact score of its class (see :func:`fastclip.topk`) is the largest
    in the vocabulary; equal scores go to the class of lower index.

    Parameters
    ----------
    image_features : tensor or array [N, d], float32, float16 or bfloat16, N >= 1
    labels : integer tensor or array [N]
        The class of each image.
    class_features : tensor or array [C, d], or [C, P, d] with P prompts per class
        Features are compared as they are, so normalise them for cosines.
    groups : integer tensor or array [C]
        The group of each class, 0 to M - 1, M >= 2; every group has a class and an image. -1: in no
        group, so never in the vocabulary.
    permutations : "all" or int >= 1
        "all": the exact expectation over all (M - 1)! orders for each target, from closed forms
        where all groups have equally many images, else from the accuracy in each of the 2^M unions
        of groups. M is at most 24, or any number in the first case, but above 24 the
        spread of the first curve is then NaN. A number: as many random orders for each target.
    seed : int, 0 to 2^32 - 1
        Seed of the random orders; the paper's public script uses 42.
    protocol : "exact" or "authors"
        "authors": as the public script does it, with an int for ``permutations`` (it takes 3, or 2
        for three data sets). After the first order of a target, its first point
        of Acc-E is the accuracy with *all* groups, a variable that is used twice; equal scores go
        to the class whose group came first. Scores are exact, where the script has the
        model's precision.
    prompts : "max" or "mean"
        The score of a class with P prompts: that of its best one, or with the mean of their unit
        rows, scaled to unit length.
    class_names : sequence of C str, optional
        Classes of one name, in whatever groups, do not count against each other's images; a warning
        lists them. Not possible with "authors": the script pools their images.

    Returns
    -------
    VocabularyExpansion
        Beyond the inputs, C P (w + 12) bytes, w being d rounded up to a multiple of 64, about
        10 N M bytes, and with "all" up to 24 groups about 30 * 2^M bytes.

    Raises
    ------
    TypeError, ValueError
        As :func:`fastclip.metrics.similarity_histograms`, or permutations or seed is no integer.

    Warns
    -----
    UserWarning
        Classes share a name.

    Examples
    --------
    Four classes in two groups, an image of each. The third is nearer to class 1 than to its own.

    >>> import torch, fastclip
    >>> classes = torch.eye(4)
    >>> images = torch.eye(4)
    >>> images[2] = torch.tensor([0.0, 0.9, 0.4, 0.0])
    >>> found = fastclip.metrics.openness.vocabulary_expansion(
    ...     images, torch.arange(4), classes, groups=torch.tensor([0, 0, 1, 1])
    ... )
    >>> found.acc_c, found.acc_e, found.acc_s, found.acc_full
    (1.0, 0.875, 0.75, 0.75)
    """
    orders = as_orders(permutations, protocol)
    seed = as_seed(seed)
    inputs = as_inputs(image_features, labels, class_features, prompts)
    ids, _ = as_class_groups(groups, inputs)
    names = _names(class_names, ids)
    inputs, ids = within_groups(inputs, ids)
    shared = warn_of_shared(names)
    if shared and protocol == "authors":
        raise ValueError("protocol: 'authors' needs classes of different names")

    found = outcomes(inputs, ids, names)
    trials = None
    if protocol == "authors":
        assert orders is not None
        trials = _as_the_authors(inputs, ids, found, orders, seed)
    return expansion_of(found, orders, seed, trials)


def expansion_of(
    found: Outcomes, orders: int | None, seed: int, trials: _sampled.Trials | None = None
) -> VocabularyExpansion:
    """All figures that follow from the outcomes: of all orders, of as many as drawn, or given."""
    own = np.bincount(found.group, found.ok, minlength=found.groups) / found.sizes
    if orders is None:
        extensibility = _exact.extensibility(found)
        stability = _exact.stability(found)
        curves = [_curve(values.mean, values.std) for values in (extensibility, stability)]
        errors = [0.0, 0.0]
    else:
        trials = trials or _sampled.draw(found, orders, seed)
        curves = [_curve(values.mean(1), values.std((0, 1))) for values in trials]
        errors = [
            _standard_error(trials.extensibility.mean(2)),
            _standard_error(trials.stability[:, :, 1:].mean(2)),
        ]
    return VocabularyExpansion(
        acc_c=float(own.mean()),
        acc_full=float((found.ok & ~found.bad.any(1)).mean()),
        group_acc_c=torch.from_numpy(own),
        extensibility=curves[0],
        stability=curves[1],
        standard_error_e=errors[0],
        standard_error_s=errors[1],
    )


def as_orders(
    permutations: Literal["all"] | SupportsIndex, protocol: Protocol = "exact"
) -> int | None:
    """How many orders to draw; None for all."""
    check_choice("protocol", protocol, ("exact", "authors"))
    if isinstance(permutations, str):
        if permutations != "all":
            raise ValueError(f"permutations: must be 'all' or a number, got {permutations!r}")
        if protocol == "authors":
            raise ValueError("permutations: must be a number with protocol 'authors', got 'all'")
        return None
    orders = as_integer("permutations", permutations)
    check_at_least(1, permutations=orders)
    return orders


def as_seed(seed: SupportsIndex) -> int:
    number = as_integer("seed", seed)
    if not 0 <= number < 2**32:
        raise ValueError(f"seed: must be from 0 to 2^32 - 1, got {number}")
    return number


def _names(class_names: Sequence[str] | None, ids: torch.Tensor) -> list[str] | None:
    """The names of the classes that are in a group."""
    if class_names is None:
        return None
    names = as_names("class_names", class_names, len(ids))
    return [names[place] for place in (ids >= 0).nonzero()[:, 0].tolist()]


def _curve(by_group: _exact.Floats, std: _exact.Floats) -> ExpansionCurve:
    rows = torch.from_numpy(by_group)
    return ExpansionCurve(rows.mean(0), torch.from_numpy(std), rows)


def _standard_error(by_trial: _exact.Floats) -> float:
    """Standard error of the mean over targets of means over their trials, from [M, T]."""
    count, trials = by_trial.shape
    if trials < 2:
        return float("nan")
    variances = by_trial.var(1, ddof=1) / trials
    return float(np.sqrt(variances.sum()) / count)


def _as_the_authors(
    inputs: Inputs, ids: torch.Tensor, found: Outcomes, orders: int, seed: int
) -> _sampled.Trials:
    targets, scores = inputs.targets()
    of_keys = ids.repeat_interleave(inputs.prompts)
    better, level = (
        unpacked(
            call(
                "group_beats",
                inputs.images,
                inputs.keys,
                [],
                scores,
                # Equal scores count where the key's index is lower than this.
                torch.full_like(targets, ties),
                of_keys,
                found.groups,
            )[0],
            found.groups,
        )
        for ties in (0, len(inputs.keys))
    )
    found = found._replace(bad=as_outcomes(inputs, ids, better).bad)
    trials = _sampled.draw(found, orders, seed, level & ~better)
    _sampled.reuse_accuracy(trials)
    return trials
