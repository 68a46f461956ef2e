"""A page on the scores of a model on captions with hard positives and negatives."""

import os
from pathlib import Path
from typing import Any

from fastclip.data.html import thumbnail
from fastclip.data.image_decoding import decode_image
from fastclip.metrics.hard_positives import HardPositiveReport
from fastclip.report.page import write_page

OUTCOMES = {
    "positive_rejected": "Another wording is rejected",
    "caption_rejected": "The caption is rejected, another wording is not",
    "both_rejected": "Both are rejected",
}
_SIDE = 320  # pixels of an example's longer side


def write_hard_positives_page(
    path: str | os.PathLike[str], report: HardPositiveReport, model: str
) -> None:
    """Write one HTML file on a report, with the worst examples and their pictures.

    Parameters
    ----------
    path : path
        An existing file is replaced; the new one appears whole or not at all.
    report : HardPositiveReport
    model : str
        What to call the model.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    groups = [
        {
            "title": title,
            "share": getattr(report.scores, outcome) if report.scores else 0.0,
            "examples": [_example(report, item) for item in report.examples(outcome)],
        }
        for outcome, title in OUTCOMES.items()
    ]
    write_page(
        Path(path),
        "hard_positives.html.j2",
        report=report,
        model=model,
        rows=summary_rows(report),
        groups=groups,
    )


def summary_rows(report: HardPositiveReport) -> list[tuple[str, Any]]:
    """Title and measures of each category, of their mean, and of all items."""
    scores = report.scores
    if scores is None:
        return []
    rows: list[tuple[str, Any]] = list(scores.categories.items())
    if len(rows) > 1:
        rows.append(("mean of categories", scores.macro))
    return [*rows, ("all items", scores)] if len(rows) != 1 else rows


def _example(report: HardPositiveReport, item: int) -> dict[str, Any]:
    assert report.scores is not None
    assert report.images is not None
    entry = report.items[item]
    scores = report.scores
    image = report.images.source.read(report.image_of_item[item])
    lines = [
        ("caption", entry.caption, float(scores.caption_scores[item])),
        ("positive", " / ".join(entry.hard_positives), float(scores.positive_scores[item])),
        ("negative", " / ".join(entry.hard_negatives), float(scores.negative_scores[item])),
    ]
    return {
        "image": thumbnail(decode_image(image), _SIDE, format="JPEG", quality=85),
        "name": entry.image,
        "lines": lines,
    }
