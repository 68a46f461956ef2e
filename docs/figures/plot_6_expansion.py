"""
Accuracy as groups of classes join
==================================

A figure of `fastclip openness`: the mean over all orders in which groups can join, with a standard
deviation on either side. Here each of 500 photographs of COCO is a class of its own, named by its
caption.
"""

import torch

import fastclip
from fastclip.metrics.openness import vocabulary_expansion
from fastclip.report.figures import PAPER, style
from fastclip.report.openness_figures import expansion_curves

images = fastclip.data.load_sample("coco-images").normalized().features
captions = fastclip.data.load_sample("coco-captions").normalized().features
labels = torch.arange(500)
found = vocabulary_expansion(images, labels, captions, labels % 12)
with style(PAPER):
    picture = expansion_curves(found)(PAPER)
