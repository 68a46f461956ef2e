"""Expectations over all permutations of groups, without drawing one.

For a target group i, the other n = M - 1 groups arrive in random order. An image with b bad groups
survives the first k of them with probability C(n - b, k) / C(n, k).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastclip.metrics.openness._outcomes import Outcomes

MOST_GROUPS = 24
"""Up to here the accuracy in each of the 2^M unions is computed where it is needed."""

Floats = npt.NDArray[np.float64]

_LOW_BITS = 4
_PAIR_ROWS = 256  # of sets at a time: bounds the table of pairs


class Curves(NamedTuple):
    """Accuracy with k other groups, k = 0 to M - 1, for each target group."""

    mean: Floats
    """[M, M]: over the permutations, a row for each target."""
    std: Floats
    """[M]: over permutations and targets."""


def survival(others: int) -> Floats:
    """[n + 1, n + 1]: C(n - b, k) / C(n, k), a row for each b, a column for each k."""
    b, k = np.ogrid[: others + 1, 1 : others + 1]
    factors = np.maximum(others - b - k + 1, 0) / (others - k + 1)
    return np.hstack([np.ones((others + 1, 1)), np.cumprod(factors, axis=1)])


def stability(found: Outcomes) -> Curves:
    """Of the images of the target, the mean over its classes; any sizes of groups."""
    count = found.groups
    bad = found.bad.sum(1)
    table = survival(count - 1)
    share = found.weight * found.ok
    mean = np.empty((count, count))
    for target in range(count):
        own = found.group == target
        mean[target] = np.bincount(bad[own], share[own], minlength=count) @ table
    return Curves(mean, _stability_std(found, share, mean))


def extensibility(found: Outcomes) -> Curves:
    """Of the images of all present groups, pooled."""
    sizes = found.sizes
    check_possible(sizes)
    balanced = is_balanced(sizes)
    if found.groups > MOST_GROUPS:
        return Curves(extensibility_of_equal_groups(found), np.full(found.groups, np.nan))
    accuracy = union_accuracy(found)
    size = popcounts(found.groups)
    unions = np.bincount(size)[1:]
    mean_square = _by_size(size, accuracy**2)[1:] / unions
    variance = mean_square - (_by_size(size, accuracy)[1:] / unions) ** 2
    std = np.sqrt(np.maximum(variance, 0))
    if balanced:
        return Curves(extensibility_of_equal_groups(found), std)
    return Curves(extensibility_of_unions(accuracy, size), std)


def is_balanced(sizes: npt.NDArray[np.int64]) -> bool:
    return bool((sizes == sizes[0]).all())


def check_possible(sizes: npt.NDArray[np.int64]) -> None:
    """Check that groups of these numbers of images have an exact expectation."""
    if len(sizes) > MOST_GROUPS and not is_balanced(sizes):
        raise ValueError(
            f"permutations: 'all' is possible with up to {MOST_GROUPS} groups, or more if they "
            f"have equal numbers of images, got {len(sizes)} groups; give a number"
        )


def extensibility_of_equal_groups(found: Outcomes) -> Floats:
    """[M, M], in closed form, where all groups have equally many images.

    An image of another group h counts where h has arrived, which has probability k / n, and then
    survives the target, for certain there, and k - 1 of the n - 1 other groups.
    """
    count, others = found.groups, found.groups - 1
    bad = found.bad.sum(1)
    steps = np.arange(count)
    own = np.stack(
        [
            np.bincount(bad[members], minlength=count)
            for members in ((found.group == target) & found.ok for target in range(count))
        ]
    )
    survives = np.empty((count, count))
    for target in range(count):
        others_right = found.ok & (found.group != target) & ~found.bad[:, target]
        survives[target] = np.bincount(bad[others_right], minlength=count)
    later = np.zeros((count, count))  # row b, column k
    later[:others, 1:] = survival(others - 1)  # b is below n, the target is not among them
    later *= steps / others
    total = own @ survival(others) + survives @ later
    mean: Floats = total / ((steps + 1) * found.sizes[0])
    return mean


def union_accuracy(found: Outcomes) -> Floats:
    """[2^M]: the pooled accuracy in each union of groups, a bit for each; 0 for the empty one.

    An image is right in U if its bad groups are outside U and its own is not. The first condition
    less both it and "its own is outside" makes one table of subset sums, over what is outside.
    """
    codes = _codes(found.bad)[found.ok]
    with_own = codes | (1 << found.group[found.ok])
    unions = 1 << found.groups
    right = np.bincount(codes, minlength=unions).astype(np.float64)
    right -= np.bincount(with_own, minlength=unions)
    subset_sums(right)
    right = right[::-1]  # the outside of U is its complement
    images = np.zeros(1)
    for size in found.sizes:
        images = np.concatenate([images, images + size])
    images[0] = 1
    accuracy: Floats = right / images
    return accuracy


def extensibility_of_unions(accuracy: Floats, size: npt.NDArray[np.int64]) -> Floats:
    """[M, M]: means over the unions that hold the target, by their size."""
    count = len(accuracy).bit_length() - 1
    mean = np.empty((count, count))
    for target in range(count):
        with_target = (-1, 2, 1 << target)
        sizes = size.reshape(with_target)[:, 1].ravel()
        of_these = accuracy.reshape(with_target)[:, 1].ravel()
        mean[target] = _by_size(sizes, of_these)[1:] / np.bincount(sizes)[1:]
    return mean


def subset_sums(table: Floats) -> None:
    """Replace each entry of [2^M] by the sum over all subsets of its index, in place."""
    bits = len(table).bit_length() - 1
    low = min(bits, _LOW_BITS)
    index = np.arange(1 << low)
    inside = ((index[:, None] & ~index) == 0).astype(np.float64)  # one product, not short strides
    table[:] = (table.reshape(-1, 1 << low) @ inside).ravel()
    for bit in range(low, bits):
        halves = table.reshape(-1, 2, 1 << bit)
        halves[:, 1] += halves[:, 0]


def popcounts(bits: int) -> npt.NDArray[np.int64]:
    """[2^bits]: the number of bits of each index."""
    counts = np.zeros(1, np.int64)
    for _ in range(bits):
        counts = np.concatenate([counts, counts + 1])
    return counts


def _stability_std(found: Outcomes, share: Floats, mean: Floats) -> Floats:
    """From mean squares: two images are right together where neither's bad groups are there."""
    table = survival(found.groups - 1)
    mean_square = np.zeros(found.groups)
    for target in range(found.groups):
        own = (found.group == target) & found.ok
        sets, place = np.unique(found.bad[own], axis=0, return_inverse=True)
        weight = _by_size(place.ravel(), share[own], len(sets))
        mean_square += _pairs_by_bad(sets, weight) @ table / found.groups
    std: Floats = np.sqrt(np.maximum(mean_square - mean.mean(0) ** 2, 0))
    return std


def _pairs_by_bad(sets: npt.NDArray[np.bool_], weight: Floats) -> Floats:
    """[M]: the weight of all pairs of sets by the number of groups in either."""
    total = np.zeros(sets.shape[1])
    members = sets.astype(np.float32)
    sizes = members.sum(1)
    for start in range(0, len(sets), _PAIR_ROWS):
        rows = slice(start, start + _PAIR_ROWS)
        either = sizes[rows, None] + sizes - members[rows] @ members.T
        pairs = weight[rows, None] * weight
        total += _by_size(either.astype(np.int64).ravel(), pairs.ravel(), len(total))
    return total


def _codes(bad: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = bad @ (1 << np.arange(bad.shape[1], dtype=np.int64))
    return codes


def _by_size(size: npt.NDArray[np.int64], values: Floats, sizes: int = 0) -> Floats:
    return np.bincount(size, values, sizes).astype(np.float64, copy=False)
