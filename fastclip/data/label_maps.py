"""Images with label maps: folders of masks, VOC, ADE20K, COCO; and masks of captions."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._coco_masks import paint
from .image_decoding import decode_image
from .image_sources import find_images

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

IGNORED = -1
"""The label of pixels that do not count, as in `fastclip.metrics.SegmentationScorer`."""

_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


class LabelledImages(ABC):
    """Images with label maps, each read when it is wanted.

    Attributes
    ----------
    names : tuple of str
        What to call each image.
    classes : tuple of str
        What label 0, 1, ... stands for; the first is ``"background"`` where there is one.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def path(self, index: int) -> Path:
        """The file of an image."""

    @abstractmethod
    def _labels(self, index: int, size: tuple[int, int]) -> np.ndarray[Any, Any]: ...

    def image(self, index: int) -> PilImage:
        """One image in RGB; raises OSError or ValueError, with its path, if it cannot be read."""
        path = self.path(index)
        try:
            return decode_image(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def labels(self, index: int) -> torch.Tensor:
        """The label map of one image, [H, W] int64: rows of ``classes``, or -1: does not count.

        Raises
        ------
        OSError, ValueError
            It cannot be read, is not as large as its image, or holds a number without a class.
        """
        image = self.image(index)
        numbers = self._labels(index, (image.height, image.width))
        if numbers.shape != (image.height, image.width):
            raise ValueError(
                f"{self.names[index]}: its label map is of {numbers.shape} pixels (H, W), "
                f"its image of {(image.height, image.width)}"
            )
        labels = torch.from_numpy(numbers.astype(np.int64))
        unknown = labels[(labels < IGNORED) | (labels >= len(self.classes))]
        if len(unknown):
            raise ValueError(
                f"{self.names[index]}: its label map holds a number that stands for row "
                f"{int(unknown[0])} of the classes, allowed: 0 to {len(self.classes) - 1}"
            )
        return labels


@dataclass(frozen=True)
class _MaskFolder(LabelledImages):
    names: tuple[str, ...]
    classes: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    first: int
    ignored: tuple[int, ...]

    def path(self, index: int) -> Path:
        return self.images[index]

    def _labels(self, index: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
        numbers = _numbers(self.masks[index])
        labels = numbers.astype(np.int64) - self.first
        labels[np.isin(numbers, self.ignored)] = IGNORED
        return labels


def read_mask_folder(
    images: str | Path,
    masks: str | Path,
    classes: Sequence[str],
    *,
    first: int = 0,
    ignored: Sequence[int] = (255,),
) -> LabelledImages:
    """Read images and label maps that lie in two folders, and below, under the same names.

    Parameters
    ----------
    images, masks : path-like
        ``images/a/1.jpg`` belongs to ``masks/a/1.png``. Masks are 8- or 16-bit grey or palette
        PNG, whose pixels hold numbers. Images without a mask are left out.
    classes : sequence of str
        What the numbers stand for, from number ``first`` on.
    first : int
        Such as 1 where 0 is what does not count.
    ignored : sequence of int
        Numbers of pixels that do not count.

    Returns
    -------
    LabelledImages
        At least one.

    Raises
    ------
    FileNotFoundError
        A folder is missing.
    ValueError
        There are no classes, no images, or none with a mask.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from fastclip.data import read_mask_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for kind in ("images", "masks"):
    ...         Path(folder, kind).mkdir()
    ...     Image.new("RGB", (2, 1), "red").save(f"{folder}/images/a.png")
    ...     Image.new("L", (2, 1), 1).save(f"{folder}/masks/a.png")
    ...     found = read_mask_folder(f"{folder}/images", f"{folder}/masks", ["sky", "wall"])
    ...     found.names, found.labels(0)
    (('a',), tensor([[1, 1]]))
    """
    if not classes:
        raise ValueError("classes: at least one is needed, got none")
    sources = [find_images(folder) for folder in (images, masks)]
    found = [
        {str(Path(name).with_suffix("")): Path(folder) / name for name in source.names}
        for folder, source in zip((images, masks), sources, strict=True)
    ]
    names = [name for name in found[0] if name in found[1]]
    if not names:
        raise ValueError(f"{masks}: holds no mask of an image in {images}")
    of_images, of_masks = (tuple(paths[name] for name in names) for paths in found)
    return _MaskFolder(tuple(names), tuple(classes), of_images, of_masks, first, tuple(ignored))


def read_voc(root: str | Path, split: str = "val") -> LabelledImages:
    """Read Pascal VOC 2012's label maps: 20 classes after the background; borders do not count.

    ``root`` has ``JPEGImages``, ``SegmentationClass`` and ``ImageSets/Segmentation/SPLIT.txt``.
    Raises FileNotFoundError or ValueError where one of them is missing, or empty.
    """
    root = Path(root)
    names = tuple((root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split())
    if not names:
        raise ValueError(f"{root}: the split {split!r} is empty")
    images = tuple(root / "JPEGImages" / f"{name}.jpg" for name in names)
    masks = tuple(root / "SegmentationClass" / f"{name}.png" for name in names)
    _require(images[:1] + masks[:1])
    return _MaskFolder(names, _VOC, images, masks, 0, (255,))


def read_ade20k(root: str | Path, split: str = "validation") -> LabelledImages:
    """Read the 150 classes of ADE20K's scene parsing challenge (2016); 0, all else, does not count.

    ``root`` has ``images/SPLIT``, ``annotations/SPLIT`` and the table ``objectInfo150.txt``, whose
    column ``Name`` says what each class is: its first name counts. Raises FileNotFoundError or
    ValueError where one of them is missing or damaged.
    """
    root = Path(root)
    header, *lines = (root / "objectInfo150.txt").read_text("utf-8").splitlines()
    columns = header.split("\t")
    if "Name" not in columns:
        raise ValueError(f"{root / 'objectInfo150.txt'}: has no column Name, but {columns}")
    column = columns.index("Name")
    names = [line.split("\t")[column].split(",")[0].strip() for line in lines if line.strip()]
    folders = root / "images" / split, root / "annotations" / split
    return read_mask_folder(*folders, names, first=1, ignored=(0,))


@dataclass(frozen=True)
class _Coco(LabelledImages):
    names: tuple[str, ...]
    classes: tuple[str, ...]
    folder: Path
    annotations: tuple[list[dict[str, Any]], ...]
    rows: dict[int, int]

    def path(self, index: int) -> Path:
        return self.folder / self.names[index]

    def _labels(self, index: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
        labels = np.zeros(size, dtype=np.int64)
        # Crowds first, then from large to small: what is small lies on what is large.
        for entry in sorted(
            self.annotations[index], key=lambda e: (not e.get("iscrowd", 0), -e.get("area", 0.0))
        ):
            try:
                mask = paint(entry["segmentation"], size)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.names[index]}: segmentation: {error}") from error
            labels[mask] = IGNORED if entry.get("iscrowd", 0) else self.rows[entry["category_id"]]
        return labels


def read_coco(annotations: str | Path, images: str | Path) -> LabelledImages:
    """Read COCO's instances as label maps: a background, then the classes by their number.

    Small instances lie on large ones, and crowds do not count where no other instance is. Borders
    of polygons are Pillow's, and differ from those of COCO's own tools by single pixels.

    Parameters
    ----------
    annotations : path-like
        Such as ``instances_val2017.json``: polygons, or run-length codes.
    images : path-like
        The folder of its images.

    Returns
    -------
    LabelledImages
        All images of the file, in its order; also those without an instance.

    Raises
    ------
    FileNotFoundError, ValueError
        It is missing, or no such file.
    """
    path = Path(annotations)
    try:
        content = json.loads(path.read_bytes())
        categories = sorted(content["categories"], key=lambda entry: entry["id"])
        rows = {entry["id"]: row for row, entry in enumerate(categories, 1)}
        of_image: dict[int, list[dict[str, Any]]] = {e["id"]: [] for e in content["images"]}
        for entry in content["annotations"]:
            if entry["category_id"] not in rows:
                raise ValueError(f"category_id {entry['category_id']} is none of the categories")
            of_image[entry["image_id"]].append(entry)
        names = tuple(entry["file_name"] for entry in content["images"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not COCO's instances: {error}") from error
    if not names:
        raise ValueError(f"{path}: no images in it, allowed: at least one")
    classes = ("background", *(entry["name"] for entry in categories))
    return _Coco(names, classes, Path(images), tuple(of_image.values()), rows)


@dataclass(frozen=True)
class TagMask:
    """An image of CC3M-TagMask: its caption, the tags in it that the image shows, and a mask.

    Attributes
    ----------
    image, mask_file : Path
    caption : str
    tags : tuple of str
    """

    image: Path
    mask_file: Path
    caption: str
    tags: tuple[str, ...]

    def mask(self) -> torch.Tensor:
        """Where the image shows the caption, [H, W] bool; the file's numbers other than 0."""
        return torch.from_numpy(_numbers(self.mask_file) != 0)


def read_tag_masks(
    root: str | Path, *, caption_field: str = "caption", tags_field: str = "tags"
) -> tuple[TagMask, ...]:
    """Read a folder that is laid out as CC3M-TagMask (Jo et al., ECCV 2024).

    ``image/NAME.jpg``, ``json_refined/NAME.json`` and ``mask_using_HQ-SAM/NAME.png``. What the
    fields of the JSON objects are called is not documented there; name them if need be.

    Parameters
    ----------
    root : path-like
    caption_field, tags_field : str

    Returns
    -------
    tuple of TagMask
        Those with a mask, sorted by name; at least one.

    Raises
    ------
    FileNotFoundError, ValueError
        A folder is missing or empty, or a JSON file has no such field; the message lists those
        that it has.
    """
    root = Path(root)
    images, masks = (
        {Path(name).with_suffix("").as_posix(): folder / name for name in find_images(folder).names}
        for folder in (root / "image", root / "mask_using_HQ-SAM")
    )
    found = []
    for name, image in images.items():
        if name in masks:
            path = root / "json_refined" / f"{name}.json"
            entry = json.loads(path.read_bytes())
            fields = sorted(entry) if isinstance(entry, dict) else []
            for field in (caption_field, tags_field):
                if field not in fields:
                    raise ValueError(f"{path}: has no field {field!r}, but {fields}")
            found.append(
                TagMask(image, masks[name], entry[caption_field], tuple(entry[tags_field]))
            )
    if not found:
        raise ValueError(f"{root}: no image has a mask, allowed: at least one")
    return tuple(found)


def _require(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")


def _numbers(path: Path) -> np.ndarray[Any, Any]:
    """The pixels of a grey or palette image as they are stored, not as colours."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode not in ("1", "L", "P", "I;16", "I"):
                raise ValueError(f"its mode is {image.mode}, allowed: grey or palette")
            return np.asarray(image)
    except (ValueError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{path}: not a label map: {error}") from error
