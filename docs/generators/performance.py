"""Pages of measured times, one for each file of benches/results that holds a machine's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[2] / "benches" / "results"
TEXT = "#7b8591"  # readable on light and on dark pages, as the colours below are
LIBRARIES = {
    "fastclip": ("#2f7fe0", "o"),
    "torch": ("#d9822b", "s"),
    "FAISS": ("#1a9c7b", "^"),
    "others": ("#8b95a1", "D"),
}
_UNITS = {"int8": "int8 products", "float32": "float32 products", "float64": "float64 products"}


OURS = (
    "fastclip",
    "CoderClassifier",
    "streamed from disk",
    "exact scores of all pairs",  # where the screen does not pay
    "1 process",
    "2 gloo ranks",
)
"""What calls of fastclip have in their names."""


def machines() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the names and contents of the files with times of cases, the largest first."""
    found = [(path.stem, json.loads(path.read_text("utf-8"))) for path in RESULTS.glob("*.json")]
    cases = [(stem, content) for stem, content in found if "results" in content]
    yield from sorted(cases, key=lambda item: (-len(item[1]["results"]), item[0]))


def machine_page(stem: str, content: dict[str, Any], folder: Path) -> str:
    """Return the page of a machine; its plot is written into ``folder``."""
    machine = content["machine"]
    isa = machine["instruction set in use"]
    title = f"{machine['processor']}, {isa}".replace("(R)", "").replace("Processor, ", "")
    lines = [f"# {title}", "", f"Measured on {content['date']}:", "", "| | |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in machine.items()]
    lines += [
        "",
        f"File: `benches/results/{stem}.json`. Medians of interleaved rounds; every answer is",
    ]
    lines += [
        "checked in the same run. The share of the peak is that of operations per second in what"
    ]
    lines += ["this machine reaches in a loop of such products alone (of bytes per second, for few"]
    lines += ["queries); searches count all pairs, also those that the screen rules out.", ""]
    forced = "" if machine["instruction sets found"].startswith(isa) else f" --isa {isa}"
    draw(content, folder / f"{stem}.svg")
    lines += [
        f"```{{image}} {stem}.svg",
        ":alt: Times of all cases relative to fastclip",
        "```",
        "",
    ]
    for case in content["results"]:
        lines += [
            f"## {case['case']}",
            "",
            f"{case['description'][0].upper()}{case['description'][1:]}.",
            "",
        ]
        lines += ["```sh", f"python benches/run.py {case['case']}{forced}", "```", ""]
        lines += [table(case)]
    return "\n".join(lines)


def table(case: dict[str, Any]) -> str:
    """Return the figures of a case: the fastest call of fastclip is what others are compared to."""
    unit = _UNITS.get(case["unit"], case["unit"])
    head = ["call", "median", "middle half", "time relative to fastclip", f"share of peak ({unit})"]
    rows = [[*head, "memory beside inputs"], ["---", *["---:"] * 5]]
    best = fastest(case)
    for row in case["rows"]:
        if "median_s" not in row:
            rows.append([row["call"], "unsupported", "", "", "", ""])
            continue
        share = row.get("share_of_peak")
        memory = row.get("extra_memory_bytes")
        rows.append(
            [
                row["call"],
                seconds(row["median_s"]),
                " to ".join(map(seconds, row["quartiles_s"])),
                f"{row['median_s'] / best:.3g}",
                "" if share is None else f"{share:.1%}",
                "" if memory is None else megabytes(memory),
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def fastest(case: dict[str, Any]) -> float:
    """Return the least time of a call of fastclip, or of any call where none is named so."""
    timed = [row for row in case["rows"] if "median_s" in row]
    ours = [row for row in timed if library(row["call"]) == "fastclip"]
    return min(float(row["median_s"]) for row in ours or timed)


def seconds(time: float) -> str:
    """Return a time in the unit that keeps three digits readable."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if time * factor >= 1:
            return f"{time * factor:.3g} {unit}"
    return f"{time * 1e6:.3g} µs"


def megabytes(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


def library(call: str) -> str:
    """Return whose a call is, for the colour of its mark."""
    if any(name in call for name in OURS):
        return "fastclip"
    return next((name for name in LIBRARIES if name.casefold() in call.casefold()), "others")


def draw(content: dict[str, Any], path: Path) -> None:
    """Draw all cases of a machine: the time of each call relative to the fastest of fastclip."""
    import matplotlib

    cases = content["results"]
    with matplotlib.rc_context({"svg.hashsalt": "fastclip", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.2, 1.2 + 0.26 * len(cases)), layout="constrained")
        axes = figure.subplots()
        for name, (colour, marker) in LIBRARIES.items():
            points = [
                (row["median_s"] / fastest(case), place)
                for place, case in enumerate(cases)
                for row in case["rows"]
                if "median_s" in row and library(row["call"]) == name
            ]
            if points:
                x, y = zip(*points, strict=True)
                axes.scatter(x, y, 36, color=colour, marker=marker, label=name, zorder=3)
        axes.set_yticks(range(len(cases)), [case["case"] for case in cases])
        axes.set_xscale("log")
        axes.set_xlabel("time relative to the fastest call of fastclip (logarithmic)", color=TEXT)
        axes.grid(axis="x", color=TEXT, alpha=0.3)
        axes.tick_params(colors=TEXT, labelsize=9, which="both")
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        figure.legend(loc="outside upper left", ncols=4, frameon=False, labelcolor=TEXT)
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(path, transparent=True, metadata=nothing)


def summary() -> str:
    """Return a table of all cases of the largest file: the fastest call and those of others."""
    _, content = next(machines())
    rows = [["question", "fastclip", "time relative to fastclip"], ["---", "---:", "---"]]
    for case in content["results"]:
        best = fastest(case)
        others = [
            f"{row['call']}: {row['median_s'] / best:.3g}"
            for row in case["rows"]
            if "median_s" in row and library(row["call"]) != "fastclip"
        ]
        if others:
            rows.append([case["description"], seconds(best), "; ".join(others)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def grid_page(stem: str) -> str:
    """Return the page of top-k at all sizes: how many times as long torch takes."""
    content = json.loads((RESULTS / f"{stem}.json").read_text("utf-8"))
    cells = content["cells"]
    lines = ["# Top-k at all sizes", ""]
    lines += [f"`mm` + `topk` of torch beside `fastclip.topk`, {content['machine']['processor']},"]
    lines += [
        f"{content['machine']['instruction set in use']}, {content['machine']['threads']} threads,"
    ]
    lines += [
        f"{content['date']}. A cell says how many times as long torch takes: with packed keys, and"
    ]
    lines += ["in brackets with keys that are not packed. Below 1, torch is faster. File:"]
    lines += [f"`benches/results/{stem}.json`.", "", "```sh", "python benches/grid.py", "```", ""]
    for d in sorted({cell["d"] for cell in cells}):
        for k in sorted({cell["k"] for cell in cells if cell["d"] == d}):
            chosen = {(c["queries"], c["keys"]): c for c in cells if (c["d"], c["k"]) == (d, k)}
            queries = sorted({q for q, _ in chosen})
            keys = sorted({v for _, v in chosen})
            lines += [f"## d = {d:,}, k = {k:,}", ""]
            lines += ["| queries | " + " | ".join(f"{v:,} keys" for v in keys) + " |"]
            lines += ["| ---: |" + " ---: |" * len(keys)]
            for q in queries:
                row = [_cell(chosen.get((q, v))) for v in keys]
                lines += [f"| {q:,} | " + " | ".join(row) + " |"]
            lines += [""]
    return "\n".join(lines)


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    time = cell["seconds"]
    return f"{time['torch'] / time['packed']:.2g} ({time['torch'] / time['fastclip']:.2g})"
