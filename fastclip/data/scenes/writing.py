"""``fastclip scenes write``: scenes as files, for programs that want a data set on disk."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from fastclip.data.checks import check_at_least
from fastclip.data.files import dump_json, replacing

from .captions import caption, object_replaced, relation_swap, size_swap, sizes, tags
from .compose import Scene, SceneMaker, compose, generator
from .drawings import Drawings

_BATCH = 64
_REPLACED = 3  # stream of a scene's generator


def write_scenes(
    drawings: Drawings,
    folder: Path,
    *,
    count: int,
    seed: int,
    kind: Literal["single", "pair", "several"] = "pair",
    side: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write ``count`` scenes: images, masks, and ``captions.jsonl`` with a line per scene.

    Existing pictures stay as they are, so an interrupted run can be resumed; a scene
    has the same pixels whatever ``count`` is.

    Parameters
    ----------
    drawings : Drawings
    folder : path
        Gets ``images/000000.png``, ``masks/000000-0.png`` (8-bit, the visible share of object 0)
        and, last, ``captions.jsonl``; is made if need be.
    count : int
        How many scenes, 1 or more.
    seed : int
        0 or more. A folder holds scenes of one seed, kind and side only.
    kind : "single", "pair" or "several"
        One object, two apart from each other, or three to four.
    side : int
        Pixels of a side, 8 to 1024.
    progress : callable, optional
        Told how many scenes are there, and ``count``.

    Raises
    ------
    ValueError
        An argument is out of range, or the folder holds scenes of other settings.
    """
    check_at_least(1, count=count)
    maker = SceneMaker(drawings, seed)
    maker.scene(0, kind)  # raises for an unknown kind
    if not 8 <= side <= 1024:
        raise ValueError(f"side is {side}, must be 8 to 1024")
    settings = {"seed": seed, "kind": kind, "side": side, "drawings": _fingerprint(drawings)}
    _claim(folder, settings)
    for start in range(0, count, _BATCH):
        indices = range(start, min(start + _BATCH, count))
        missing = [i for i in indices if not _image_path(folder, i).is_file()]
        if missing:
            scenes = [maker.scene(i, kind) for i in missing]
            _write_pictures(drawings, scenes, missing, folder, side)
        if progress is not None:
            progress(indices.stop, count)
    with replacing(folder / "captions.jsonl") as part, open(part, "w", encoding="utf-8") as file:
        for index in range(count):
            line = describe(drawings, maker.scene(index, kind), seed, index)
            file.write(json.dumps(line) + "\n")


def describe(drawings: Drawings, scene: Scene, seed: int, index: int) -> dict[str, Any]:
    """What ``captions.jsonl`` says of a scene."""
    stem = f"{index:06d}"
    line: dict[str, Any] = {
        "image": f"images/{stem}.png",
        "masks": [f"masks/{stem}-{slot}.png" for slot in range(len(scene.objects))],
        "caption": caption(drawings, scene),
        "tags": tags(drawings, scene),
        "groups": [drawings.groups[name] for name in scene.names],
        "objects": [asdict(placed) for placed in scene.objects],
    }
    if len(scene.objects) == 2:
        rng = generator(seed, index, _REPLACED)
        line["relation_swap"] = asdict(relation_swap(drawings, scene))
        line["object_replaced"] = asdict(object_replaced(drawings, scene, rng))
        if sizes(*scene.objects):
            line["size_swap"] = asdict(size_swap(drawings, scene))
    return line


def _image_path(folder: Path, index: int) -> Path:
    return folder / "images" / f"{index:06d}.png"


def _fingerprint(drawings: Drawings) -> str:
    """Tells apart selections of drawings, whose equal seeds give other scenes."""
    rows = torch.stack([drawings.name_index, drawings.set_index])
    weights = torch.arange(1, rows.numel() + 1).view_as(rows)
    return f"{len(drawings)}-{int((rows * weights).sum()):x}"


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    if path.is_file():
        found = json.loads(path.read_text("utf-8"))
        if found != settings:
            raise ValueError(f"{folder}: holds scenes of {found}, not of {settings}")
        return
    dump_json(path, settings)


def _write_pictures(
    drawings: Drawings, scenes: list[Scene], indices: list[int], folder: Path, side: int
) -> None:
    images, masks = compose(drawings, scenes, side)
    for index, scene, image, layers in zip(indices, scenes, images, masks, strict=True):
        for slot in range(len(scene.objects)):
            _write_png(folder / "masks" / f"{index:06d}-{slot}.png", layers[slot])
        # Last: where the image is, its masks are.
        _write_png(_image_path(folder, index), image.permute(1, 2, 0))


def _write_png(path: Path, pixels: torch.Tensor) -> None:
    from PIL import Image

    with replacing(path) as part:
        Image.fromarray((pixels * 255).round().to(torch.uint8).numpy()).save(part, "PNG")
