"""Which few images are the support, and their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import torch

from fastclip.data.checks import check_at_least
from fastclip.engine.checks import Array, as_indices, as_integer, as_tensor

if TYPE_CHECKING:
    from fastclip.models import Model


def draw_shots(labels: Array, shots: SupportsIndex, *, seed: int = 0) -> torch.Tensor:
    """Return the rows of ``shots`` images of each class, drawn at random: int64, by class.

    Draws of one seed hold each other: the first shots of a class are the same for any number.

    Parameters
    ----------
    labels : integer tensor or array [N]
        From 0 on.
    shots : int, at least 1
    seed : int

    Raises
    ------
    ValueError
        ``shots`` is below 1, or a class up to the largest label has fewer images.

    Examples
    --------
    >>> import torch
    >>> from fastclip.coder import draw_shots
    >>> labels = torch.tensor([0, 1, 0, 1, 1])
    >>> labels[draw_shots(labels, 2)]
    tensor([0, 0, 1, 1])
    """
    given = as_tensor("labels", labels, "np.int64").cpu()
    truth = as_indices("labels", given, given.numel(), given.device)
    if (truth < 0).any():
        raise ValueError(f"labels: must be at least 0, got {int(truth.min())}")
    count = as_integer("shots", shots)
    counts = torch.bincount(truth)
    if count < 1 or (counts < count).any():
        raise ValueError(
            f"shots: from 1 to {int(counts.min()) if len(counts) else 0}, the number of images of "
            f"the smallest class, is allowed, got {count}"
        )
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(seed))
    by_class = order[truth[order].argsort(stable=True)]
    firsts = counts.cumsum(0) - counts
    return by_class[(firsts[:, None] + torch.arange(count)).flatten()]


def support_features(
    model: Model,
    images: Sequence[Any],
    *,
    augmentations: SupportsIndex = 10,
    seed: int = 0,
    batch_size: SupportsIndex = 64,
) -> torch.Tensor:
    """Return features of images, each the mean of randomly cropped and mirrored copies.

    As the authors do: crops of 0.5 to 1 of the area and 3/4 to 4/3 in aspect, resized to the
    model's size, mirrored half of the time; the unit features of the copies are averaged and scaled
    to unit length (the authors average them before scaling).

    Parameters
    ----------
    model : Model
    images : sequence of N PIL images or paths
    augmentations : int, at least 1
        Copies of each image; the authors use 1 to 20.
    seed : int
        Equal seeds give equal crops.
    batch_size : int, at least 1
        Crops that are in memory at a time.

    Returns
    -------
    tensor [N, d], float32, unit rows, on the model's device

    Raises
    ------
    TypeError, FileNotFoundError
        An image is none or is missing.
    ValueError
        ``augmentations`` or ``batch_size`` is below 1.
    """
    from torchvision.transforms import InterpolationMode, v2

    from fastclip.models._images import as_rgb, check_pictures

    check_pictures("images", images)
    copies, size = int(augmentations), int(batch_size)
    check_at_least(1, augmentations=copies, batch_size=size)
    change = v2.Compose(
        [
            v2.RandomResizedCrop(
                model.image_size, (0.5, 1.0), interpolation=InterpolationMode.BICUBIC
            ),
            v2.RandomHorizontalFlip(),
        ]
    )
    total = torch.zeros(len(images), model.dim, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(copies):
            for start in range(0, len(images), size):
                rows = slice(start, start + size)
                changed = [change(as_rgb(image)) for image in images[rows]]
                total[rows] += model.encode_image(changed, batch_size=size).double().cpu()
    return torch.nn.functional.normalize(total, dim=1).float().to(model.device)
