"""Images with label maps: folders of masks, VOC and ADE20K."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._upright import DrawnOn, Size, as_seen, check_drawn_on, drawn_as
from .checks import check_strings
from .image_decoding import decode_image, decode_label_map, orientation_of
from .image_sources import list_images

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
    def _labels(self, index: int, size: Size, orientation: int) -> np.ndarray[Any, Any]:
        """The label map of an image that is seen in this size, as it is seen."""

    def image(self, index: int) -> PilImage:
        """One image in RGB; raises OSError or ValueError, with its path, if it cannot be read."""
        return read_image(self.path(index))[0]

    def labels(self, index: int) -> torch.Tensor:
        """The label map of one image, [H, W] int64: rows of ``classes``, or -1: does not count.

        Raises
        ------
        OSError, ValueError
            It cannot be read, is not as large as its image, or holds a number without a class; or
            EXIF turns the image and nothing tells whether the label map is turned, too.
        """
        image, orientation = read_image(self.path(index))
        labels = self._labels(index, (image.height, image.width), orientation)
        return torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))


@dataclass(frozen=True)
class _MaskFolder(LabelledImages):
    names: tuple[str, ...]
    classes: tuple[str, ...]
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    row_of: dict[int, int]  # of each number in the masks; -1: does not count
    drawn_on: DrawnOn | None

    def path(self, index: int) -> Path:
        return self.images[index]

    def _labels(self, index: int, size: Size, orientation: int) -> np.ndarray[Any, Any]:
        path = self.masks[index]
        numbers = read_upright_mask(path, size, orientation, self.drawn_on)
        present, places = np.unique(numbers, return_inverse=True)
        for number in present.tolist():
            if number not in self.row_of:
                raise ValueError(
                    f"{path}: holds the number {int(number)}, allowed: {_listed(self.row_of)}. "
                    f"Give ignored=({int(number)},) if its pixels do not count, or numbers=, a "
                    "number for each class, such as (0, 255)"
                )
        rows = np.array([self.row_of[number] for number in present.tolist()])
        return rows[places].reshape(size)


def read_mask_folder(
    images: str | Path,
    masks: str | Path,
    classes: Sequence[str],
    *,
    numbers: Sequence[int] | None = None,
    ignored: Sequence[int] = (),
    drawn_on: DrawnOn | None = None,
) -> LabelledImages:
    """Read images and label maps that lie in two folders, and below, under the same names.

    Parameters
    ----------
    images, masks : path-like
        ``images/a/1.jpg`` belongs to ``masks/a/1.png``. Masks are grey or palette PNG (or GIF, BMP,
        TIFF), whose pixels hold numbers. Images without a mask are left out.
    classes : sequence of str
        What the numbers stand for.
    numbers : sequence of int, optional
        The number of each class, such as ``(0, 255)``, or ``range(1, 151)`` where 0 does not count.
        Default: 0, 1, ...
    ignored : sequence of int
        Numbers of pixels that do not count, such as ``(255,)``.
    drawn_on : "upright" or "stored", optional
        Where EXIF turns an image: whether masks are of the picture as it is seen, or of the pixels
        as they are in the file, and are turned, too. Default: what their sizes say; where these
        say nothing, as of squares, such an image is refused.

    Returns
    -------
    LabelledImages
        At least one.

    Raises
    ------
    FileNotFoundError
        A folder is missing.
    ValueError
        There are no classes, no images, or none with a mask; a number has two meanings; two files
        have the same name but for the suffix.

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
    check_drawn_on(drawn_on)
    check_strings("classes", classes)
    if not classes:
        raise ValueError("classes: at least one is needed, got none")
    row_of = _rows(range(len(classes)) if numbers is None else numbers, len(classes), ignored)
    found = [by_name(Path(folder)) for folder in (images, masks)]
    names = [name for name in found[0] if name in found[1]]
    if not names:
        raise ValueError(f"{masks}: holds no mask of an image in {images}")
    of_images, of_masks = (tuple(paths[name] for name in names) for paths in found)
    return _MaskFolder(tuple(names), tuple(classes), of_images, of_masks, row_of, drawn_on)


