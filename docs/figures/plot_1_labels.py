"""
A name for each pixel
=====================

`fastclip segment` and :func:`fastclip.report.draw_labels`: the best of a list of names at each
pixel, with a legend, the largest area first.
"""

from torchvision.transforms.functional import to_pil_image

import fastclip
from fastclip.data import scenes
from fastclip.report import draw_labels

drawings = scenes.load_drawings()
scene = scenes.SceneMaker(drawings, seed=0).scene(2, "pair")
pixels, _ = scenes.compose(drawings, [scene], side=256)
image = to_pil_image(pixels[0])

model = fastclip.models.load("tiny")
names = ["doughnut", "monkey face", "castle", "rocket"]
found = fastclip.ttd.segment(
    model, image, names, background=0.25, size=128, method="value-only", refine=True
)
picture = draw_labels(image, found.labels, names)
