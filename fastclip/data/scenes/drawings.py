"""Drawings of named things: the pictures that scenes are composed of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

import torch

from .vocabulary import is_held_out

SIDE = 128  # pixels of the largest copy of a drawing
LEVELS = (128, 64, 32, 16)


@dataclass(frozen=True)
class Drawings:
    """Drawings, their names and the artwork sets that they are from.

    Attributes
    ----------
    names : tuple of str
        V names, such as ``"red apple"``.
    groups : tuple of str
        The superclass of each name, such as ``"food-fruit"``.
    tags : tuple of tuple of str
        Other words for each name.
    sets : tuple of str
        S artwork sets.
    sources : tuple of str
        The artwork behind each set: two sets that show one drawing in two shadings share it.
    name_index, set_index : torch.Tensor
        [D] int64: the name and the set of each drawing.
    mips : tuple of torch.Tensor
        [D, 4, s, s] uint8 for s = 128, 64, 32 and 16: red, green and blue times alpha, and alpha.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    sets: tuple[str, ...]
    sources: tuple[str, ...]
    name_index: torch.Tensor
    set_index: torch.Tensor
    mips: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.name_index)

    @cached_property
    def held_out(self) -> torch.Tensor:
        """[V] bool: names that no training picture shows."""
        return torch.tensor([is_held_out(name) for name in self.names])

    def select(self, sets: Iterable[str], *, held_out: bool | None = None) -> Drawings:
        """Return the drawings of some artwork sets; all names stay, so that indices stay valid.

        Parameters
        ----------
        sets : iterable of str
            Names of artwork sets, each one of ``self.sets``.
        held_out : bool, optional
            Keep only drawings of held-out names, or only those of the others. None keeps both.

        Raises
        ------
        ValueError
            There is no such set, or no drawing is left.
        """
        wanted = list(sets)
        for name in wanted:
            if name not in self.sets:
                raise ValueError(f"sets holds {name!r}, allowed: {', '.join(self.sets)}")
        keep = torch.isin(
            self.set_index, torch.tensor([self.sets.index(name) for name in wanted]).long()
        )
        if held_out is not None:
            keep &= self.held_out[self.name_index] == held_out
        if not keep.any():
            raise ValueError(f"sets is {wanted}, held_out is {held_out}: no drawing is left")
        return self._keep(keep)

    def of_names(self, names: Iterable[int]) -> Drawings:
        """Return the drawings of the names with these rows; all names stay.

        Raises
        ------
        ValueError
            No drawing is left.
        """
        keep = torch.isin(self.name_index, torch.tensor(list(names)).long())
        if not keep.any():
            raise ValueError("names: no drawing is left")
        return self._keep(keep)

    def _keep(self, keep: torch.Tensor) -> Drawings:
        rows = keep.nonzero()[:, 0]
        return Drawings(
            self.names,
            self.groups,
            self.tags,
            self.sets,
            self.sources,
            self.name_index[rows],
            self.set_index[rows],
            tuple(level[rows] for level in self.mips),
        )

    @cached_property
    def by_name(self) -> tuple[tuple[tuple[int, ...], ...], ...]:
        """For each name the rows of its drawings, one inner tuple per source of artwork."""
        rows: list[dict[str, list[int]]] = [{} for _ in self.names]
        for row, (name, artwork) in enumerate(
            zip(self.name_index.tolist(), self.set_index.tolist(), strict=True)
        ):
            rows[name].setdefault(self.sources[artwork], []).append(row)
        return tuple(tuple(tuple(v) for v in sources.values()) for sources in rows)

    @cached_property
    def present(self) -> tuple[int, ...]:
        """The names that have a drawing here."""
        return tuple(sorted(set(self.name_index.tolist())))


