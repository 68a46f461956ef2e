"""Scenes: drawings placed on a background, with the exact mask of each.

Everything about scene ``index`` is drawn from one generator of (seed, index), so a scene is the
same in every batch, process and order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from fastclip.data.checks import check_at_least

from .drawings import LEVELS, Drawings

Kind = Literal["single", "pair", "several"]
BACKGROUNDS = ("white", "plain", "gradient", "texture")


@dataclass(frozen=True)
class Placed:
    """A drawing in a scene. Positions and sizes are shares of the picture's side."""

    drawing: int  # row of the drawings
    name: int  # row of their names
    x: float  # centre, from the left
    y: float  # centre, from the top
    size: float  # side of the drawing's square
    angle: float = 0.0  # radians
    flip: bool = False  # left and right exchanged
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Background:
    """``kind`` is one of `BACKGROUNDS`; colours are red, green, blue from 0 to 1."""

    kind: str
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    angle: float
    frequency: float


@dataclass(frozen=True)
class Scene:
    """Objects, painted in this order, over a background; ``noise`` is a standard deviation."""

    objects: tuple[Placed, ...]
    background: Background
    noise: float = 0.0
    noise_seed: int = 0

    @property
    def names(self) -> tuple[int, ...]:
        return tuple(placed.name for placed in self.objects)


def generator(seed: int, index: int, stream: int = 0) -> np.random.Generator:
    """Return the generator of one scene; ``stream`` keeps independent uses of it apart."""
    return np.random.Generator(np.random.Philox(key=[seed, (index << 8) | stream]))


class SceneMaker:
    """Draws scenes of some drawings.

    Parameters
    ----------
    drawings : Drawings
        What to place.
    seed : int
        Not negative. Equal seeds and drawings give equal scenes.
    augment : bool, default False
        Vary angle, mirroring, brightness, size and noise as training pictures need, and let
        objects reach over the border.

    Examples
    --------
    >>> from fastclip.data.scenes import SceneMaker, compose, load_drawings
    >>> drawings = load_drawings()
    >>> scene = SceneMaker(drawings, seed=0).scene(7, "pair")
    >>> images, masks = compose(drawings, [scene], side=64)
    >>> images.shape, masks.shape
    (torch.Size([1, 3, 64, 64]), torch.Size([1, 2, 64, 64]))
    """

    def __init__(self, drawings: Drawings, seed: int, *, augment: bool = False) -> None:
        check_at_least(0, seed=seed)
        self.drawings = drawings
        self.seed = seed
        self.augment = augment
        self._present = np.array(drawings.present)

    def scene(self, index: int, kind: Kind) -> Scene:
        """Draw scene number ``index``, 0 or more; no name comes twice in it.

        Parameters
        ----------
        index : int
            0 or more.
        kind : "single", "pair" or "several"
            One object in the middle, two that do not touch, or three to four.

        Raises
        ------
        ValueError
            ``kind`` is none of these, or the drawings are of too few names.
        """
        rng = generator(self.seed, index)
        if kind == "single":
            boxes = [self._alone(rng)]
        elif kind == "pair":
            boxes = _side_by_side(rng)
        elif kind == "several":
            boxes = _in_quarters(rng)
        else:
            raise ValueError(f"kind is {kind!r}, allowed: single, pair, several")
        if len(self._present) < len(boxes):
            raise ValueError(
                f"drawings: are of {len(self._present)} names, must be of 4 or more for {kind!r} "
                "(2 for 'pair')"
            )
        names = rng.choice(self._present, size=len(boxes), replace=False, shuffle=False)
        objects = tuple(
            self._place(rng, int(name), *box) for name, box in zip(names, boxes, strict=True)
        )
        noise = float(rng.uniform(0, 0.04)) if self.augment and rng.random() < 0.5 else 0.0
        return Scene(objects, _background(rng), noise, int(rng.integers(2**31)))

    def _alone(self, rng: np.random.Generator) -> tuple[float, float, float]:
        if not self.augment:
            return 0.5, 0.5, 0.85
        size = float(np.exp(rng.uniform(math.log(0.35), math.log(1.25))))
        room = max(0.0, 0.5 - size / 2) + 0.08
        return (*(0.5 + rng.uniform(-room, room, size=2)).tolist(), size)

    def _place(
        self, rng: np.random.Generator, name: int, x: float, y: float, size: float
    ) -> Placed:
        by_source = self.drawings.by_name[name]
        rows = by_source[rng.integers(len(by_source))]
        placed = Placed(int(rows[rng.integers(len(rows))]), name, x, y, size)
        if not self.augment:
            return placed
        gain = rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, size=3)
        return replace(
            placed,
            angle=float(rng.normal(0, 0.12)),
            flip=bool(rng.random() < 0.3),
            gain=tuple(gain.tolist()),
        )


