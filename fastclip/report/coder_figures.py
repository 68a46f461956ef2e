"""Figures of the reports on CODER."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastclip.report.figures import PAGE, Colours, new_figure, style, svg_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastclip.coder import CurvePoint

Density = tuple[int, float, float, float]


def density_svg(density: Sequence[Density]) -> str:
    """Accuracy by the number of texts of each class, as SVG text for a page."""
    with style(PAGE):
        figure, (axes,) = new_figure(1, height=3.4)
        counts, means, lowest, highest = zip(*density, strict=True)
        places = range(len(counts))
        axes.fill_between(places, lowest, highest, color=PAGE.first, alpha=0.2, linewidth=0)
        axes.plot(places, means, color=PAGE.first, marker="o", markersize=4)
        axes.set_xticks(places, [str(count) for count in counts])
        axes.set_xlabel("texts of each class beside its name")
        axes.set_ylabel("accuracy")
        return svg_text(figure, "Accuracy by the number of texts")


def few_shot_curves(points: Sequence[CurvePoint]) -> Callable[[Colours], Figure]:
    """Mean accuracy by the number of support images, with the range over seeds."""

    def draw(colours: Colours) -> Figure:
        figure, (axes,) = new_figure(1, height=4.2)
        methods = list(dict.fromkeys(point.method for point in points))
        shots = sorted({point.shots for point in points})
        for number, method in enumerate(methods):
            by_shots = [
                [p.accuracy for p in points if (p.method, p.shots) == (method, count)]
                for count in shots
            ]
            colour = colours.second if method.startswith("Tip") else colours.first
            places = range(len(shots))
            axes.plot(
                places,
                [sum(found) / len(found) for found in by_shots],
                color=colour,
                linestyle=("-", "--", ":", "-", "--")[number % 5],
                marker="o",
                markersize=3,
                label=method,
            )
            low, high = [min(f) for f in by_shots], [max(f) for f in by_shots]
            axes.fill_between(places, low, high, color=colour, alpha=0.1, linewidth=0)
        axes.set_xticks(range(len(shots)), [str(count) for count in shots])
        axes.set_xlabel("support images of each class")
        axes.set_ylabel("accuracy")
        axes.legend(loc="lower right", frameon=False, fontsize=8)
        return figure

    return draw
