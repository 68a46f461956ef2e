"""
Recall
======

A figure of `fastclip demo`: recall of captions for images and of images for captions, by the
features of CLIP ViT-B/16 that ship.
"""

from fastclip.demo import run_demo
from fastclip.report.figures import recall_bars

picture = recall_bars(run_demo().recalls)