def placed_alone(drawings: Drawings, row: int) -> Scene:
    """Place drawing number ``row`` in the middle of a white picture, over 85 % of its side."""
    white = Background("white", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.0, 1.0)
    return Scene((Placed(row, int(drawings.name_index[row]), 0.5, 0.5, 0.85),), white)


def exchanged(scene: Scene) -> Scene:
    """Return the scene with the first two drawings in each other's place and size."""
    first, second, *others = scene.objects
    return replace(
        scene,
        objects=(
            replace(first, drawing=second.drawing, name=second.name),
            replace(second, drawing=first.drawing, name=first.name),
            *others,
        ),
    )


def _side_by_side(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Two boxes that do not touch; in half of the cases one is at least 1.5 times as large."""
    if rng.random() < 0.5:
        sizes = [rng.uniform(0.24, 0.34), rng.uniform(0.51, 0.62)]
    else:
        middle = rng.uniform(0.32, 0.46)
        sizes = [middle * rng.uniform(0.92, 1.08) for _ in range(2)]
    rng.shuffle(sizes)
    slack = 1.0 - sum(sizes)
    before, between = np.sort(rng.uniform(0, slack, size=2))
    along = [before + sizes[0] / 2, between + sizes[0] + sizes[1] / 2]
    across = [rng.uniform(size / 2, 1 - size / 2) for size in sizes]
    boxes = list(zip(along, across, sizes, strict=True))
    if rng.random() < 0.5:
        boxes = [(across, along, size) for along, across, size in boxes]
    if rng.random() < 0.5:
        boxes.reverse()
    return [(float(x), float(y), float(size)) for x, y, size in boxes]


def _in_quarters(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Three or four boxes about the middles of the quarters; neighbours may overlap a little."""
    cells = rng.permutation(4)[: rng.integers(3, 5)]
    boxes = []
    for cell in cells.tolist():
        x, y = 0.25 + 0.5 * (cell % 2), 0.25 + 0.5 * (cell // 2)
        jitter = rng.uniform(-0.05, 0.05, size=2)
        boxes.append((x + float(jitter[0]), y + float(jitter[1]), float(rng.uniform(0.32, 0.5))))
    return boxes


def _background(rng: np.random.Generator) -> Background:
    first, second = rng.uniform(0.2, 1.0, size=(2, 3))
    kind = BACKGROUNDS[int(rng.choice(4, p=[0.25, 0.3, 0.3, 0.15]))]
    return Background(
        kind,
        tuple(first.tolist()),
        tuple(second.tolist()),
        float(rng.uniform(0, 2 * math.pi)),
        float(rng.uniform(2, 8)),
    )


def compose(
    drawings: Drawings, scenes: Sequence[Scene], side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paint scenes.

    Parameters
    ----------
    drawings : Drawings
        Those that the scenes were made of.
    scenes : sequence of Scene
        B scenes.
    side : int
        Pixels of a side, 8 to 1024.

    Returns
    -------
    images : torch.Tensor
        [B, 3, side, side] float32 from 0 to 1.
    masks : torch.Tensor
        [B, K, side, side] float32, K the most objects of a scene: the share of each pixel that
        the object covers and no later one hides. The image is the sum of masks times colours and
        what they leave of the background.

    Raises
    ------
    ValueError
        ``side`` is out of range or there is no scene.
    """
    if not 8 <= side <= 1024:
        raise ValueError(f"side is {side}, must be 8 to 1024")
    if not scenes:
        raise ValueError("scenes is empty, must hold at least one")
    images = torch.stack([_paint_background(scene.background, side) for scene in scenes])
    count = max(len(scene.objects) for scene in scenes)
    masks = torch.zeros(len(scenes), count, side, side)
    for slot in range(count):
        rows = [i for i, scene in enumerate(scenes) if len(scene.objects) > slot]
        placed = [scenes[i].objects[slot] for i in rows]
        colour, alpha = _paint(drawings, placed, side)
        images[rows] = images[rows] * (1 - alpha) + colour
        masks[rows] *= 1 - alpha
        masks[rows, slot] = alpha[:, 0]
    for image, scene in zip(images, scenes, strict=True):
        if scene.noise > 0:
            rng = np.random.Generator(np.random.Philox(scene.noise_seed))
            noise = rng.standard_normal((3, side, side), dtype=np.float32)
            image += scene.noise * torch.from_numpy(noise)
    return images.clamp_(0, 1), masks


def _paint(
    drawings: Drawings, placed: Sequence[Placed], side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Premultiplied colour [N, 3, side, side] and alpha [N, 1, side, side] of one object each."""
    painted = torch.empty(len(placed), 4, side, side)
    # The smallest copy that is not enlarged: larger ones would alias, smaller ones blur.
    wanted = [0.9 * p.size * side for p in placed]
    sizes = [min((s for s in LEVELS if s >= pixels), default=LEVELS[0]) for pixels in wanted]
    for level, pixels in zip(LEVELS, drawings.mips, strict=True):
        rows = [i for i, size in enumerate(sizes) if size == level]
        if rows:
            tiles = pixels[[placed[i].drawing for i in rows]].float() / 255
            theta = torch.tensor([_affine(placed[i]) for i in rows])
            grid = F.affine_grid(theta, [len(rows), 4, side, side], align_corners=False)
            painted[rows] = F.grid_sample(tiles, grid, align_corners=False)
    colour, alpha = painted[:, :3], painted[:, 3:]
    gains = torch.tensor([p.gain for p in placed])[:, :, None, None]
    return torch.minimum(colour * gains, alpha), alpha


def _affine(placed: Placed) -> list[list[float]]:
    """From the picture's coordinates (-1 to 1) to the drawing's."""
    cos, sin = math.cos(placed.angle) / placed.size, math.sin(placed.angle) / placed.size
    x, y = 2 * placed.x - 1, 2 * placed.y - 1
    mirror = -1.0 if placed.flip else 1.0
    return [
        [mirror * cos, mirror * sin, -mirror * (cos * x + sin * y)],
        [-sin, cos, sin * x - cos * y],
    ]


def _paint_background(background: Background, side: int) -> torch.Tensor:
    if background.kind == "white":
        return torch.ones(3, side, side)
    first, second = (
        torch.tensor(colour)[:, None, None] for colour in (background.first, background.second)
    )
    if background.kind == "plain":
        return first.expand(3, side, side).clone()
    axis = (torch.arange(side) + 0.5) / side - 0.5
    along = axis * math.cos(background.angle) + axis[:, None] * math.sin(background.angle)
    if background.kind == "gradient":
        share = 0.5 + along / math.sqrt(2)
    else:  # crossed soft stripes
        across = axis * math.sin(background.angle) - axis[:, None] * math.cos(background.angle)
        turns = 2 * math.pi * background.frequency
        share = 0.5 + 0.25 * (torch.sin(turns * along) + torch.sin(0.7 * turns * across))
    return first + (second - first) * share
