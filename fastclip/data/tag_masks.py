"""Masks of whole captions, as CC3M-TagMask has them."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from ._upright import DrawnOn, check_drawn_on
from .label_maps import by_name, read_image, read_upright_mask


@dataclass(frozen=True)
class TagMask:
    """An image of CC3M-TagMask: its caption, the tags in it that the image shows, and a mask.

    Attributes
    ----------
    image, mask_file : Path
    caption : str
    tags : tuple of str
    drawn_on : "upright", "stored" or None
        As for `read_mask_folder`.
    """

    image: Path
    mask_file: Path
    caption: str
    tags: tuple[str, ...]
    drawn_on: DrawnOn | None = None

    def mask(self) -> torch.Tensor:
        """Where the image shows the caption, [H, W] bool; the file's numbers other than 0.

        Raises
        ------
        OSError, ValueError
            It cannot be read, is not as large as its image, or EXIF turns the image and nothing
            tells whether the mask is turned, too.
        """
        image, orientation = read_image(self.image)
        size = image.height, image.width
        numbers = read_upright_mask(self.mask_file, size, orientation, self.drawn_on)
        return torch.from_numpy(numbers != 0)


def read_tag_masks(
    root: str | Path,
    *,
    caption_field: str = "caption",
    tags_field: str = "tags",
    drawn_on: DrawnOn | None = None,
) -> tuple[TagMask, ...]:
    """Read a folder that is laid out as CC3M-TagMask (Jo et al., ECCV 2024).

    ``image/NAME.jpg``, ``json_refined/NAME.json`` and ``mask_using_HQ-SAM/NAME.png``. What the
    fields of the JSON objects are called is not documented there; name them if need be.

    Parameters
    ----------
    root : path-like
    caption_field, tags_field : str
        Of a text, and of a list of texts.
    drawn_on : "upright" or "stored", optional
        As for `read_mask_folder`.

    Returns
    -------
    tuple of TagMask
        Those with a mask, sorted by name; at least one.

    Raises
    ------
    FileNotFoundError, ValueError
        A folder is missing or empty, a JSON file is damaged or has no such field; the message
        lists those that it has.
    """
    check_drawn_on(drawn_on)
    root = Path(root)
    images, masks = (by_name(root / folder) for folder in ("image", "mask_using_HQ-SAM"))
    found = []
    for name, image in images.items():
        if name in masks:
            path = root / "json_refined" / f"{name}.json"
            caption, tags = _entry(path, caption_field, tags_field)
            found.append(TagMask(image, masks[name], caption, tags, drawn_on))
    if not found:
        raise ValueError(f"{root}: no image has a mask, allowed: at least one")
    return tuple(found)


def _entry(path: Path, caption_field: str, tags_field: str) -> tuple[str, tuple[str, ...]]:
    try:
        entry = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    fields = sorted(entry) if isinstance(entry, dict) else []
    for field in (caption_field, tags_field):
        if field not in fields:
            raise ValueError(f"{path}: has no field {field!r}, but {fields}")
    caption, tags = entry[caption_field], entry[tags_field]
    if not isinstance(caption, str):
        raise ValueError(f"{path}: {caption_field} is {caption!r:.60}, allowed: a text")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError(f"{path}: {tags_field} is {tags!r:.60}, allowed: a list of texts")
    return caption, tuple(tags)
