"""``fastclip hard-positives``: does a model tell captions apart by what they mean?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fastclip.cli._common import (
    bar,
    list_reasons,
    printable,
    table,
    warnings_as_lines,
    writable,
    writable_folder,
    written,
)
from fastclip.cli._model import Device, ModelName, ModelPrecision, Pretrained, load_model

if TYPE_CHECKING:
    from fastclip.data import HardPositiveItem
    from fastclip.metrics import HardPositiveReport

_SHOWN = 10
_TENSORS = ("caption_scores", "positive_scores", "negative_scores")


OnError = Literal["raise", "skip"]


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="The authors' repository, a .json of ARO or SugarCrepe or a folder of these, or a "
            ".csv, .tsv or .jsonl of your own.",
        ),
    ],
    model: ModelName,
    pretrained: Pretrained = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            help="Where the images are, at any depth: a folder, a pattern, or .tar or .parquet "
            "files. Without it, texts alone are measured.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write a page with examples."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep features here, so that the same command resumes if interrupted.",
        ),
    ] = None,
    by: Annotated[
        Literal["category", "edit"], typer.Option(help="What to split the figures by.")
    ] = "category",
    invalid: Annotated[
        OnError, typer.Option(help="What to do with invalid entries of DATA.")
    ] = "raise",
    incomplete: Annotated[
        OnError,
        typer.Option(
            help="What to do with items without a hard negative, or without a hard positive where "
            "others have one, as 'hard-captions' writes them."
        ),
    ] = "skip",
    missing: Annotated[
        OnError, typer.Option(help="What to do where an image is missing or cannot be read.")
    ] = "raise",
    format: Annotated[
        Literal["table", "json"], typer.Option(help="Format of the printed results.")
    ] = "table",
    resamples: Annotated[int, typer.Option(min=0, help="Number of bootstrap resamples.")] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 128,
    device: Device = "cpu",
    precision: ModelPrecision = "fp32",
) -> None:
    """Score captions, hard positives and hard negatives with their images.

    Original accuracy, augmented accuracy and brittleness of Kamath et al., ECCV 2024, with
    bootstrap intervals. Where a caption has several hard positives, the lowest score counts; where
    it has several hard negatives, the highest. The command also measures, without any image, how
    near the texts are to each other.
    """
    page = None if output is None else writable(output)
    folder = None if cache is None else writable_folder(cache)
    from fastclip.data import find_item_images, read_hard_positives

    found = read_hard_positives(data, invalid=invalid, needs_negatives=False)
    _tell("invalid entries", {entry.place: entry.reason for entry in found.skipped})
    items, left_out = scored_items(data, found.items)
    if left_out and incomplete == "raise":
        raise ValueError(f"{left_out}; --incomplete skip scores the others")
    if left_out:
        typer.echo(f"{left_out}; --incomplete raise makes this an error", err=True)
    pictures = None if images is None else find_item_images(items, images)
    if pictures is not None and images is not None:
        if missing == "raise":
            pictures.require_all(images)
        _tell("missing images", pictures.missing)

    from fastclip.data.files import folder_or_temporary
    from fastclip.metrics import measure_hard_positives
    from fastclip.report import write_hard_positives_page

    encoder = load_model(model, pretrained, device, precision)
    with folder_or_temporary(folder) as place, warnings_as_lines(), ExitStack() as bars:
        report = measure_hard_positives(
            items,
            encoder,
            place,
            images=pictures,
            by=by,
            resamples=resamples,
            batch_size=batch_size,
            model_name=model,
            pretrained=pretrained,
            progress=lambda what: bar(bars, what, what),
        )
    _tell("unreadable images", report.unreadable)
    if report.unreadable and missing == "raise":
        raise ValueError(f"{images}: {len(report.unreadable)} images cannot be read")
    if format == "json":
        typer.echo(json.dumps(_as_json(report), indent=2))
    else:
        _print(report)
    if page is not None:
        write_hard_positives_page(page, report, " ".join(filter(None, (model, pretrained))))
        typer.echo(written(page, output), err=True)


def scored_items(
    data: Path, items: Sequence[HardPositiveItem]
) -> tuple[tuple[HardPositiveItem, ...], str]:
    """Return the complete items, and a line on those that are left out, empty if none is."""
    from fastclip.data import complete_items

    try:
        scored = complete_items(items)
    except ValueError as error:
        raise ValueError(f"{data}: {error}") from error
    if len(scored) == len(items):
        return scored, ""
    negatives = sum(not item.hard_negatives for item in items)
    lacking = [f"{negatives:,} have no hard negative"] if negatives else []
    if rest := len(items) - len(scored) - negatives:
        lacking.append(f"{rest:,} have no hard positive")
    return (
        scored,
        f"{data}: {len(scored):,} of {len(items):,} items are scored, {' and '.join(lacking)}",
    )


def _tell(what: str, reasons: dict[str, str]) -> None:
    if reasons:
        list_reasons(f"{len(reasons):,} {what} skipped", reasons.items(), _SHOWN)


def _as_json(report: HardPositiveReport) -> dict[str, Any]:
    """NaN, which JSON has not, becomes null."""
    scores = None
    if report.scores is not None:
        scores = {k: v for k, v in asdict(report.scores).items() if k not in _TENSORS}
    texts = None if report.texts is None else asdict(report.texts)
    result: dict[str, Any] = _finite({"images": scores, "texts": texts})
    return result


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def _print(report: HardPositiveReport) -> None:
    from rich.console import Console
    from rich.text import Text

    from fastclip.report.hard_positives import summary_rows

    console = Console()
    rows = summary_rows(report)
    if rows:
        shown = table("", "items", "original", "augmented", "brittle", "P rejected", "S rejected")
        for title, row in rows:
            measures = ("original_accuracy", "augmented_accuracy", "brittleness")
            orders = (row.positive_rejected, row.caption_rejected)
            cells = [_interval(row, name) for name in measures]
            shown.add_row(
                Text(printable(title)), f"{row.items:,}", *cells, *(_number(x) for x in orders)
            )
        chance = [_number(value) for value in rows[-1][1].chance.values()]
        shown.add_row("chance", "", *chance, style="dim")
        console.print(shown)
    if report.texts is not None:
        shown = table("", "items", "cosine with positive", "with negative", "negative nearer")
        lines = list(report.texts.categories.items())
        for title, entry in [*lines, *([("all items", report.texts)] if len(lines) > 1 else [])]:
            cells = [_number(entry.positive_score), _number(entry.negative_score)]
            nearer = _interval(entry, "negative_nearer")
            shown.add_row(Text(printable(title)), f"{entry.items:,}", *cells, nearer)
        console.print(shown)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _interval(row: Any, name: str) -> str:
    value, (low, high) = getattr(row, name), row.intervals[name]
    ends = "" if low != low else f" ({low:.3f} to {high:.3f})"
    return _number(value) + ends
