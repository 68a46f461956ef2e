from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.report import Panel, draw_labels, draw_panels
from fastclip.report.overlays import _colour


def test_labels_are_coloured_by_area_and_the_background_is_not():
    labels = torch.full((480, 600), -1)
    labels[:, :300] = 1
    labels[:100, 300:400] = 0
    picture = Image.new("RGB", (600, 480), (100, 150, 200))
    drawn = np.array(draw_labels(picture, labels, ["small", "large", "none"])).astype(int)
    base = np.array((100, 150, 200))
    for (y, x), place in (((200, 100), 0), ((50, 350), 1)):
        mixed = 0.4 * base + 0.6 * np.array(_colour(place))
        np.testing.assert_allclose(drawn[y, x], mixed, atol=1)
    assert (drawn[300, 500] == base).all()
    assert (drawn[200, 299] == 255).all()  # an edge
    legend = drawn[:, 600:]
    for place in (0, 1):
        assert (legend == _colour(place)).all(2).sum() > 80
    assert not (legend == _colour(2)).all(2).any()


def test_small_pictures_are_enlarged_and_long_legends_cut():
    labels = torch.arange(48).repeat_interleave(2).repeat(96, 1)
    drawn = draw_labels(Image.new("RGB", (96, 96)), labels, [f"tag {i}" for i in range(48)])
    assert drawn.height == 480
    assert drawn.width > 480
    assert draw_labels(Image.new("RGB", (96, 96)), labels * 0 - 1, []).height == 480


def test_masks_are_heat_maps_of_even_steps():
    mask = torch.zeros(220, 220)
    mask[:110] = 1
    sheet = np.array(draw_panels(Image.new("RGB", (220, 220), "white"), [Panel("cat", mask)]))
    heat = matplotlib.colormaps["viridis"]
    for y, value in ((60, 1.0), (180, 0.0)):
        expected = 0.65 * 255 * np.array(heat(value)[:3]) + 0.35 * 255
        np.testing.assert_allclose(sheet[y, 350], expected, atol=1)
    scale = sheet[-28, 28:208]  # under the panels, from 0 to 1
    luminance = scale @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > -2).all()
    assert luminance[-1] - luminance[0] > 90


def test_what_is_transparent_is_shown_over_white():
    clear = Image.new("RGBA", (480, 480), (0, 0, 0, 0))
    drawn = draw_labels(clear, torch.full((480, 480), -1), [])
    sheet = draw_panels(clear, [Panel("all", torch.ones(480, 480))])
    assert drawn.getpixel((9, 9)) == sheet.getpixel((60, 60)) == (255, 255, 255)
    wide = Image.fromarray(np.full((480, 480), 128 * 257, np.uint16))  # not cut off at 255
    assert draw_labels(wide, torch.full((480, 480), -1), []).getpixel((9, 9)) == (128, 128, 128)


def test_colours_differ():
    colours = [_colour(i) for i in range(24)]
    assert len(set(colours)) == 24
    nearest = min(
        sum(abs(a - b) for a, b in zip(colours[i], colours[j], strict=True))
        for i in range(8)
        for j in range(i)
    )
    assert nearest > 60


@pytest.mark.parametrize("draw", [
    lambda p: draw_labels(p, torch.zeros(3, 4, dtype=torch.int64), ["a"]),
    lambda p: draw_panels(p, [Panel("a", torch.zeros(3, 4))]),
])  # fmt: skip
def test_size_must_be_that_of_the_picture(draw):
    with pytest.raises(ValueError, match=r"the size of the picture \(4, 3\) .* got \(3, 4\)"):
        draw(Image.new("RGB", (3, 4)))
