"""The data sets of the paper on openness: their images, classes and groups, by name."""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from fastclip.data.checks import check_choice

from .image_sources import ImageSource, find_images
from .vocabularies.class_lists import (
    PHOTO,
    SINGLE,
    ClassList,
    class_list,
    ensemble_templates,
    imagenet_names,
)

GROUPED = ("cifar100", "entity13", "living17")
UNIONS = {
    "flowers-pets-cars": ("flowers", "pets", "cars"),
    "cifar100-caltech101-sun397": ("cifar100", "caltech101", "sun397"),
    "cifar10-cifar100-imagenet": ("cifar10", "cifar100", "imagenet"),
}
"""Each data set is a group."""

NAMES = (*GROUPED, *UNIONS)

_CALTECH = {
    "airplanes": "airplane",
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
}


class OpennessSet(NamedTuple):
    """Images with their classes."""

    images: ImageSource
    labels: tuple[int, ...]
    classes: ClassList


def openness_set(
    name: str,
    root: str | os.PathLike[str],
    *,
    download: bool = False,
    ensemble: bool = False,
) -> OpennessSet:
    """Return the test images and the grouped classes of a protocol of Ren et al.

    ====================================  ========================================================
    ``"cifar100"``                        20 superclasses of 5 classes
    ``"entity13"``, ``"living17"``        13 groups of 20, 17 of 4 classes of ImageNet (BREEDS)
    ``"flowers-pets-cars"``               the data sets as groups: 102, 37 and 196 classes
    ``"cifar100-caltech101-sun397"``      100, 100 and 397 classes
    ``"cifar10-cifar100-imagenet"``       10, 100 and 1,000 classes
    ====================================  ========================================================

    The images are those of torchvision's classes of these data sets, their test split where they
    have one. The paper takes splits of CoOp's, so its numbers for flowers, Caltech-101
    and SUN397 are of other images. ImageNet's validation images are read from
    ``ROOT/imagenet/val/WNID/``.

    Parameters
    ----------
    name : str
    root : path-like
        Where torchvision finds its data sets.
    download : bool, default False
        Let torchvision download what is missing; it cannot do so for ImageNet and cars.
    ensemble : bool, default False
        Use the prompts that the authors average: 18 for CIFAR, 7 for ImageNet, 8 for cars, 34 for
        Caltech-101, 2 for SUN397; flowers and pets have one.

    Raises
    ------
    ValueError
        There is no such protocol.
    RuntimeError, OSError
        A data set is not there.

    Examples
    --------
    >>> from fastclip.data.openness_sets import openness_set
    >>> openness_set("mnist", "data")
    Traceback (most recent call last):
    ValueError: name: is 'mnist', allowed: cifar100, entity13, living17, flowers-pets-cars,
    cifar100-caltech101-sun397, cifar10-cifar100-imagenet
    """
    check_choice("name", name, NAMES)
    folder = Path(root)
    if name in ("entity13", "living17"):
        classes = class_list(name, ensemble=ensemble)
        images = _imagenet_images(folder, classes.folders)
        return OpennessSet(images, tuple(classes.labels(images.names)), classes)
    if name == "cifar100":
        classes = class_list(name, ensemble=ensemble)
        part = _read("cifar100", folder, download)
        place = [classes.names.index(member) for member in part.classes]
        return OpennessSet(part.images, tuple(place[label] for label in part.labels), classes)
    return _union([_read(part, folder, download) for part in UNIONS[name]], ensemble)


class _Part(NamedTuple):
    name: str
    images: ImageSource
    labels: Sequence[int]
    classes: Sequence[str]


def _union(parts: Sequence[_Part], ensemble: bool) -> OpennessSet:
    labels: list[int] = []
    names: list[str] = []
    groups: list[int] = []
    for group, part in enumerate(parts):
        labels += [len(names) + label for label in part.labels]
        names += part.classes
        groups += [group] * len(part.classes)
    classes = ClassList(
        names=tuple(names),
        groups=tuple(groups),
        group_names=tuple(part.name for part in parts),
        folders=tuple(
            f"{parts[group].name}/{name}" for group, name in zip(groups, names, strict=True)
        ),
        templates=tuple(
            ensemble_templates(part.name) if ensemble else SINGLE.get(part.name, PHOTO)
            for part in parts
        ),
    )
    return OpennessSet(_joined(parts), tuple(labels), classes)


