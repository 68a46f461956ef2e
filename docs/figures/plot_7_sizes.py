"""
Accuracy by the size of the vocabulary
======================================

A figure of `fastclip openness`: the expected accuracy over all vocabularies of each size that hold
the image's own class. The dashed line is where the classes end and other words begin.
"""

import torch

import fastclip
from fastclip.metrics.openness import accuracy_by_size
from fastclip.report.figures import PAPER, style
from fastclip.report.openness_figures import size_curve

images = fastclip.data.load_sample("coco-images").normalized().features[:100]
captions = fastclip.data.load_sample("coco-captions").normalized().features
sizes = [2, 5, 10, 20, 50, 100, 200, 500]
accuracy = accuracy_by_size(images, torch.arange(100), captions[:100], captions[100:], sizes)
with style(PAPER):
    picture = size_curve(sizes, accuracy, 100)(PAPER)
