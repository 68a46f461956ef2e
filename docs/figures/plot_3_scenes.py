"""
Scenes with exact masks
=======================

:mod:`fastclip.data.scenes` composes drawings into pictures whose captions and masks are exact. The
second row shows the masks of the first object.
"""

import torch
from torchvision.transforms.functional import to_pil_image

from fastclip.data import scenes

drawings = scenes.load_drawings()
maker = scenes.SceneMaker(drawings, seed=4)
chosen = [maker.scene(i, "pair") for i in range(4)]
images, masks = scenes.compose(drawings, chosen, side=192)
for scene in chosen:
    print(scenes.caption(drawings, scene))
first = masks[:, :1].expand(-1, 3, -1, -1)
picture = to_pil_image(torch.cat([torch.cat(list(row), 2) for row in (images, first)], 1))
