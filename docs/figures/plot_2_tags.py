"""
Heat maps of a caption's words
==============================

`fastclip tag` and :func:`fastclip.report.draw_panels`: where each word of a caption has its highest
score. A title in grey is a word that was not selected.
"""

from torchvision.transforms.functional import to_pil_image

import fastclip
from fastclip import ttd
from fastclip.data import scenes
from fastclip.report import Panel, draw_panels

drawings = scenes.load_drawings()
scene = scenes.SceneMaker(drawings, seed=0).scene(2, "pair")
pixels, _ = scenes.compose(drawings, [scene], side=256)
image = to_pil_image(pixels[0])

model = fastclip.models.load("tiny")
tags = [tag.text for tag in ttd.extract_tags(["a doughnut left of a monkey on a table"])[0]]
features = ttd.encode_tags(model, tags)
patches = ttd.dense_features(model, image, size=128, method="value-only")
chosen = ttd.select_tags(patches, features).selected.tolist()
masks = ttd.tag_masks(ttd.image_maps(patches, features, (256, 256)))
panels = [
    Panel(tag, mask, muted=not is_chosen) for tag, mask, is_chosen in zip(tags, masks, chosen)
]
picture = draw_panels(image, panels)
