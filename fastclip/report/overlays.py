"""Pictures with labels or masks over them, and what these mean beside or under them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F

from fastclip.data.image_decoding import to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

_SMALLEST = 480  # pixels of the longer side that a picture is enlarged to, by whole factors
_ENTRIES = 24
_INK, _MUTED, _PAPER = "#1d2126", "#5f6873", "#ffffff"
_PANEL = 220
_OPACITY = 0.6


class Panel(NamedTuple):
    """A mask over its picture, with a line under it."""

    title: str
    mask: torch.Tensor
    """[H, W], from 0 to 1."""
    muted: bool = False


def draw_labels(picture: Image, labels: torch.Tensor, names: Sequence[str]) -> Image:
    """Colour a picture by its labels, with a legend beside it, the largest area first.

    Parameters
    ----------
    picture : PIL image, W x H
        What is transparent is shown over white, as models get it.
    labels : int64 tensor [H, W]
        Rows of names; -1 is left without colour.
    names : sequence of str

    Returns
    -------
    PIL image, RGB
        Small pictures are enlarged.

    Raises
    ------
    ValueError
        labels has another size than the picture.

    Examples
    --------
    >>> import torch
    >>> from PIL import Image
    >>> from fastclip.report import draw_labels
    >>> labels = torch.tensor([[0, -1]]).repeat(240, 240)
    >>> draw_labels(Image.new("RGB", (480, 240)), labels, ["cat"]).height
    240
    """
    import numpy as np
    from PIL import Image, ImageDraw

    _check_size(picture, labels)
    picture = to_rgb(picture)
    factor = max(1, -(-_SMALLEST // max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    ids, areas = labels[labels >= 0].unique(return_counts=True)
    order = ids[areas.argsort(descending=True, stable=True)].cpu()
    share = dict(zip(ids.tolist(), (areas / labels.numel()).tolist(), strict=True))

    place = torch.full((len(names) + 1,), len(order))  # of the label in the legend
    place[order] = torch.arange(len(order))
    shown = place[labels.cpu()]
    shown = shown.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    colours = torch.tensor([*(_colour(i) for i in range(len(order))), (0, 0, 0)])
    pixels = torch.from_numpy(np.array(picture.resize(size, Image.Resampling.BICUBIC))).float()
    alpha = _OPACITY * (shown < len(order)).float()[..., None]
    mixed = pixels * (1 - alpha) + colours[shown] * alpha
    mixed[_edges(shown)] = 255.0
    overlay = Image.fromarray(mixed.round().to(torch.uint8).numpy())

    font = _font(max(14, min(size) // 32))
    line = round(font.size * 1.6)
    rows = [
        (_colour(i), f"{names[label]}  {share[label]:.1%}")
        for i, label in enumerate(order.tolist()[: max(1, min(_ENTRIES, size[1] // line - 1))])
    ]
    more = len(order) - len(rows)
    texts = [text for _, text in rows] + ([f"and {more:,} more"] if more else [])
    widest = max((font.getlength(text) for text in texts or ["nothing"]), default=0)
    sheet = Image.new("RGB", (size[0] + round(widest) + 3 * line, size[1]), _PAPER)
    sheet.paste(overlay)
    draw = ImageDraw.Draw(sheet)
    for i, text in enumerate(texts or ["nothing"]):
        y = round(line * (i + 0.4))
        if i < len(rows):
            box = (size[0] + line // 2, y, size[0] + line // 2 + font.size, y + font.size)
            draw.rectangle(box, fill=rows[i][0], outline=_INK)
        ink = _INK if i < len(rows) else _MUTED
        draw.text((size[0] + round(1.6 * line), y + font.size / 2), text, ink, font, anchor="lm")
    return sheet


def draw_panels(picture: Image, panels: Sequence[Panel], *, columns: int = 4) -> Image:
    """The picture, and the same where each mask leaves light on it, in rows.

    Examples
    --------
    >>> import torch
    >>> from PIL import Image
    >>> from fastclip.report import Panel, draw_panels
    >>> sheet = draw_panels(Image.new("RGB", (96, 96)), [Panel("cat", torch.ones(96, 96))])
    >>> sheet.size
    (464, 268)
    """
    import numpy as np
    from PIL import Image, ImageDraw

    for panel in panels:
        _check_size(picture, panel.mask)
    picture = to_rgb(picture)
    scale = _PANEL / max(picture.size)
    width, height = (max(1, round(n * scale)) for n in picture.size)
    small = picture.resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(small)).float()
    font, gap = _font(13), 8
    pitch = (_PANEL + gap, height + 32 + gap)
    across = min(columns, len(panels) + 1)
    down = -(-(len(panels) + 1) // columns)
    sheet = Image.new("RGB", (across * pitch[0] + gap, down * pitch[1] + gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    whole = Panel("the picture", torch.ones(picture.height, picture.width), muted=True)
    for i, panel in enumerate([whole, *panels]):
        x, y = gap + i % columns * pitch[0], gap + i // columns * pitch[1]
        mask = F.interpolate(panel.mask[None, None].float().cpu(), (height, width), mode="area")
        lit = pixels * (0.15 + 0.85 * mask[0, 0, ..., None])
        view = Image.fromarray(lit.round().to(torch.uint8).numpy())
        sheet.paste(view, (x + (_PANEL - width) // 2, y))
        title, ink = _fitting(panel.title, font, _PANEL), _MUTED if panel.muted else _INK
        draw.text((x, y + height + 14), title, ink, font, anchor="lm")
    return sheet


def _check_size(picture: Image, labels: torch.Tensor) -> None:
    if tuple(labels.shape) != (picture.height, picture.width):
        raise ValueError(
            f"labels and masks must have the size of the picture {(picture.height, picture.width)} "
            f"(H, W), got {tuple(labels.shape)}"
        )


def _edges(shown: torch.Tensor) -> torch.Tensor:
    """Pixels whose right or lower neighbour has another label."""
    edges = torch.zeros_like(shown, dtype=torch.bool)
    edges[:-1] |= shown[:-1] != shown[1:]
    edges[:, :-1] |= shown[:, :-1] != shown[:, 1:]
    return edges


def _colour(i: int) -> tuple[int, int, int]:
    """The i-th of any number of colours; hues by the golden ratio, so that near ones differ."""
    saturation, value = ((0.85, 0.95), (0.55, 1.0), (0.95, 0.65))[i // 8 % 3]
    rgb = colorsys.hsv_to_rgb((0.61 + 0.61803399 * i) % 1.0, saturation, value)
    red, green, blue = (round(255 * part) for part in rgb)
    return red, green, blue


def _fitting(text: str, font: Any, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


@cache
def _font(size: int) -> FreeTypeFont:
    """matplotlib's, which has more letters than Pillow's."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)
