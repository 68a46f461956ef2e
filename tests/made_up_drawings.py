"""Drawings made up for tests: solid shapes, so that every pixel can be told."""

from __future__ import annotations

import torch

from fastclip.data.scenes.drawings import Drawings, mips


def made_up_drawings(
    names: tuple[str, ...] = ("cat", "dog", "owl", "penguin", "red apple"),
    sets: tuple[str, ...] = ("twemoji", "noto"),
) -> Drawings:
    """A drawing of each name by each set: a disc in a colour of its own."""
    count = len(names) * len(sets)
    axis = torch.arange(128) - 63.5
    disc = ((axis[:, None] ** 2 + axis**2) < 60**2).float()
    colours = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    pixels = torch.cat([colours * disc, disc.expand(count, 1, 128, 128)], dim=1) * 255
    return Drawings(
        names=names,
        groups=tuple("fruit" if "apple" in name else "animal" for name in names),
        tags=tuple(() for _ in names),
        sets=sets,
        sources=sets,
        name_index=torch.arange(len(names)).repeat(len(sets)),
        set_index=torch.arange(len(sets)).repeat_interleave(len(names)),
        mips=mips(pixels),
    )
