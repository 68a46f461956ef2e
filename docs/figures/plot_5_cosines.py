"""
Names of one vocabulary in another
==================================

A figure of `fastclip demo`: the cosine of each class name of LVIS with the nearest name of three
other vocabularies. Names right of the line count as counterparts.
"""

from fastclip.demo import COUNTERPART, VOCABULARIES, run_demo
from fastclip.report.figures import cosine_histograms

demo = run_demo()
cosines = {title: demo.nearest[name].values[:, 0] for name, title in VOCABULARIES.items()}
picture = cosine_histograms(cosines, COUNTERPART)
