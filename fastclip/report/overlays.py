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
_HEAT = 0.65  # share of a heat map's colour, the rest is the picture in grey
# Those of Okabe and Ito, which people with any colour vision tell apart.
_FIRST_COLOURS = (
    *((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167)),
    *((86, 180, 233), (213, 94, 0), (240, 228, 66)),
)


class Panel(NamedTuple):
    """A mask as a heat map over its picture, with a line under it."""

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
    """Draw the picture, a heat map of each mask over it, in rows, and the scale of their colours.

    Examples
    --------
    >>> import torch
    >>> from PIL import Image
    >>> from fastclip.report import Panel, draw_panels
    >>> sheet = draw_panels(Image.new("RGB", (96, 96)), [Panel("cat", torch.ones(96, 96))])
    >>> sheet.size
    (464, 308)
    """
    from PIL import Image, ImageDraw

    views = [shrunk(picture, _PANEL), *(heat_map(picture, one.mask, _PANEL) for one in panels)]
    titles = [("the picture", True), *((panel.title, panel.muted) for panel in panels)]
    width, height = views[0].size
    font, gap = _font(13), 8
    pitch = (_PANEL + gap, height + 32 + gap)
    across = min(columns, len(views))
    down = -(-len(views) // columns)
    scale = 40 if panels else 0
    size = (across * pitch[0] + gap, down * pitch[1] + gap + scale)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (view, (title, muted)) in enumerate(zip(views, titles, strict=True)):
        x, y = gap + i % columns * pitch[0], gap + i // columns * pitch[1]
        sheet.paste(view, (x + (_PANEL - width) // 2, y))
        ink = _MUTED if muted else _INK
        draw.text((x, y + height + 14), _fitting(title, font, _PANEL), ink, font, anchor="lm")
    if panels:
        bar, y = heat_scale(_PANEL - 40, 14), size[1] - scale // 2 - gap
        draw.text((gap + 6, y), "0", _INK, font, anchor="mm")
        sheet.paste(bar, (gap + 20, y - bar.height // 2))
        draw.text((gap + _PANEL - 8, y), "1", _INK, font, anchor="mm")
        if across > 1:
            draw.text((gap + pitch[0], y), "mask", _MUTED, font, anchor="lm")
    return sheet


def shrunk(picture: Image, side: int) -> Image:
    """The picture as models get it, its longer side of this length."""
    from PIL import Image

    picture = to_rgb(picture)
    scale = side / max(picture.size)
    width, height = (max(1, round(n * scale)) for n in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def heat_map(picture: Image, mask: torch.Tensor, side: int) -> Image:
    """Draw a mask [H, W] from 0 to 1 in colours of even steps over the picture in grey."""
    import numpy as np
    from PIL import Image

    _check_size(picture, mask)
    small = shrunk(picture, side)
    shown = F.interpolate(mask[None, None].float().cpu(), (small.height, small.width), mode="area")
    grey = np.array(small.convert("L"), dtype=np.float64)[..., None]
    mixed = _HEAT * _heat(shown[0, 0].numpy()) + (1 - _HEAT) * grey
    return Image.fromarray(mixed.round().astype(np.uint8))


def heat_scale(width: int, height: int) -> Image:
    """Draw the colours of `heat_map` from 0, on the left, to 1."""
    import numpy as np
    from PIL import Image

    row = _HEAT * _heat(np.linspace(0, 1, width)) + (1 - _HEAT) * 128
    return Image.fromarray(np.tile(row.round().astype(np.uint8), (height, 1, 1)))


def _heat(values: Any) -> Any:
    """viridis: lightness grows evenly, and it does not rest on red and green."""
    import matplotlib

    return 255 * matplotlib.colormaps["viridis"](values)[..., :3]


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
    """The i-th of any number of colours; later hues by the golden ratio: near ones differ."""
    if i < len(_FIRST_COLOURS):
        return _FIRST_COLOURS[i]
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