def split(drawings: Drawings, part: Literal["train", "test"]) -> Drawings:
    """Return the drawings to train on, or those of artwork sets or names that are held out.

    Parameters
    ----------
    drawings : Drawings
        With all artwork sets.
    part : "train" or "test"
        Training drawings are of training sets and of names not held out, so no test drawing shares
        an artwork set with one of them; those of held-out names share no name either.

    Raises
    ------
    ValueError
        ``part`` is neither word, or no drawing is left.
    """
    if part not in ("train", "test"):
        raise ValueError(f"part is {part!r}, allowed: train, test")
    roles = {name: source["role"] for name, source in sources()["artwork"].items()}
    sets = [name for name in drawings.sets if roles[name] == part]
    return drawings.select(sets, held_out=False if part == "train" else None)


def load_drawings(folder: str | Path | None = None) -> Drawings:
    """Read drawings from the folder that ``fastclip scenes fetch`` wrote, or the shipped ones.

    Parameters
    ----------
    folder : path, optional
        None reads the drawings that come with the package: noto's (Apache-2.0), which the small
        model has never seen.

    Returns
    -------
    Drawings
        The pixels are memory-mapped where they come from a folder.

    Raises
    ------
    FileNotFoundError
        The folder holds no drawings.

    Examples
    --------
    >>> from fastclip.data.scenes import load_drawings
    >>> drawings = load_drawings()
    >>> drawings.sets, drawings.mips[0].shape[1:]
    (('noto',), torch.Size([4, 128, 128]))
    """
    if folder is None:
        return _shipped()
    from safetensors.torch import load_file

    folder = Path(folder)
    path = folder / "drawings.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no drawings here; `fastclip scenes fetch {folder}` makes them"
        )
    tables = json.loads((folder / "drawings.json").read_text("utf-8"))
    tensors = load_file(path)
    return _from_tables(
        tables,
        tensors["name_index"],
        tensors["set_index"],
        tuple(tensors[f"pixels_{side}"] for side in LEVELS),
    )


def sources() -> dict[str, Any]:
    """List the packages that drawings and names come from, with licence, credit and role."""
    return dict(json.loads((files(__package__) / "sources.json").read_text("utf-8")))


def _shipped() -> Drawings:
    """The drawings of ``shipped/``: one sheet of equal tiles and a table."""
    import numpy as np
    from PIL import Image

    with as_file(files(__package__) / "shipped") as folder:
        tables = json.loads((folder / "drawings.json").read_text("utf-8"))
        with Image.open(folder / "drawings.webp") as image:
            sheet = torch.from_numpy(np.array(image.convert("RGBA")))
    columns = sheet.shape[1] // SIDE
    tiles = sheet.unflatten(0, (-1, SIDE)).unflatten(2, (columns, SIDE)).permute(0, 2, 4, 1, 3)
    straight = tiles.flatten(0, 1)[: len(tables["names"])].float()
    straight[:, :3] *= straight[:, 3:] / 255
    index = torch.arange(len(tables["names"]))
    return _from_tables(tables, index, torch.zeros_like(index), mips(straight))


def _from_tables(
    tables: dict[str, list[str]],
    name_index: torch.Tensor,
    set_index: torch.Tensor,
    levels: tuple[torch.Tensor, ...],
) -> Drawings:
    return Drawings(
        names=tuple(tables["names"]),
        groups=tuple(tables["groups"]),
        tags=tuple(tuple(tags) for tags in tables["tags"]),
        sets=tuple(tables["sets"]),
        sources=tuple(tables["sources"]),
        name_index=name_index,
        set_index=set_index,
        mips=levels,
    )


def mips(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """[D, 4, 128, 128] premultiplied pixels, 0 to 255, halved by box filters to uint8 copies."""
    levels = [torch.empty(len(pixels), 4, side, side, dtype=torch.uint8) for side in LEVELS]
    for start in range(0, len(pixels), 256):
        part = pixels[start : start + 256].float()
        for level in levels:
            level[start : start + 256] = part.round().to(torch.uint8)
            part = torch.nn.functional.avg_pool2d(part, 2)
    return tuple(levels)
