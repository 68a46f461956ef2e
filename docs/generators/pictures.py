"""The two pictures of README.md and of the start page: python -m generators.pictures, in docs/."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

from generators.performance import LIBRARIES, RESULTS

FOLDER = Path(__file__).parents[1] / "_static"
FILE = "epyc-zen5-2-cores.json"
CASES = {
    "topk-real": "10 best of 131,072 captions,\n2,048 images of COCO",
    "topk-16-queries": "10 best of 1,000,000,\n16 queries",
    "rank-real": "rank of the own caption,\n2,048 x 131,072",
    "group-max": "best of 1,000 groups,\n2,048 x 100,000",
    "logsumexp": "log-sum-exp,\n2,048 x 131,072",
}


def times() -> dict[str, dict[str, float]]:
    """Return, for each case, seconds of fastclip, torch and, where it was measured, FAISS."""
    measured = json.loads((RESULTS / FILE).read_text("utf-8"))["results"]
    found = {}
    for case in CASES:
        rows = next(result["rows"] for result in measured if result["case"] == case)
        calls = {row["call"]: row["median_s"] for row in rows if "median_s" in row}
        fastest = {
            library: min(
                (time for call, time in calls.items() if call.startswith(names)), default=None
            )
            for library, names in (
                ("fastclip", "fastclip"),
                ("torch", "torch"),
                ("FAISS", "FAISS IndexFlatIP"),
            )
        }
        found[case] = {library: time for library, time in fastest.items() if time is not None}
    return found


def speed() -> Figure:
    """Draw how many times as long other libraries take."""
    figure = Figure(figsize=(7.6, 3.1), layout="constrained")
    axes = figure.subplots()
    for place, calls in enumerate(times().values()):
        for i, (library, time) in enumerate(calls.items()):
            ratio = time / calls["fastclip"]
            y = place + 0.27 * (i - (len(calls) - 1) / 2)
            bars = axes.barh(y, ratio, 0.24, color=LIBRARIES[library][0])
            label = f"{library}, {time * 1e3:.3g} ms" if library == "fastclip" else library
            axes.bar_label(bars, [f"{label}: {ratio:.2g}" if i else label], padding=3, fontsize=7.5)
    axes.set_yticks(range(len(CASES)), list(CASES.values()), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 33)
    axes.set_xlabel("time relative to fastclip with packed keys", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def write() -> None:
    """Write both pictures."""
    import matplotlib
    from torchvision.transforms.functional import to_pil_image

    import fastclip
    from fastclip.data import scenes
    from fastclip.report import draw_labels

    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "fastclip", "svg.fonttype": "none"}):
        speed().savefig(FOLDER / "speed.svg", metadata=nothing, facecolor="white")
    drawings = scenes.load_drawings()
    scene = scenes.SceneMaker(drawings, seed=4).scene(3, "pair")
    pixels, _ = scenes.compose(drawings, [scene], side=256)
    picture = to_pil_image(pixels[0])
    names = [drawings.names[thing.name] for thing in scene.objects] + ["castle", "horse", "rocket"]
    found = fastclip.ttd.segment(
        fastclip.models.load("tiny"), picture, names, background=0.25, size=128,
        method="value-only", refine=True,
    )  # fmt: skip
    drawn = draw_labels(picture, found.labels, names)
    drawn.convert("P", palette=1, colors=128).save(FOLDER / "answer.png", optimize=True)


if __name__ == "__main__":
    write()