def _read(name: str, root: Path, download: bool) -> _Part:
    if name == "imagenet":
        names = imagenet_names()
        images = _imagenet_images(root, names)
        place = {wnid: label for label, wnid in enumerate(names)}
        labels = [place[Path(image).parent.name] for image in images.names]
        return _Part(name, images, labels, list(names.values()))
    from torchvision import datasets

    readers: dict[str, Callable[[], Any]] = {
        "cifar10": lambda: datasets.CIFAR10(root, train=False, download=download),
        "cifar100": lambda: datasets.CIFAR100(root, train=False, download=download),
        "flowers": lambda: datasets.Flowers102(root, split="test", download=download),
        "pets": lambda: datasets.OxfordIIITPet(root, split="test", download=download),
        "cars": lambda: datasets.StanfordCars(root, split="test", download=download),
        "caltech101": lambda: datasets.Caltech101(root, download=download),
        "sun397": lambda: datasets.SUN397(root, download=download),
    }
    return part_of(name, readers[name]())


def part_of(name: str, found: Any) -> _Part:
    """Take images, labels and names from a data set of torchvision."""
    if name == "caltech101":
        kept = [c for c in found.categories if c != "Faces_easy"]
        place = {found.categories.index(c): label for label, c in enumerate(kept)}
        rows = [row for row, label in enumerate(found.y) if label in place]
        labels = [place[found.y[row]] for row in rows]
        classes = [_plain(_CALTECH.get(c, c)) for c in kept]
    else:
        labels = _labels(found)
        rows = list(range(len(labels)))
        classes = [_plain(c) for c in found.classes]
    return _Part(name, _Pictures(*_listed(name, rows), found, rows), labels, classes)


def _labels(found: Any) -> list[int]:
    """torchvision has no common name for them; to read them one by one decodes every image."""
    for attribute in ("targets", "_labels"):
        if hasattr(found, attribute):
            return list(getattr(found, attribute))
    return [label for _, label in found._samples]


def _plain(name: str) -> str:
    """``"apartment_building/outdoor"`` is "outdoor apartment building"."""
    return " ".join(reversed(name.split("/"))).replace("_", " ")


def _imagenet_images(root: Path, wnids: Sequence[str] | dict[str, str]) -> ImageSource:
    folder = root / "imagenet" / "val"
    found = find_images(folder)
    wanted = set(wnids)
    kept = [i for i, name in enumerate(found.names) if Path(name).parent.name in wanted]
    missing = wanted - {Path(found.names[i]).parent.name for i in kept}
    if missing:
        raise FileNotFoundError(f"{folder / min(missing)}: no images there")
    return replace(
        found,
        names=tuple(found.names[i] for i in kept),
        sizes=tuple(found.sizes[i] for i in kept),
    )


def _listed(name: str, rows: Sequence[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return tuple(f"{name}/{row:06d}" for row in rows), (-1,) * len(rows)


@dataclass(frozen=True)
class _Pictures(ImageSource):
    """A data set of torchvision, whose items are PIL images with labels."""

    found: Any
    rows: Sequence[int]

    def read(self, index: int) -> bytes:
        file = io.BytesIO()
        self.found[self.rows[index]][0].save(file, "png", compress_level=0)
        return file.getvalue()


@dataclass(frozen=True)
class _Several(ImageSource):
    """Images of one source after the other."""

    parts: Sequence[tuple[ImageSource, int]]  # and the index in it

    def read(self, index: int) -> bytes:
        source, place = self.parts[index]
        return source.read(place)

    def stamp(self, index: int) -> str | None:
        source, place = self.parts[index]
        return source.stamp(place)


def _joined(parts: Sequence[_Part]) -> ImageSource:
    sources = [part.images for part in parts]
    return _Several(
        tuple(name for source in sources for name in source.names),
        tuple(size for source in sources for size in source.sizes),
        [(source, index) for source in sources for index in range(len(source))],
    )
