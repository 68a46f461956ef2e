"""Figures of the report on openness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fastclip.metrics import SimilarityHistograms
from fastclip.metrics.openness import VocabularyExpansion
from fastclip.report.figures import PAGE, PAPER, Colours, legend_above, new_figure, style, svg_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[[Colours], "Figure"]

_LABELS = {
    "expansion": "Accuracy by the number of groups",
    "vocabulary": "Accuracy by the size of the vocabulary",
    "similarity": "Histograms of similarity",
}


def page_svg(draw: Draw, name: str) -> str:
    """As SVG text for a page."""
    with style(PAGE):
        return svg_text(draw(PAGE), _LABELS[name])


def write_png(path: Path, draw: Draw) -> None:
    """As a file that stands alone."""
    with style(PAPER):
        draw(PAPER).savefig(path, format="png", dpi=200, metadata={"Software": None})


def expansion_curves(expansion: VocabularyExpansion) -> Draw:
    """Mean accuracy by the number of groups, with one standard deviation on either side."""

    def draw(colours: Colours) -> Figure:
        figure, (axes,) = new_figure(1, height=3.4)
        steps = list(range(1, len(expansion.stability.mean) + 1))
        for curve, label, colour, line in (
            (expansion.extensibility, "images of all groups so far", colours.first, "-"),
            (expansion.stability, "images of the first group", colours.second, "--"),
        ):
            mean, std = 100 * curve.mean, 100 * curve.std.nan_to_num()
            axes.plot(steps, mean.tolist(), color=colour, linestyle=line, label=label)
            low, high = (mean - std).tolist(), (mean + std).tolist()
            axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlabel("groups in the vocabulary")
        _accuracy_axis(axes)
        legend_above(figure, axes)
        return figure

    return draw


def size_curve(sizes: Sequence[int], accuracy: torch.Tensor, classes: int) -> Draw:
    """Expected accuracy by the size of the vocabulary, with a line where the classes end."""

    def draw(colours: Colours) -> Figure:
        figure, (axes,) = new_figure(1, height=3.4)
        shown = (100 * accuracy).tolist()
        axes.plot(list(sizes), shown, color=colours.first, marker="o", markersize=3)
        if max(sizes) > classes:
            axes.axvline(classes, color=colours.second, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.annotate(
                "all classes ",
                (classes, 4),
                color=colours.second,
                ha="right" if classes > 30 else "left",
                annotation_clip=False,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.set_xlabel("names in the vocabulary")
        _accuracy_axis(axes)
        return figure

    return draw


def similarity(histograms: SimilarityHistograms) -> Draw:
    """Images by their score with the right class and, as groups join, with the best wrong one."""

    def draw(colours: Colours) -> Figure:
        last = len(histograms.steps) - 1
        shown = sorted({0, last // 3, 2 * last // 3, last})
        figure, all_axes = new_figure(len(shown), height=1 + 1.6 * len(shown))
        used = _used(histograms)
        edges = histograms.edges.tolist()[used.start : used.stop + 1]
        true = _shares(histograms.true)[used]
        for axes, step in zip(all_axes, shown, strict=True):
            wrong = _shares(histograms.steps[step])[used]
            axes.stairs(
                true, edges, color=colours.first, fill=True, alpha=0.55, label="right class"
            )
            axes.stairs(wrong, edges, color=colours.second, linewidth=1.3, label="best wrong class")
            others = f" and {step} {'other' if step == 1 else 'others'}" if step else ""
            axes.set_title(f"the image's own group{others}", loc="left", fontsize=10)
        legend_above(figure, all_axes[0], columns=2)
        figure.supylabel("share of images, %", fontsize=10, color=colours.muted)
        all_axes[-1].set_xlabel("cosine")
        return figure

    return draw


def _accuracy_axis(axes: Axes) -> None:
    axes.set_ylim(0, 101)
    axes.set_ylabel("accuracy, %")


def _shares(counts: torch.Tensor) -> list[Any]:
    return list((100 * counts.double() / counts.sum().clamp(min=1)).tolist())


def _used(histograms: SimilarityHistograms) -> slice:
    """The bins from the first to the last that holds anything."""
    filled = (histograms.true + histograms.steps.sum(0)).nonzero()[:, 0]
    return slice(int(filled[0]), int(filled[-1]) + 1)
