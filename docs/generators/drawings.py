"""The drawings of "How it works": SVG that stands in the page, in the colour of its text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

TEXT, LINE = "currentColor", "#8b95a1"
BLUE, ORANGE, GREEN = "#2f7fe0", "#d9822b", "#1a9c7b"


def write(folder: Path) -> None:
    """Write all drawings."""
    drawings: dict[str, tuple[Callable[[], str], str]] = {
        "path-of-a-pair": (
            path_of_a_pair,
            "A pair of query and key passes the screen, where almost all pairs end; survivors are "
            "scored exactly, and the answer is made of exact scores alone",
        ),
        "bounds": (
            bounds,
            "Scores with their bounds on a line; pairs whose upper bound lies below the third best "
            "lower bound are dropped",
        ),
        "lanes": (
            lanes,
            "The product of element i is added to lane i mod 16 in float64; 16 lanes are folded to "
            "8, 4, 2 and 1; the sum is rounded once to float32",
        ),
        "reducers": (
            reducers,
            "States of threads, of chunks of a file and of ranks are joined by the same merge",
        ),
        "mainloop": (
            mainloop,
            "One warp-group copies keys, queries and bounds into shared memory; two others "
            "multiply by turns, one in its epilogue while the other has the tensor cores",
        ),
    }
    for name, (draw, label) in drawings.items():
        described = draw().replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
        (folder / f"{name}.svg").write_text(described, "utf-8")


def svg(width: int, height: int, *parts: str) -> str:
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 8 4 0 8z" fill="{colour}"/></marker>'
        for name, colour in (("head", LINE), ("blue", BLUE))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'class="drawing" font-family="system-ui, sans-serif" font-size="14">'
        f"<defs>{heads}</defs>{''.join(parts)}</svg>\n"
    )


def box(x: float, y: float, w: float, h: float, *lines: str, colour: str = LINE) -> str:
    """Draw a box with lines of text in its middle."""
    middle = y + h / 2 - 9 * (len(lines) - 1)
    words = "".join(
        text(x + w / 2, middle + 18 * i + 5, line, anchor="middle", bold=i == 0 and len(lines) > 1)
        for i, line in enumerate(lines)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{colour}" '
        f'fill-opacity="0.14" stroke="{colour}"/>{words}'
    )


def text(
    x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False, colour: str = TEXT
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}"{weight}>{words}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<path d="M{x1} {y1} {x2} {y2}" stroke="{LINE}" stroke-width="1.5" fill="none" '
        'marker-end="url(#head)"/>'
    )


def path_of_a_pair() -> str:
    return svg(
        760,
        190,
        box(10, 20, 170, 64, "all pairs", "a query and a key each"),
        arrow(180, 52, 226, 52),
        box(230, 20, 180, 64, "screen", "1 byte per element", colour=BLUE),
        arrow(410, 52, 456, 52),
        box(460, 20, 130, 64, "exact score", "float64", colour=GREEN),
        arrow(590, 52, 636, 52),
        box(640, 20, 110, 64, "reducer", "the answer", colour=ORANGE),
        arrow(320, 84, 320, 132),
        text(320, 154, "nearly all pairs: dropped, the bound proves", anchor="middle"),
        text(320, 173, "that they cannot matter", anchor="middle"),
        text(433, 38, "few", anchor="middle"),
    )


def bounds() -> str:
    """Draw intervals of ten keys, those below the third best lower bound in grey."""
    intervals = [(560, 620), (520, 588), (470, 545), (430, 500), (452, 520), (300, 372), (250, 330)]
    intervals += [(180, 250), (120, 200), (60, 130)]
    floor = 470
    parts = []
    for i, (low, high) in enumerate(intervals):
        y = 40 + 20 * i
        colour = BLUE if high >= floor else LINE
        parts.append(
            f'<path d="M{low} {y}H{high}" stroke="{colour}" stroke-width="6" '
            f'stroke-linecap="round" opacity="{1 if high >= floor else 0.55}"/>'
        )
    line = f'<path d="M{floor} 20V246" stroke="{ORANGE}" stroke-width="2" stroke-dasharray="5 4"/>'
    return svg(
        700,
        290,
        *parts,
        line,
        text(floor + 8, 228, "3rd best lower bound: the floor", colour=ORANGE),
        text(60, 60, "survivors are scored exactly", bold=True, colour=BLUE),
        text(60, 80, "their upper bounds reach the floor"),
        arrow(40, 262, 660, 262),
        text(660, 282, "score", anchor="end"),
        text(40, 282, "each bar: lower to upper bound of a key, k = 3"),
    )


def lanes() -> str:
    parts = [text(10, 24, "products q[i] k[i], exact in float64, to lane i mod 16", bold=True)]
    for row in range(2):
        for i in range(16):
            x, y = 10 + 46 * i, 36 + 34 * row
            parts.append(box(x, y, 40, 26, str(16 * row + i), colour=BLUE))
    for i in range(16):
        parts.append(arrow(30 + 46 * i, 98, 30 + 46 * i, 130))
        parts.append(box(10 + 46 * i, 132, 40, 26, f"+{i}", colour=GREEN))
    parts.append(text(10, 182, "folded: 16, 8, 4, 2, 1", bold=True))
    for step, count in enumerate((8, 4, 2, 1)):
        y = 192 + 34 * step
        parts += [box(10 + 46 * i, y, 40, 26, "", colour=GREEN) for i in range(count)]
    parts += [
        arrow(56, 307, 150, 307),
        box(154, 290, 250, 34, "rounded once to float32: the score", colour=ORANGE),
    ]
    return svg(750, 336, *parts)


def reducers() -> str:
    parts = []
    sources = (
        ("threads", "of one process"),
        ("chunks", "of keys on disk"),
        ("ranks", "of a cluster"),
    )
    for i, (name, where) in enumerate(sources):
        y = 16 + 72 * i
        parts += [
            box(10, y, 170, 54, name, where, colour=BLUE),
            arrow(180, y + 27, 246, y + 27),
            box(250, y, 120, 54, "state", colour=GREEN),
            arrow(370, y + 27, 456, 115),
        ]
    return svg(
        760,
        236,
        *parts,
        text(213, 36, "add", anchor="middle"),
        box(460, 88, 110, 54, "merge", colour=GREEN),
        arrow(570, 115, 626, 115),
        text(598, 107, "finish", anchor="middle"),
        box(640, 88, 110, 54, "answer", "same bits", colour=ORANGE),
    )


def mainloop() -> str:
    copies = ("one warp: keys", "one warp: queries", "one warp: bounds")
    parts = [
        box(10, 20, 200, 150, "producers", *copies, colour=BLUE),
        box(270, 20, 180, 62, "shared memory", "256 keys, resident"),
        box(270, 108, 180, 62, "queries, stage", "by stage"),
        arrow(210, 51, 266, 51),
        arrow(210, 139, 266, 139),
        arrow(450, 51, 506, 51),
        arrow(450, 139, 506, 139),
        box(510, 20, 240, 62, "consumer 1", "64 queries", colour=GREEN),
        box(510, 108, 240, 62, "consumer 2", "64 queries", colour=GREEN),
        text(10, 208, "time", bold=True),
        arrow(50, 203, 740, 203),
    ]
    for turn in range(4):
        x = 60 + 168 * turn
        first = ("products", GREEN) if turn % 2 == 0 else ("epilogue", ORANGE)
        second = ("epilogue", ORANGE) if turn % 2 == 0 else ("products", GREEN)
        for row, (name, colour) in enumerate((first, second)):
            parts.append(box(x, 218 + 36 * row, 160, 30, name, colour=colour))
    parts += [text(10, 238, "1"), text(10, 274, "2")]
    return svg(760, 294, *parts)
