"""The images of items: found by name or number in a folder, and cut to their boxes."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from .hard_positives import Box, HardPositiveItem
from .image_decoding import decode_image
from .image_sources import SUFFIXES, ImageSource, list_images

if TYPE_CHECKING:
    from PIL import Image

_SHOWN = 10


@dataclass(frozen=True)
class ItemImages:
    """Result of `find_item_images`.

    Attributes
    ----------
    source : ImageSource
        Each different image once, cut to the box of its item; for `embed_images`.
    image_of_item : tuple of int
        The row of each item's image in ``source``; -1 where it is missing.
    missing : dict
        For each image that was not found, by the name that the items have for it, the reason.
    """

    source: ImageSource
    image_of_item: tuple[int, ...]
    missing: dict[str, str]

    def require_all(self, folder: str | os.PathLike[str]) -> None:
        """Raise FileNotFoundError with a list if an image is missing."""
        if self.missing:
            listed = "; ".join(f"{n}: {why}" for n, why in list(self.missing.items())[:_SHOWN])
            more = f"; and {len(self.missing) - _SHOWN} more" if len(self.missing) > _SHOWN else ""
            raise FileNotFoundError(
                f"{os.fspath(folder)}: {len(self.missing)} images are missing: {listed}{more}"
            )


def find_item_images(
    items: Sequence[HardPositiveItem], folder: str | os.PathLike[str]
) -> ItemImages:
    """Look the images of items up in a folder and all folders below.

    An image is found by its path, by the end of its path (``VG_100K/1.jpg``), by its name, or by
    its name without the suffix of an image, in this order. An item that is a bare number, such as
    ``184613`` or ``184613.jpg``, is also found by the number at the end of a file's name, as in
    ``COCO_val2014_000000184613.jpg``. Where several files answer, the image is missing.

    Parameters
    ----------
    items : sequence of HardPositiveItem
    folder : path-like

    Returns
    -------
    ItemImages

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ValueError
        There is no image in it, or none of the images of the items.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from fastclip.data import HardPositiveItem, find_item_images
    >>> item = HardPositiveItem("7", "a red wall", (), ("a blue wall",), box=(0, 0, 5, 5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (30, 20), "red").save(f"{folder}/0007.png")
    ...     found = find_item_images([item], folder)
    >>> found.image_of_item, found.source.names
    ((0,), ('0007.png@0,0,5,5',))
    """
    found = list_images(folder)
    index = _Index(found.names)
    rows: dict[tuple[int, Box | None], int] = {}
    image_of_item = []
    missing: dict[str, str] = {}
    for item in items:
        try:
            file = index.find(item.image)
        except LookupError as error:
            missing[item.image] = str(error)
            image_of_item.append(-1)
        else:
            image_of_item.append(rows.setdefault((file, item.box), len(rows)))
    if not rows:
        first = next(iter(missing.items()), ("", "there are no items"))
        raise ValueError(
            f"{os.fspath(folder)}: holds none of the {len(missing)} images; {first[0]}: {first[1]}"
        )
    names = tuple(_cut_name(found.names[file], box) for file, box in rows)
    sizes = tuple(found.sizes[file] for file, _ in rows)
    source = _Cuts(names, sizes, found, tuple(rows))
    return ItemImages(source, tuple(image_of_item), missing)


def cut(image: Image.Image, box: Box) -> Image.Image:
    """The part of an image in a box, black where the box reaches over the border.

    Raises
    ------
    ValueError
        Box and image have no pixel in common, or the box reaches further over the border than the
        image is large: it is of another image, or not in pixels.
    """
    left, top, width, height = box
    size = f"an image of {image.width} x {image.height}"
    if left + width <= 0 or top + height <= 0 or left >= image.width or top >= image.height:
        raise ValueError(f"box {box} has no part in {size}")
    edges = (left, top, left + width, top + height)
    if not all(-n <= x <= 2 * n for x, n in zip(edges, image.size * 2, strict=True)):
        raise ValueError(
            f"box {box} reaches too far over {size}, allowed: (left, top, width, height) in pixels"
        )
    first = round(left), round(top)
    last = max(first[0] + 1, round(edges[2])), max(first[1] + 1, round(edges[3]))
    return image.crop((*first, *last))


@dataclass(frozen=True)
class _Cuts(ImageSource):
    files: ImageSource
    parts: tuple[tuple[int, Box | None], ...]

    def read(self, index: int) -> bytes:
        file, box = self.parts[index]
        data = self.files.read(file)
        if box is None:
            return data
        part = cut(decode_image(data), box)  # ValueError: damaged, or a box outside
        packed = io.BytesIO()
        part.save(packed, "BMP")  # without loss, and as fast as a copy
        return packed.getvalue()

    def stamp(self, index: int) -> str | None:
        return self.files.stamp(self.parts[index][0])


def _cut_name(name: str, box: Box | None) -> str:
    return name if box is None else f"{name}@{','.join(f'{x:g}' for x in box)}"


class _Index:
    """Files by each of the ways in which an item may name them; -1 where several would answer."""

    def __init__(self, names: Iterable[str]) -> None:
        self._files: dict[str, int] = {}
        for file, name in enumerate(names):
            for key in {*_name_keys(name), *_number_keys(name, r"([0-9]+)$")}:
                self._files[key] = -1 if key in self._files else file

    def find(self, image: str) -> int:
        if not image:
            raise LookupError("the item names no image")
        several = False
        # A number in a longer name, such as dog_1, says nothing about another name that ends in it.
        for key in (*_name_keys(image), *_number_keys(image, r"^([0-9]+)$")):
            file = self._files.get(key, None)
            if file is not None and file >= 0:
                return file
            several |= file == -1
        raise LookupError("several files have this name" if several else "no such file")


def _name_keys(name: str) -> list[str]:
    """From the most to the least exact."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return [*("/".join(parts[i:]) for i in range(len(parts))), f"stem {_stem(name)}"]


def _number_keys(name: str, pattern: str) -> list[str]:
    number = re.search(pattern, _stem(name))
    return [f"number {number[1].lstrip('0')}"] if number else []


def _stem(name: str) -> str:
    """The last part of a path without the suffix of an image; ``dog.v2`` has none."""
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem, suffix = os.path.splitext(base)
    return stem if suffix.lower() in SUFFIXES else base
