"""Pictures of one drawing each, in a folder of its name: for what classifies images."""

from __future__ import annotations

from pathlib import Path

from torchvision.transforms.functional import to_pil_image

from fastclip.data.scenes import compose, load_drawings, placed_alone

NAMES = ("banana", "birthday cake", "cactus", "elephant", "horse", "star")
"""The small model tells these apart: all are named right where these are the vocabulary."""


def write_pictures(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    """Write ``birthday_cake/birthday cake.png`` and so on, on white."""
    drawings = load_drawings()
    rows = [drawings.name_index.tolist().index(drawings.names.index(name)) for name in names]
    images = compose(drawings, [placed_alone(drawings, row) for row in rows], 64)[0]
    for name, image in zip(names, images, strict=True):
        place = folder / name.replace(" ", "_")
        place.mkdir(parents=True)
        to_pil_image(image).save(place / f"{name}.png")
