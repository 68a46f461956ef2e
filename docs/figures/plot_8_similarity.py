"""
Scores of right and wrong classes
=================================

A figure of `fastclip openness`: the score with the right class stays where it is as groups join;
that with the best wrong class moves up.
"""

import torch

import fastclip
from fastclip.metrics import similarity_histograms
from fastclip.report.figures import PAPER, style
from fastclip.report.openness_figures import similarity

images = fastclip.data.load_sample("coco-images").normalized().features
captions = fastclip.data.load_sample("coco-captions").normalized().features
labels = torch.arange(500)
found = similarity_histograms(images, labels, captions, labels % 12)
with style(PAPER):
    picture = similarity(found)(PAPER)
