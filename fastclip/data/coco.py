"""COCO's instances as label maps."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._coco_masks import paint
from ._upright import DrawnOn, Size, as_seen, check_drawn_on, drawn_as, stored_size
from .label_maps import IGNORED, LabelledImages

_MOST_PIXELS = 1 << 28  # of an image, somewhat more than Pillow takes


@dataclass(frozen=True)
class _Coco(LabelledImages):
    names: tuple[str, ...]
    classes: tuple[str, ...]
    file: Path
    folder: Path
    sizes: tuple[Size | None, ...]
    annotations: tuple[list[dict[str, Any]], ...]
    rows: dict[int, int]
    drawn_on: DrawnOn | None

    def path(self, index: int) -> Path:
        return self.folder / self.names[index]

    def _labels(self, index: int, size: Size, orientation: int) -> np.ndarray[Any, Any]:
        drawn = self.sizes[index]
        try:
            on = drawn_as(drawn, size, orientation, self.drawn_on, scaled=True)
        except ValueError as error:
            raise ValueError(f"{self.path(index)}: according to {self.file}, {error}") from error
        if drawn is None:
            drawn = size if on == "upright" else stored_size(size, orientation)
        return as_seen(self._painted(index, drawn), size, orientation, on)

    def _painted(self, index: int, size: Size) -> np.ndarray[Any, Any]:
        entries = []
        for entry in self.annotations[index]:
            try:
                mask = paint(entry["segmentation"], size)
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise ValueError(
                    f"{self.file}: annotation {entry.get('id')!r:.60} of {self.names[index]}: "
                    f"segmentation: {error}"
                ) from error
            area = entry.get("area")
            area = float(mask.sum()) if area is None else area
            entries.append((not entry.get("iscrowd"), -area, entry, mask))
        labels = np.zeros(size, dtype=np.int64)
        # Crowds first, then from large to small: what is small lies on what is large.
        for counts, _, entry, mask in sorted(entries, key=lambda e: e[:2]):
            labels[mask] = self.rows[entry["category_id"]] if counts else IGNORED
        return labels


def read_coco(
    annotations: str | Path, images: str | Path, *, drawn_on: DrawnOn | None = None
) -> LabelledImages:
    """Read COCO's instances as label maps: a background, then the classes by their number.

    Small instances lie on large ones, and crowds do not count where no other instance is. Polygons
    cover the pixels that pycocotools gives them. They are painted in the size that the file states
    for the image; if the image is a scaled copy, its labels are scaled to the nearest pixel.

    Parameters
    ----------
    annotations : path-like
        Such as ``instances_val2017.json``: polygons, or run-length codes.
    images : path-like
        The folder of its images.
    drawn_on : "upright" or "stored", optional
        As for `read_mask_folder`, where EXIF turns an image. Default: what the sizes say.

    Returns
    -------
    LabelledImages
        All images of the file, in its order; also those without an instance.

    Raises
    ------
    FileNotFoundError, ValueError
        It is missing, or no such file.
    """
    check_drawn_on(drawn_on)
    path = Path(annotations)
    try:
        content = json.loads(path.read_bytes())
        found, categories, instances = (
            _entries(content, name) for name in ("images", "categories", "annotations")
        )
        for kind, entries in (("images", found), ("categories", categories)):
            for entry in entries:
                _number(kind, entry, "id")
            if len({entry["id"] for entry in entries}) < len(entries):
                raise ValueError(f"{kind}: an id occurs twice, allowed: different ones")
        categories.sort(key=lambda entry: entry["id"])
        rows = {entry["id"]: row for row, entry in enumerate(categories, 1)}
        of_image: dict[int, list[dict[str, Any]]] = {entry["id"]: [] for entry in found}
        for entry in instances:
            _check_instance(entry)
            if entry["category_id"] not in rows:
                raise ValueError(f"category_id {entry['category_id']} is none of the categories")
            if entry["image_id"] not in of_image:
                raise ValueError(f"image_id {entry['image_id']} is none of the images")
            of_image[entry["image_id"]].append(entry)
        names = tuple(_string("images", entry, "file_name") for entry in found)
        sizes = tuple(map(_size, found))
        classes = ("background", *(_string("categories", entry, "name") for entry in categories))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not COCO's instances: {error}") from error
    if not names:
        raise ValueError(f"{path}: no images in it, allowed: at least one")
    instances_of = tuple(of_image.values())
    return _Coco(names, classes, path, Path(images), sizes, instances_of, rows, drawn_on)


def _entries(content: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__}, allowed: an object")
    entries = content.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        what = "missing" if entries is None else f"{entries!r:.60}"
        raise ValueError(f"{name!r} is {what}, allowed: a list of objects")
    return entries


def _number(kind: str, entry: dict[str, Any], field: str) -> None:
    if type(entry.get(field)) is not int:
        raise ValueError(f"{kind}: {field} is {entry.get(field)!r:.60}, allowed: a whole number")


def _string(kind: str, entry: dict[str, Any], field: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{kind}: {field} is {value!r:.60}, allowed: a name")
    return value


def _size(entry: dict[str, Any]) -> Size | None:
    """The size of an image, None where none is stated."""
    height: Any = entry.get("height")
    width: Any = entry.get("width")
    if height is None and width is None:
        return None
    whole = type(height) is int and type(width) is int
    if not whole or min(height, width) < 1 or height * width > _MOST_PIXELS:
        raise ValueError(
            f"images: height and width are {(height, width)!r:.60}, allowed: whole numbers from 1 "
            f"on, {_MOST_PIXELS:,} pixels at most"
        )
    return height, width


def _check_instance(entry: dict[str, Any]) -> None:
    for field in ("image_id", "category_id"):
        _number("annotations", entry, field)
    if entry.get("iscrowd") not in (None, 0, 1):
        raise ValueError(f"annotations: iscrowd is {entry['iscrowd']!r:.60}, allowed: 0 or 1")
    area = entry.get("area")
    if area is not None and not (type(area) in (int, float) and 0 <= area < math.inf):
        raise ValueError(f"annotations: area is {area!r:.60}, allowed: a number from 0 on, or null")
