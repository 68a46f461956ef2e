"""Colours of the pages: told apart by any colour vision, and readable on light and dark."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import fastclip.report
from fastclip.report.figures import PAPER
from fastclip.report.overlays import _FIRST_COLOURS

STYLE = (Path(fastclip.report.__file__).parent / "page.css").read_text("utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#\w{6});", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
)

# Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision
# Deficiency, 2009: severity 1, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour) -> np.ndarray:
    if isinstance(colour, str):
        colour = bytes.fromhex(colour[1:])
    x = np.array(list(colour)) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def lab(colour, vision: str) -> np.ndarray:
    """CIELAB of what a vision makes of a colour."""
    seen = np.clip(VISIONS[vision] @ linear(colour), 0, 1)
    t = TO_XYZ @ seen / TO_XYZ.sum(1)
    x, y, z = np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(a, b) -> float:
    """As WCAG has it."""
    low, high = sorted(float(TO_XYZ[1] @ linear(one)) for one in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_two_curves_are_told_apart(scheme, vision):
    assert np.linalg.norm(lab(scheme["first"], vision) - lab(scheme["second"], vision)) > 40


@pytest.mark.parametrize("vision", VISIONS)
def test_labels_are_told_apart(vision):
    """Twice what is noticed at a glance, some 5; red and green of equal lightness give 0."""
    for a, b in combinations(_FIRST_COLOURS, 2):
        assert np.linalg.norm(lab(a, vision) - lab(b, vision)) > 10, (a, b)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(scheme):
    for name in ("text", "muted", "first", "second", "good"):
        for ground in ("page", "card"):
            assert contrast(scheme[name], scheme[ground]) >= 4.5, (name, ground)
    assert contrast(scheme["good"], scheme["good-card"]) >= 4.5


def test_files_that_stand_alone_have_the_colours_of_light_pages():
    assert PAPER._asdict() == {name: LIGHT[name] for name in PAPER._fields}
