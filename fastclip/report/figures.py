"""Figures as SVG text to stand in an HTML page, in the colours of the page's style sheet."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib knows no CSS variables, so it draws in colours that stand for them.
_COLOURS = {
    "#000001": "var(--text)",
    "#000002": "var(--muted)",
    "#000003": "var(--line)",
    "#000004": "var(--first)",
    "#000005": "var(--second)",
}
_TEXT, _MUTED, _LINE, _FIRST, _SECOND = _COLOURS

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fastclip",  # else the ids in the file differ from run to run
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _TEXT,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
}


def recall_bars(recalls: dict[str, dict[int, float]]) -> str:
    """Bars of recall at each k, side by side for each direction."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure, (axes,) = _figure(1, height=3.4)
        width = 0.38
        for i, (direction, values) in enumerate(recalls.items()):
            places = [place + (i - 0.5) * (width + 0.02) for place in range(len(values))]
            heights = list(values.values())
            bars = axes.bar(places, heights, width, color=(_FIRST, _SECOND)[i], label=direction)
            axes.bar_label(bars, [f"{height:.3f}" for height in heights], padding=2)
        ks = next(iter(recalls.values()))
        axes.set_xticks(range(len(ks)), [f"recall@{k}" for k in ks])
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 1)
        axes.legend(loc="upper left", frameon=False)
        return _svg(figure, "Bar chart of recall")


def cosine_histograms(cosines: dict[str, torch.Tensor], threshold: float) -> str:
    """One histogram for each entry, with a line at ``threshold``."""
    import matplotlib
    import numpy as np

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure, all_axes = _figure(len(cosines), height=4.6)
        lowest = min(values.min().item() for values in cosines.values())
        bins = np.arange(np.floor(lowest * 50) / 50, 1.0201, 0.01)  # the last one holds 1 itself
        for axes, (title, values) in zip(all_axes, cosines.items(), strict=True):
            axes.hist(values.numpy(), bins.tolist(), color=_FIRST)
            axes.axvline(threshold, color=_SECOND, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_ylabel("classes")
        all_axes[-1].set_xlabel("cosine with the nearest name")
        return _svg(figure, "Histograms of the best cosine")


def _figure(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    # As wide as a phone shows at full size, so that the text need not shrink.
    figure = Figure(figsize=(4.8, height), layout="constrained")
    grid: Any = figure.subplots(rows, sharex=True, sharey=True, squeeze=False)
    return figure, list(grid[:, 0])


def _svg(figure: Figure, label: str) -> str:
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]  # HTML takes no XML declaration
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    prefix = label.replace(" ", "-").lower()  # ids are those of the page that the figure stands in
    for before in ('id="', "url(#", 'href="#'):
        svg = svg.replace(before, f"{before}{prefix}-")
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    return svg
