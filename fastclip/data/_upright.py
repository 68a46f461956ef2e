"""Label maps as their images are seen: turned as EXIF turns the image, where need be."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .checks import check_choice

DrawnOn = Literal["upright", "stored"]
"""Of an image that EXIF turns: the picture as it is seen, or the pixels as they are in the file."""

Size = tuple[int, int]
"""Height and width."""


def check_drawn_on(drawn_on: DrawnOn | None) -> None:
    if drawn_on is not None:
        check_choice("drawn_on", drawn_on, ("upright", "stored"))


def stored_size(size: Size, orientation: int) -> Size:
    """The size in the file of an image that is seen in ``size``."""
    return size[::-1] if orientation >= 5 else size


def drawn_as(
    drawn: Size | None,
    size: Size,
    orientation: int,
    drawn_on: DrawnOn | None,
    *,
    scaled: bool = False,
) -> DrawnOn:
    """Say what a label map was drawn on.

    Parameters
    ----------
    drawn, size : pairs of int
        Of the label map, None where nothing states it, and of the image as it is seen.
    orientation : int
        That of EXIF.
    drawn_on : "upright", "stored" or None
        What the user says; None for what the sizes say.
    scaled : bool
        Whether the image may be a scaled copy of the one that was drawn on.

    Raises
    ------
    ValueError
        The sizes do not fit, or fit both.
    """
    sizes: dict[DrawnOn, Size] = {"upright": size, "stored": stored_size(size, orientation)}
    fitting = [on for on, of in sizes.items() if drawn in (of, None)]
    if scaled and not fitting and drawn is not None:
        fitting = [on for on, of in sizes.items() if _same_shape(drawn, of)]
    if drawn_on in fitting:
        return drawn_on
    if not fitting or drawn_on is not None:
        turned = f" (before EXIF turns it {sizes['stored']})" if orientation > 1 else ""
        wanted = size if drawn_on is None else sizes[drawn_on]
        raise ValueError(
            f"its label map is of {drawn} pixels (H, W), its image of {size}{turned}, "
            f"allowed: {wanted}{', or these scaled' if scaled else ''}"
        )
    if orientation > 1 and len(fitting) > 1:
        raise ValueError(
            f"its EXIF orientation {orientation} turns the image, and no size tells whether its "
            "label map is turned, too: give drawn_on='upright' or drawn_on='stored' to the "
            "function that read the label maps"
        )
    return fitting[0]


def as_seen(
    labels: np.ndarray[Any, Any], size: Size, orientation: int, drawn_on: DrawnOn
) -> np.ndarray[Any, Any]:
    """Turn a label map and scale it to the size of its image: the nearest pixel, never a mean."""
    if drawn_on == "stored":
        labels = turned(labels, orientation)
    if labels.shape == size:
        return labels
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, labels.shape, strict=True)
    )
    scaled: np.ndarray[Any, Any] = labels[rows[:, None], columns]
    return scaled


def turned(stored: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """Stored pixels as they are seen, by the EXIF orientation (1 to 8)."""
    if orientation >= 5:
        stored = stored.T
    rows = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    columns = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return stored[rows, columns]


def _same_shape(a: Size, b: Size) -> bool:
    """Whether a scaled copy of one is as large as the other; its shorter side is rounded."""
    return abs(a[0] * b[1] / a[1] - b[0]) < 1 or abs(a[1] * b[0] / a[0] - b[1]) < 1