def _rows(numbers: Sequence[int], classes: int, ignored: Sequence[int]) -> dict[int, int]:
    """What the numbers in the masks stand for."""
    if len(numbers) != classes:
        raise ValueError(f"numbers: {classes} are needed, one per class, got {len(numbers)}")
    row_of = {int(number): row for row, number in enumerate(numbers)}
    if len(row_of) < classes:
        raise ValueError("numbers: two classes have the same number, allowed: different ones")
    for number in ignored:
        if row_of.setdefault(int(number), IGNORED) != IGNORED:
            raise ValueError(f"ignored: holds {number}, which is also the number of a class")
    return row_of


def _listed(row_of: dict[int, int]) -> str:
    """The numbers, with ranges for those in a row."""
    numbers = sorted(row_of)
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    texts = [" to ".join(map(str, part)) for part in parts]
    return ", ".join(texts if len(texts) <= 10 else [*texts[:10], "..."])


def read_voc(
    root: str | Path, split: str = "val", *, drawn_on: DrawnOn | None = None
) -> LabelledImages:
    """Read Pascal VOC 2012's label maps: 20 classes after the background; borders do not count.

    ``root`` has ``JPEGImages``, ``SegmentationClass`` and ``ImageSets/Segmentation/SPLIT.txt``;
    ``drawn_on`` as for `read_mask_folder`. Raises FileNotFoundError or ValueError where one of
    them is missing, or empty.
    """
    check_drawn_on(drawn_on)
    root = Path(root)
    names = tuple(_text(root / "ImageSets" / "Segmentation" / f"{split}.txt").split())
    if not names:
        raise ValueError(f"{root}: the split {split!r} is empty")
    images = tuple(root / "JPEGImages" / f"{name}.jpg" for name in names)
    masks = tuple(root / "SegmentationClass" / f"{name}.png" for name in names)
    _require(images[:1] + masks[:1])
    row_of = _rows(range(len(_VOC)), len(_VOC), (255,))
    return _MaskFolder(names, _VOC, images, masks, row_of, drawn_on)


def read_ade20k(
    root: str | Path, split: str = "validation", *, drawn_on: DrawnOn | None = None
) -> LabelledImages:
    """Read the 150 classes of ADE20K's scene parsing challenge (2016); 0, all else, does not count.

    ``root`` has ``images/SPLIT``, ``annotations/SPLIT`` and the table ``objectInfo150.txt``, whose
    column ``Name`` says what each class is: its first name counts. ``drawn_on`` as for
    `read_mask_folder`. Raises FileNotFoundError or ValueError where one of them is missing or
    damaged.
    """
    root = Path(root)
    table = root / "objectInfo150.txt"
    lines = _text(table).splitlines()
    columns = lines[0].split("\t") if lines else []
    if "Name" not in columns:
        raise ValueError(f"{table}: has no column Name, but {columns}")
    names = []
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            fields = line.split("\t")
            if len(fields) != len(columns):
                raise ValueError(
                    f"{table}: line {number}: {len(fields)} fields, allowed: {len(columns)}"
                )
            names.append(fields[columns.index("Name")].split(",")[0].strip())
    folders = root / "images" / split, root / "annotations" / split
    numbers = range(1, len(names) + 1)
    return read_mask_folder(*folders, names, numbers=numbers, ignored=(0,), drawn_on=drawn_on)


def by_name(folder: Path) -> dict[str, Path]:
    """Images of a folder by their paths without suffix.

    Raises
    ------
    FileNotFoundError, ValueError
        There are none, or two have the same.
    """
    found: dict[str, Path] = {}
    for name in list_images(folder).names:
        first = found.setdefault(Path(name).with_suffix("").as_posix(), folder / name)
        if first != folder / name:
            raise ValueError(
                f"{folder}: {first.relative_to(folder)} and {name} have the same name but for the "
                "suffix, allowed: one of them"
            )
    return found


def read_image(path: Path) -> tuple[PilImage, int]:
    """An image as it is seen, and the EXIF orientation that turned it; errors with its path."""
    try:
        data = path.read_bytes()
        return decode_image(data), orientation_of(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_upright_mask(
    path: Path, size: Size, orientation: int, drawn_on: DrawnOn | None
) -> np.ndarray[Any, Any]:
    """The numbers of a label map, turned as its image is seen, in ``size``."""
    try:
        numbers = decode_label_map(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not a label map: {error}") from error
    shape = (numbers.shape[0], numbers.shape[1])
    try:
        return as_seen(numbers, size, orientation, drawn_as(shape, size, orientation, drawn_on))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{path}: not UTF-8 ({error})") from error


def _require(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
