"""Random permutations of groups, as the public script of the paper draws them."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastclip.metrics.openness._outcomes import Outcomes

Floats = npt.NDArray[np.float64]
Level = npt.NDArray[np.bool_]


class Trials(NamedTuple):
    """Accuracy with k other groups, for each target and trial: [M, T, M]."""

    extensibility: Floats
    stability: Floats


def draw(found: Outcomes, permutations: int, seed: int, level: Level | None = None) -> Trials:
    """Let the other groups arrive in random order, ``permutations`` times for each target.

    ``level``: [N, M], the groups with a class that is as good as the image's own. Where given,
    ``found.bad`` holds the better ones alone, and of equal ones the group that came first wins, as
    in the lists of classes that the script makes.
    """
    # The generator of the script: its numbers follow from its seed, 42.
    generator = np.random.RandomState(seed)
    count = found.groups
    weight = found.weight
    trials = Trials(*(np.empty((count, permutations, count)) for _ in range(2)))
    for target in range(count):
        others = np.delete(np.arange(count), target)
        own = found.group == target
        for trial in range(permutations):
            order = np.concatenate([[target], others[generator.permutation(count - 1)]])
            place = np.empty(count, np.int64)
            place[order] = np.arange(count)
            arrives = place[found.group]
            falls = _falls(found, place, level)
            right = _during(arrives, falls, count, None)
            images = found.sizes[order].cumsum()
            trials.extensibility[target, trial] = right / images
            trials.stability[target, trial] = _during(arrives[own], falls[own], count, weight[own])
    return trials


def _falls(
    found: Outcomes, place: npt.NDArray[np.int64], level: Level | None
) -> npt.NDArray[np.int64]:
    """[N]: the step from which on an image is wrong; one that is never right falls at 0."""
    bad = found.bad
    if level is not None:
        bad = bad | (level & (place < place[found.group][:, None]))
    first = np.where(bad, place, len(place)).min(1)
    return np.where(found.ok, first, 0)


def _during(
    arrives: npt.NDArray[np.int64],
    falls: npt.NDArray[np.int64],
    steps: int,
    weight: Floats | None,
) -> Floats:
    """[steps]: how many images, or which weight of them, are there and right at each step."""
    ever = arrives < falls
    chosen = None if weight is None else weight[ever]
    begins = np.bincount(arrives[ever], chosen, minlength=steps + 1)
    ends = np.bincount(falls[ever], chosen, minlength=steps + 1)
    right: Floats = (begins - ends).cumsum()[:steps].astype(np.float64)
    return right


def reuse_accuracy(trials: Trials) -> None:
    """Start each trial but a target's first with the last value of the trial before.

    The script's variable for the accuracy of the target alone still holds that with all groups.
    """
    values = trials.extensibility
    values[:, 1:, 0] = values[:, :-1, -1]
