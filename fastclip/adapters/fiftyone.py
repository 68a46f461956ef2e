"""Files of fastclip for FiftyOne, which shows data sets with masks, and finds similar images.

Masks that ``fastclip segment`` has written to a folder::

    import fiftyone as fo
    from fastclip.adapters.fiftyone import embeddings, read_segmentations

    found = read_segmentations("masks")
    dataset = fo.Dataset("segmented")
    dataset.add_samples(
        fo.Sample(filepath=image, tags_of_pixels=fo.Segmentation(mask_path=mask))
        for image, mask in found.masks.items()
    )
    dataset.mask_targets = {"tags_of_pixels": found.mask_targets}

An index of similarity from features that ``fastclip embed-images PICTURES`` has written::

    import fiftyone.brain as fob

    dataset = fo.Dataset.from_images_dir("PICTURES")
    rows = embeddings("features", dataset.values("filepath"), "PICTURES")
    fob.compute_similarity(dataset, embeddings=rows, brain_key="clip")
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fastclip.data import Features, read_features
from fastclip.data.checks import check_strings

_MASK, _TAGS = "-labels.png", ".json"


class Segmentations(NamedTuple):
    """Result of `read_segmentations`."""

    masks: dict[str, str]
    """For the path of each image that of its mask, both absolute: PNG, 0 for the background."""
    mask_targets: dict[int, str]
    """The tag that each number in the masks stands for."""


def read_segmentations(folder: str | os.PathLike[str]) -> Segmentations:
    """Read which masks and tags ``fastclip segment --output FOLDER`` has written.

    Parameters
    ----------
    folder : path-like
        With ``NAME-labels.png`` and ``NAME.json`` for each image. Paths of images that are
        relative are taken from the current folder, as when they were segmented.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or a file is missing.
    ValueError
        The folder has no masks, a file is none that ``fastclip segment`` writes, or files are of
        several runs with different tags.

    Examples
    --------
    >>> from fastclip.adapters.fiftyone import read_segmentations
    >>> read_segmentations("masks").mask_targets  # doctest: +SKIP
    {1: 'dog', 3: 'grass'}
    """
    root = Path(folder).absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"folder: {folder} is no folder")
    masks: dict[str, str] = {}
    targets: dict[int, str] = {}
    for mask in sorted(root.glob(f"*{_MASK}")):
        path = mask.with_name(mask.name.removesuffix(_MASK) + _TAGS)
        image, tags = _read(path)
        masks[os.path.abspath(image)] = os.fspath(mask)
        for number, tag in tags.items():
            if targets.setdefault(number, tag) != tag:
                raise ValueError(
                    f"{path}: number {number} is {tag!r}, but {targets[number]!r} in another file; "
                    "needed: masks of one run, with the same tags"
                )
    if not masks:
        raise ValueError(f"folder: {folder} holds no *{_MASK}, which fastclip segment writes")
    return Segmentations(masks, dict(sorted(targets.items())))


def embeddings(
    features: Features | str | os.PathLike[str],
    filepaths: Sequence[str],
    images: str | os.PathLike[str],
) -> npt.NDArray[np.float32]:
    """Return features of images in the order of the samples of a FiftyOne data set.

    Parameters
    ----------
    features : Features or path
        Named rows, as `fastclip.data.embed_images` writes them.
    filepaths : sequence of n str
        ``dataset.values("filepath")``.
    images : path-like
        The folder that was embedded: names of rows are paths below it.

    Returns
    -------
    array [n, d] float32
        What ``fiftyone.brain.compute_similarity`` and ``compute_visualization`` take.

    Raises
    ------
    TypeError, FileNotFoundError, ValueError
        As `fastclip.data.read_features`, or rows have no names or several have the same one, or a
        file has no row.

    Examples
    --------
    >>> import torch
    >>> from fastclip.adapters.fiftyone import embeddings
    >>> from fastclip.data import Features
    >>> features = Features(torch.eye(2), ["a.jpg", "more/b.jpg"])
    >>> embeddings(features, ["/pictures/more/b.jpg"], "/pictures")
    array([[0., 1.]], dtype=float32)
    """
    check_strings("filepaths", filepaths)
    found = features if isinstance(features, Features) else read_features(features)
    if found.names is None:
        raise ValueError("features: names are needed, the paths of images; these have none")
    rows = {os.path.normpath(name): row for row, name in enumerate(found.names)}
    if len(rows) < len(found.names):
        raise ValueError("features: several rows have the same name")
    root = os.path.abspath(images)
    names = [os.path.relpath(os.path.abspath(path), root) for path in filepaths]
    missing = [path for path, name in zip(filepaths, names, strict=True) if name not in rows]
    if missing:
        raise ValueError(
            f"filepaths: {len(missing)} of {len(filepaths)} have no features, the first is "
            f"{missing[0]!r}; names of features are paths below {images}, such as "
            f"{next(iter(found.names), '')!r}"
        )
    wanted = torch.tensor([rows[name] for name in names], dtype=torch.int64)
    chosen: npt.NDArray[np.float32] = found.features[wanted].float().numpy()
    return chosen


def _read(path: Path) -> tuple[str, dict[int, str]]:
    """The image of a JSON of ``fastclip segment``, and its tags by number."""
    try:
        content: Any = json.loads(path.read_text("utf-8"))
        return str(content["image"]), {int(t["label"]): str(t["tag"]) for t in content["tags"]}
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path}: missing; fastclip segment writes it beside the mask"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no JSON that fastclip segment writes: {error!r}") from error
