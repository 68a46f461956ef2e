"""A page on what the texts of classes do for zero-shot classification."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastclip.config import config
from fastclip.data.files import replacing
from fastclip.report.page import write_page, write_results

if TYPE_CHECKING:
    from fastclip.coder import CoderReport

_EXAMPLES = 24


def write_coder(folder: str | os.PathLike[str], found: CoderReport, *, title: str) -> None:
    """Write ``report.html``, ``results.json`` and ``decisions.csv`` into a folder.

    Parameters
    ----------
    folder : path
        Exists; files of these names are replaced, each whole or not at all.
    found : CoderReport
    title : str
        What was classified.

    Raises
    ------
    OSError
        A file cannot be written.
    """
    from fastclip.report.coder_figures import density_svg

    target = Path(folder)
    with replacing(target / "decisions.csv") as part:
        _write_decisions(part, found)
    write_results(target, results(found, title))
    write_page(
        target / "report.html",
        "coder.html.j2",
        title=title,
        found=found,
        density=density_svg(found.density) if found.density else "",
        examples=_examples(found),
        config=config(),
    )


def results(found: CoderReport, title: str) -> dict[str, Any]:
    """All numbers of the report, for ``results.json``."""
    return {
        "title": title,
        "fastclip": config()["fastclip"],
        "images": len(found.image_names),
        "classes": len(found.class_names),
        "texts": len(found.texts),
        "reranked": int(found.decisions.reranked.sum()),
        "changed": int((found.decisions.classes != found.decisions.first_stage).sum()),
        "accuracy": found.accuracy,
        "density": [
            dict(zip(("texts", "accuracy", "lowest", "highest"), row, strict=True))
            for row in found.density
        ],
        "confusions": [
            dict(zip(("name", "taken_for", "before", "after"), row, strict=True))
            for row in found.confusions
        ],
    }


def _write_decisions(path: Path, found: CoderReport) -> None:
    decisions, names = found.decisions, found.class_names
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        header = ["image", "class", "first_stage", "gap", "reranked", "candidates", "margins"]
        writer.writerow([*header, "nearest_texts"])
        for i, image in enumerate(found.image_names):
            shown = bool(decisions.reranked[i])
            margins = [f"{x:.6f}" for x in decisions.margins[i].tolist()] if shown else []
            writer.writerow(
                [
                    image,
                    names[int(decisions.classes[i])],
                    names[int(decisions.first_stage[i])],
                    f"{float(decisions.gaps[i]):.6f}",
                    int(shown),
                    "|".join(names[c] for c in decisions.candidates[i].tolist()),
                    "|".join(margins),
                    "|".join(found.texts[t] for t in found.neighbours.indices[i].tolist()),
                ]
            )


def _examples(found: CoderReport) -> list[dict[str, Any]]:
    """Images whose class the second stage changed first, then those it looked at."""
    decisions, names = found.decisions, found.class_names
    changed = decisions.classes != decisions.first_stage
    order = (changed.int() * 2 + decisions.reranked.int()).argsort(descending=True, stable=True)
    examples = []
    for i in order[:_EXAMPLES].tolist():
        margins = decisions.margins[i].tolist()
        candidates = [names[c] for c in decisions.candidates[i].tolist()]
        texts = [found.texts[t] for t in found.neighbours.indices[i].tolist()]
        examples.append(
            {
                "image": found.image_names[i],
                "label": None if found.labels is None else names[int(found.labels[i])],
                "first": names[int(decisions.first_stage[i])],
                "second": names[int(decisions.classes[i])],
                "gap": float(decisions.gaps[i]),
                "reranked": bool(decisions.reranked[i]),
                "candidates": list(zip(candidates, margins, strict=True)),
                "texts": list(zip(texts, found.neighbours.values[i].tolist(), strict=True)),
            }
        )
    return examples
