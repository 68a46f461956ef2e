"""Figures as SVG text to stand in an HTML page, in the colours of the page's style sheet."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Colours(NamedTuple):
    text: str
    muted: str
    line: str
    first: str
    second: str


PAGE = Colours("#000001", "#000002", "#000003", "#000004", "#000005")
"""matplotlib knows no CSS variables, so it draws in colours that stand for them."""

PAPER = Colours("#1d2126", "#5a636e", "#dfe2e6", "#2563c9", "#b0540a")
"""Those of the style sheet for light pages, for files that stand alone."""


@contextmanager
def style(colours: Colours) -> Iterator[None]:
    """Draw in these colours, whatever the user's settings are."""
    import matplotlib

    settings: Any = {
        "svg.hashsalt": "fastclip",  # else the ids in the file differ from run to run
        "svg.fonttype": "none",
        "font.size": 10,
        "text.color": colours.text,
        "axes.edgecolor": colours.line,
        "axes.labelcolor": colours.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": colours.muted,
        "ytick.color": colours.muted,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


def recall_bars(recalls: dict[str, dict[int, float]]) -> str:
    """Bars of recall at each k, side by side for each direction."""
    with style(PAGE):
        figure, (axes,) = new_figure(1, height=3.4)
        width = 0.38
        for i, (direction, values) in enumerate(recalls.items()):
            places = [place + (i - 0.5) * (width + 0.02) for place in range(len(values))]
            heights = list(values.values())
            bars = axes.bar(
                places, heights, width, color=(PAGE.first, PAGE.second)[i], label=direction
            )
            axes.bar_label(bars, [f"{height:.3f}" for height in heights], padding=2)
        ks = next(iter(recalls.values()))
        axes.set_xticks(range(len(ks)), [f"recall@{k}" for k in ks])
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 1)
        axes.set_ylabel("recall, fraction")
        legend_above(figure, axes, columns=2)
        return svg_text(figure, "Bar chart of recall")


def cosine_histograms(cosines: dict[str, torch.Tensor], threshold: float) -> str:
    """One histogram for each entry, with a line at ``threshold``."""
    import numpy as np

    with style(PAGE):
        figure, all_axes = new_figure(len(cosines), height=4.6)
        lowest = min(values.min().item() for values in cosines.values())
        bins = np.arange(np.floor(lowest * 50) / 50, 1.0201, 0.01)  # the last one holds 1 itself
        for axes, (title, values) in zip(all_axes, cosines.items(), strict=True):
            axes.hist(values.numpy(), bins.tolist(), color=PAGE.first)
            axes.axvline(threshold, color=PAGE.second, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.set_title(title, loc="left", fontsize=10)
            axes.set_ylabel("LVIS classes")
        all_axes[-1].set_xlabel("cosine with the nearest name")
        return svg_text(figure, "Histograms of the best cosine")


def new_figure(rows: int, height: float) -> tuple[Figure, list[Axes]]:
    """Axes below each other, with common scales."""
    from matplotlib.figure import Figure

    # As wide as a phone shows at full size, so that the text need not shrink.
    figure = Figure(figsize=(4.8, height), layout="constrained")
    grid: Any = figure.subplots(rows, sharex=True, sharey=True, squeeze=False)
    return figure, list(grid[:, 0])


def legend_above(figure: Figure, axes: Axes, columns: int = 1) -> None:
    """A legend over the axes, where it hides no curve."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=9
    )


def svg_text(figure: Figure, label: str) -> str:
    """SVG that stands in a page, with the colours of its style sheet for those of `PAGE`."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]  # HTML takes no XML declaration
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    prefix = label.replace(" ", "-").lower()  # ids are those of the page that the figure stands in
    for before in ('id="', "url(#", 'href="#'):
        svg = svg.replace(before, f"{before}{prefix}-")
    for name, colour in PAGE._asdict().items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
