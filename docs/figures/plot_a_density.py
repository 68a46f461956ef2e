"""
Accuracy by the number of texts
===============================

A figure of `fastclip coder classify`: what more texts about each class do, from measured results.
"""

import json
from pathlib import Path

from fastclip.report.coder_figures import density_svg

# Photographs of COCO in eight classes, whose texts are captions: mean accuracy and 95 % intervals.
results = Path(__file__).parents[2] / "benches" / "results" / "coder-real.json"
found = json.loads(results.read_text())["coco"]["zero_shot"]["accuracy"]
picture = density_svg(
    [(int(n), a["mean"], a["mean"] - a["half"], a["mean"] + a["half"]) for n, a in found.items()]
)
