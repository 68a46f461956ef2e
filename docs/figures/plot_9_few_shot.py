"""
Few labelled images
===================

A figure of `fastclip coder few-shot`: accuracy by the number of labelled images, mean and range.
"""

import torch
from torchvision.transforms.functional import to_pil_image

import fastclip
from fastclip import coder
from fastclip.data import scenes
from fastclip.report.coder_figures import few_shot_curves
from fastclip.report.figures import PAPER, style

model = fastclip.models.load("tiny")
names = ["cat", "dog", "fox", "horse", "koala", "duck", "owl"]
texts = coder.Coder(coder.generate_texts(names, model=model), model)
all_names = scenes.load_drawings()
drawings = all_names.of_names(all_names.names.index(name) for name in names)
made = [scenes.SceneMaker(drawings, seed=1, augment=True).scene(i, "single") for i in range(160)]
labels = torch.tensor([names.index(drawings.names[s.objects[0].name]) for s in made])
features = model.encode_image([to_pil_image(p) for p in scenes.compose(drawings, made, side=64)[0]])
grid = coder.Grid(beta=(0.1, 50.0), alpha=(0.1, 5.0), beta_steps=20, alpha_steps=10, rounds=1)
two = {"methods": ("CODER-Adapter", "Tip-Adapter"), "shots": (1, 2, 4), "seeds": (0, 1, 2)}
points = coder.few_shot_curve(texts, features, labels, grid=grid, **two)
with style(PAPER):
    picture = few_shot_curves(points)(PAPER)
