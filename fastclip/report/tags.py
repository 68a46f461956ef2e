"""A page on the tags of an image: how they score, why some are selected, and where they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from fastclip.config import config
from fastclip.data.html import data_uri
from fastclip.report.overlays import heat_map, heat_scale, shrunk
from fastclip.report.page import write_page

if TYPE_CHECKING:
    from PIL.Image import Image

CLOSE = 0.02
"""Differences of cosines that say little: 2 in logits, with CLIP's scale of 100."""

_SIDE = 320  # pixels of a map's longer side
_MAPS = 24


class Tag(NamedTuple):
    """One tag and what was found for it."""

    name: str
    cosine: float
    score: float
    """From 0 to 1 over the tags that were asked."""
    selected: bool
    nearest: tuple[int, int]
    """x, y in the picture."""


class Rule(NamedTuple):
    """What a selected tag has."""

    threshold: float | None
    """The lowest score; None for the best names of a vocabulary."""
    minimum: float | None
    """The lowest cosine, if there is one."""


def reason(tag: Tag, rule: Rule, count: int) -> str:
    """Why a tag, one of ``count``, is selected or not."""
    if rule.minimum is not None and tag.cosine < rule.minimum:
        return f"cosine {tag.cosine:.4f} is below the minimum {rule.minimum:g}"
    if rule.threshold is None:
        return f"one of the best {count} names of the vocabulary"
    if count == 1:
        return "it is the only tag, and the best one always scores 1"
    relation = "at least" if tag.selected else "below"
    return f"score {tag.score:.3f} is {relation} {rule.threshold:g}"


def note_on_gap(tags: Sequence[Tag], rule: Rule) -> str:
    """How far the cosines lie apart, which scores from 0 to 1 hide; "" if that says nothing."""
    if len(tags) < 2 or rule.threshold is None:
        return ""
    gap = max(tag.cosine for tag in tags) - min(tag.cosine for tag in tags)
    said = f"The best and the worst cosine are {gap:.4f} apart"
    if gap >= CLOSE:
        return f"{said}."
    return f"{said}, which is little: scores stretch it to 1. A lowest cosine (--minimum) may help."


def write_tags(
    path: str | os.PathLike[str],
    picture: Image,
    tags: Sequence[Tag],
    masks: torch.Tensor,
    *,
    rule: Rule,
    title: str,
    caption: str | None = None,
) -> None:
    """Write one HTML file that loads nothing from elsewhere.

    Parameters
    ----------
    path : path
        An existing file is replaced; the new one appears whole or not at all.
    picture : PIL image, W x H
    tags : sequence of T Tag
    masks : tensor [T, H, W]
        From 0 to 1; those of the first 24 tags are drawn.
    rule : Rule
    title : str
        Name of the picture.
    caption : str, optional
        What the tags were taken from.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    drawn = [_uri(heat_map(picture, mask, _SIDE)) for mask in masks[:_MAPS]]
    write_page(
        Path(path),
        "tags.html.j2",
        title=title,
        caption=caption,
        note=note_on_gap(tags, rule),
        tags=[
            {
                **tag._asdict(),
                "reason": reason(tag, rule, len(tags)),
                "map": drawn[i] if i < len(drawn) else None,
            }
            for i, tag in enumerate(tags)
        ],
        picture=_uri(shrunk(picture, _SIDE)),
        scale=data_uri(heat_scale(240, 14), format="PNG", optimize=True),
        config=config(),
    )


def _uri(image: Image) -> str:
    return data_uri(image, format="JPEG", quality=85)
