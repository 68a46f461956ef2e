"""Results of ``fastclip bench`` as a page and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastclip.benchmark.tables import duration
from fastclip.data.files import replacing
from fastclip.report.figures import PAGE, PAPER, Colours, new_figure, style, svg_text
from fastclip.report.page import write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR = 0.42  # inches


def write_benchmark_page(
    path: Path, record: dict[str, Any], cells: Sequence[dict[str, Any]]
) -> None:
    """Write results as an HTML page: figures, tables, and the machine.

    Parameters
    ----------
    path : Path
        Replaced whole or not at all.
    record : dict
        The content of a result file.
    cells : sequence of dict
        Sizes and times of a grid, an empty one if there is none; see `draw`.
    """
    results = record["results"]
    with style(PAGE):
        if cells:
            svgs = [svg_text(draw(results, cells, PAGE), "Speed over a grid of sizes")]
        else:
            svgs = [
                svg_text(draw([one], (), PAGE), f"Median times {i}")
                for i, one in enumerate(results)
            ]
    write_page(
        path,
        "benchmark.html.j2",
        record=record,
        figures=svgs,
        duration=duration,
        grid=bool(cells),
    )


def write_benchmark_picture(
    path: Path, record: dict[str, Any], cells: Sequence[dict[str, Any]]
) -> None:
    """Write the figures alone, in the format that the ending names: .png or .svg."""
    kind = path.suffix.removeprefix(".")
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    with style(PAPER), replacing(path) as part:
        draw(record["results"], cells, PAPER).savefig(part, format=kind, dpi=150, metadata=metadata)


def draw(
    results: Sequence[dict[str, Any]], cells: Sequence[dict[str, Any]], colours: Colours
) -> Figure:
    """Return lines of speed over the sizes of a grid, one panel per operation, or bars of times."""
    if cells:
        names = list(dict.fromkeys(cell["op"] for cell in cells))
        figure, panels = new_figure(len(names), height=0.6 + 2.8 * len(names))
        for axes, name in zip(panels, names, strict=True):
            _lines(axes, [cell for cell in cells if cell["op"] == name], colours)
            axes.set_title(name, loc="left", fontsize=10)
        panels[-1].set_xlabel("keys")
        return figure
    from matplotlib.figure import Figure as New

    rows = [[row for row in result["rows"] if "median_s" in row] for result in results]
    heights = [0.5 + _BAR * len(some) for some in rows]
    alone = colours is PAPER  # a page has room for less, and names the question itself
    figure = New(figsize=(7.2 if alone else 4.8, sum(heights)), layout="constrained")
    made: Any = figure.subplots(len(rows), squeeze=False, height_ratios=heights)
    for axes, result, some in zip(made[:, 0], results, rows, strict=True):
        _bars(axes, some, colours)
        if alone:
            what = result["description"].split(" float32")[0]
            axes.set_title(f"{what}: median time", loc="left", fontsize=9)
    return figure


def _bars(axes: Axes, rows: Sequence[dict[str, Any]], colours: Colours) -> None:
    bars = axes.barh(
        [row["call"] for row in rows],
        [row["median_s"] for row in rows],
        color=[
            colours.first if row["call"].startswith("fastclip") else colours.second for row in rows
        ],
    )
    axes.bar_label(bars, [duration(row["median_s"]) for row in rows], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_visible(False)  # each bar says how long it is
    axes.spines["bottom"].set_visible(False)


def _lines(axes: Axes, cells: Sequence[dict[str, Any]], colours: Colours) -> None:
    """Speed relative to the fastest call of any peer, with packed keys."""
    counts = sorted({cell["queries"] for cell in cells})
    for place, n in enumerate(counts):
        points = sorted(
            (cell["keys"], _speed(cell["seconds"])) for cell in cells if cell["queries"] == n
        )
        axes.plot(
            [keys for keys, _ in points],
            [speed for _, speed in points],
            color=colours.first,
            alpha=(place + 1) / len(counts),
            marker="o",
            markersize=3,
            label=f"{n:,}",
        )
    axes.axhline(1, color=colours.second, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel("times as fast as the fastest peer")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.10g}")
        axis.set_minor_formatter("")
    axes.legend(title="queries", frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _speed(seconds: dict[str, float]) -> float:
    peers = [time for who, time in seconds.items() if who not in ("fastclip", "packed")]
    return min(peers, default=seconds["packed"]) / seconds["packed"]
