"""Which groups of classes each image loses to: all that is needed of the features."""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fastclip.engine.packing import pack
from fastclip.metrics._inputs import Inputs
from fastclip.ops.group_beats import group_beats


class Outcomes(NamedTuple):
    """An image is right in a union of groups if its own is in it, it is ``ok`` and no bad one is.

    N images, M groups.
    """

    group: npt.NDArray[np.int64]
    """[N]: the group of the image's class."""
    label: npt.NDArray[np.int64]
    """[N]: its class."""
    ok: npt.NDArray[np.bool_]
    """[N]: no class of its own group is ahead of its own class."""
    bad: npt.NDArray[np.bool_]
    """[N, M]: another group has a class ahead of it."""

    @property
    def groups(self) -> int:
        """M."""
        return int(self.bad.shape[1])

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """[M]: images of each group."""
        return np.bincount(self.group, minlength=self.groups)

    @property
    def weight(self) -> npt.NDArray[np.float64]:
        """[N]: an image's share in the mean over the classes of its group."""
        images = np.bincount(self.label)
        classes = np.zeros(self.groups)
        of_class = np.zeros(len(images), np.int64)
        of_class[self.label] = self.group
        np.add.at(classes, of_class[images > 0], 1)
        share: npt.NDArray[np.float64] = 1 / (classes[self.group] * images[self.label])
        return share


def outcomes(inputs: Inputs, ids: torch.Tensor, names: Sequence[str] | None) -> Outcomes:
    """Ask each image which groups beat its class; equal scores go to the class of lower index.

    Classes that share a name never count against each other's images.
    """
    targets, _ = inputs.targets()
    of_keys = ids.repeat_interleave(inputs.prompts)
    count = int(ids.max()) + 1
    keys = pack(inputs.keys, copy=False)
    beats = unpacked(group_beats(inputs.images, keys, of_keys, targets), count)
    for classes in _shared(names):
        for own in classes:
            images = (inputs.labels == own).nonzero()[:, 0]
            if len(images):
                kept = torch.ones_like(ids, dtype=torch.bool)
                kept[classes] = False
                kept[own] = True
                rows = kept.repeat_interleave(inputs.prompts)
                present, compact = of_keys[rows].unique(return_inverse=True)
                target = (rows.cumsum(0) - 1)[targets[images]]
                bits = group_beats(inputs.images[images], inputs.keys[rows], compact, target)
                again = np.zeros((len(images), count), bool)
                again[:, present.cpu()] = unpacked(bits, len(present))
                beats[images.cpu()] = again
    return as_outcomes(inputs, ids, beats)


def as_outcomes(inputs: Inputs, ids: torch.Tensor, beats: npt.NDArray[np.bool_]) -> Outcomes:
    """Take the own group of each image out of those that beat its class, [N, M]."""
    label = inputs.labels.cpu().numpy()
    group = ids.cpu().numpy()[label]
    every = np.arange(len(label))
    ok = ~beats[every, group]
    beats[every, group] = False
    return Outcomes(group, label, ok, beats)


def unpacked(bits: torch.Tensor, count: int) -> npt.NDArray[np.bool_]:
    """[N, words] int64 -> [N, count] bool."""
    as_bytes: npt.NDArray[Any] = bits.cpu().numpy().astype("<i8").view(np.uint8)
    return np.unpackbits(as_bytes, axis=1, bitorder="little", count=count).astype(bool)


def _shared(names: Sequence[str] | None) -> list[list[int]]:
    """Classes that have a name in common."""
    by_name = defaultdict(list)
    for place, name in enumerate(names or ()):
        by_name[name].append(place)
    return [places for places in by_name.values() if len(places) > 1]


def warn_of_shared(names: Sequence[str] | None) -> bool:
    """Say which names several classes share; return whether there are any."""
    shared = _shared(names)
    if not shared:
        return False
    assert names is not None
    listed = ", ".join(sorted(names[places[0]] for places in shared)[:8])
    more = f" and {len(shared) - 8} more" if len(shared) > 8 else ""
    warnings.warn(
        f"class_names: {len(shared)} names belong to several classes ({listed}{more}); these do "
        f"not count against each other's images",
        UserWarning,
        stacklevel=3,  # the caller of the metric
    )
    return True
