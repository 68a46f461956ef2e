"""
Accuracy by the number of texts
===============================

A figure of `fastclip coder classify`: what further texts about each class do, by drawing as many at
random.
"""

import torch
from torchvision.transforms.functional import to_pil_image

import fastclip
from fastclip import coder
from fastclip.data import scenes
from fastclip.report.coder_figures import density_svg

model = fastclip.models.load("tiny")
names = ["panda", "doughnut", "castle", "horse", "butterfly", "drum"]
texts = coder.Coder(coder.generate_texts(names, model=model), model)
drawings = scenes.load_drawings()
chosen = drawings.of_names(drawings.names.index(name) for name in names)
made = [scenes.SceneMaker(chosen, seed=1, augment=True).scene(i, "single") for i in range(96)]
labels = torch.tensor([names.index(drawings.names[s.objects[0].name]) for s in made])
features = model.encode_image([to_pil_image(p) for p in scenes.compose(chosen, made, side=64)[0]])
classifier = coder.CoderClassifier().fit(texts)
numbers = [str(i) for i in range(96)]
picture = density_svg(coder.measure_coder(texts, classifier, features, numbers, labels).density)
