"""What ``fastclip tag`` and ``fastclip segment`` share: options, names, and masks as files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fastclip.cli._vocabulary import Prompts, prompts

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from fastclip.models import Model


Method = Literal["value", "value-only", "plain"]
Size = Annotated[int, typer.Option(min=1, help="Shorter side of the model's input, in pixels.")]
Scales = Annotated[
    list[float] | None,
    typer.Option(
        help="Average over several sizes: repeat it with factors such as 0.5, 1, 1.5 and 2."
    ),
]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")]
Window = Annotated[
    int | None,
    typer.Option(min=1, help="Side of overlapping squares to encode one by one, in pixels."),
]
Reading = Annotated[
    Method, typer.Option("--method", help="How features of pixels are read from the model.")
]
Refine = Annotated[
    bool, typer.Option("--refine", help="Refine masks along the edges of the image (PAMR).")
]


def encode(model: Model, names: Sequence[str], templates: Prompts) -> torch.Tensor:
    from fastclip.ttd import encode_tags

    return encode_tags(model, names, prompts(templates), progress=True)


def read_picture(path: Path) -> Image:
    """Raises FileNotFoundError or ValueError, with the path."""
    from fastclip.models._images import as_rgb

    return as_rgb(path)


def save_picture(path: Path, picture: Image) -> None:
    from fastclip.data.files import replacing

    with replacing(path) as part:
        picture.save(part, "PNG")


def save_mask(path: Path, mask: torch.Tensor) -> None:
    """[H, W] from 0 to 1 as a grey PNG."""
    import torch
    from PIL import Image

    save_picture(path, Image.fromarray((mask * 255).round().to(torch.uint8).numpy(force=True)))


def save_labels(path: Path, labels: torch.Tensor, count: int) -> None:
    """0 for the background and 1 + the row of ``count`` tags, in 8 bits, or 16 if needed."""
    import numpy as np
    from PIL import Image

    if count >= 1 << 16:
        raise ValueError(f"{path}: a PNG has no place for {count:,} tags, allowed: 65,535")
    kind = np.uint8 if count < 1 << 8 else np.uint16
    save_picture(path, Image.fromarray((labels + 1).numpy(force=True).astype(kind)))


def save_json(path: Path, content: Any) -> None:
    from fastclip.data.files import dump_json

    dump_json(path, content, ensure_ascii=False, indent=1)


def file_name(text: str) -> str:
    """A tag as part of a file's name."""
    return re.sub(r"[^\w-]+", "-", text)[:40].strip("-") or "tag"
