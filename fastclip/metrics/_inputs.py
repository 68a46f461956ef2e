"""Images and classes as arguments, and what the images score."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from fastclip.data.checks import check_choice
from fastclip.engine.checks import (
    Array,
    as_indices,
    as_rows,
    as_tensor,
    check_finite,
    check_range,
    check_some_rows,
    with_adjacent_elements,
)
from fastclip.engine.devices import check_same_device
from fastclip.engine.pair_scores import pair_scores
from fastclip.engine.tensors import check_memory

Prompts = Literal["max", "mean"]


class Inputs(NamedTuple):
    """Checked arguments: P prompts per class, so that row c P + p of ``keys`` is one of class c."""

    images: torch.Tensor
    """[N, d]."""
    labels: torch.Tensor
    """[N] int64: the class of each image."""
    keys: torch.Tensor
    """[C P, d]."""
    prompts: int
    """P."""

    @property
    def classes(self) -> int:
        """C."""
        return len(self.keys) // self.prompts

    def targets(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The best prompt of each image's class: rows of ``keys`` [N], and exact scores [N]."""
        first = self.labels * self.prompts
        scores = torch.stack([self.score(first + prompt) for prompt in range(self.prompts)])
        best = scores.max(0)  # of equal scores the first, as everywhere
        return first + (scores == best.values).int().argmax(0), best.values

    def score(self, rows: torch.Tensor) -> torch.Tensor:
        """The exact score of each image with one row of ``keys``."""
        return pair_scores(self.images, self.keys, rows)


def as_inputs(
    image_features: Array, labels: Array, class_features: Array, prompts: Prompts = "max"
) -> Inputs:
    """Check the arguments that all functions here share."""
    check_choice("prompts", prompts, ("max", "mean"))
    images = rows("image_features", image_features)
    keys, per_class = _class_rows(class_features, prompts)
    check_same_width("class_features", keys, images)
    classes = len(keys) // per_class
    of_image = as_indices("labels", labels, len(images), images.device)
    check_memory("labels", of_image)
    check_range("labels", of_image, classes, "classes")
    return Inputs(images, of_image, keys, per_class)


def as_class_groups(groups: Array, inputs: Inputs) -> tuple[torch.Tensor, int]:
    """The group of each class as int64, -1 where it is in none, and M; each has an image."""
    ids = as_groups(groups, inputs.classes, inputs.images.device)
    check_grouped(inputs.labels, ids)
    count = int(ids.max()) + 1
    images = torch.bincount(ids[inputs.labels], minlength=count)
    if (images == 0).any():
        raise ValueError(group_without_image(images))
    return ids, count


def as_groups(groups: Array, classes: int, device: torch.device) -> torch.Tensor:
    """The group of each class as int64, -1 where it is in none; at least two, and none empty."""
    ids = as_indices("groups", groups, classes, device)
    check_memory("groups", ids)
    if (ids < -1).any():
        raise ValueError(f"groups: must be at least -1, which is no group, got {int(ids.min())}")
    count = int(ids.max()) + 1 if len(ids) else 0
    if count < 2:
        raise ValueError(f"groups: at least two groups are needed, got {count}")
    present = torch.bincount(ids[ids >= 0], minlength=count)
    if (present == 0).any():
        raise ValueError(f"groups: group {int(present.argmin())} has no class")
    return ids


def check_grouped(labels: torch.Tensor, ids: torch.Tensor) -> None:
    """Check that the class of each image is in a group."""
    outside = (ids[labels] < 0).nonzero()
    if len(outside):
        at = int(outside[0])
        raise ValueError(
            f"labels: every image must be of a class in a group, "
            f"that of image {at} is class {int(labels[at])}, which is in none"
        )


def group_without_image(images: torch.Tensor) -> str:
    """What is wrong where a group has none of the images, of which [M] numbers are given."""
    return f"labels: every group needs an image, group {int(images.argmin())} has none"


def within_groups(inputs: Inputs, ids: torch.Tensor) -> tuple[Inputs, torch.Tensor]:
    """Leave out the classes that are in no group."""
    kept = (ids >= 0).nonzero()[:, 0]
    if len(kept) == len(ids):
        return inputs, ids
    keys = inputs.keys.unflatten(0, (-1, inputs.prompts))[kept].flatten(0, 1)
    place = torch.full_like(ids, -1)
    place[kept] = torch.arange(len(kept), device=ids.device)
    return Inputs(inputs.images, place[inputs.labels], keys, inputs.prompts), ids[kept]


def rows(name: str, features: Array) -> torch.Tensor:
    """At least one row; see `finite_rows`."""
    found = finite_rows(name, features)
    check_some_rows(name, found)
    return found


def finite_rows(name: str, features: Array) -> torch.Tensor:
    """Rows without a gradient, which counts do not have; all finite."""
    found = with_adjacent_elements(as_rows(name, features).detach())
    check_finite(name, found)
    return found


def images_of(name: str, given: Array | None, images: torch.Tensor, count: int) -> torch.Tensor:
    """The row of the image of each of ``count`` texts or items; by default each has its own."""
    if given is None:
        if len(images) != count:
            of = name.removeprefix("image_of_")
            raise ValueError(f"{name}: needed, since {len(images)} images have {count} {of}s")
        return torch.arange(count, device=images.device)
    rows = as_indices(name, given, count, images.device)
    check_memory(name, rows)
    check_range(name, rows, len(images), "images")
    return rows


def check_same_width(
    name: str, found: torch.Tensor, others: torch.Tensor, of: str = "image_features"
) -> None:
    """Check that rows are as long as those of another argument, and on its device."""
    if found.shape[1] != others.shape[1]:
        raise ValueError(
            f"{name}: rows must be as long as those of {of}, "
            f"got {found.shape[1]} and {others.shape[1]}"
        )
    check_same_device(name, found, of, others)


def _class_rows(class_features: Array, prompts: Prompts) -> tuple[torch.Tensor, int]:
    tensor = as_tensor("class_features", class_features)
    if tensor.ndim != 3:
        return rows("class_features", tensor), 1
    if tensor.shape[1] == 0:
        raise ValueError(
            f"class_features: at least one prompt per class is needed, "
            f"got shape {tuple(tensor.shape)}"
        )
    found = rows("class_features", tensor.flatten(0, 1))
    return (found, tensor.shape[1]) if prompts == "max" else (mean_of_prompts(tensor), 1)


def mean_of_prompts(features: torch.Tensor) -> torch.Tensor:
    """The mean of the unit rows of [C, P, d], scaled to unit length: [C, d] float32."""
    unit = torch.nn.functional.normalize(features.double(), dim=2)
    return torch.nn.functional.normalize(unit.mean(1), dim=1).float()


def as_names(argument: str, names: Sequence[str], count: int) -> list[str]:
    """Check that there is a name for each of ``count`` rows."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{argument}: a sequence of str is needed")
    if len(names) != count:
        raise ValueError(f"{argument}: {count} are needed, one per row, got {len(names)}")
    return list(names)
