"""``fastclip embed-images`` and ``fastclip embed-texts``: from files to features."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fastclip.cli._common import Strict, list_reasons, print_job, progress, writable_folder
from fastclip.cli._model import Device, ModelName, ModelPrecision, Pretrained, load_model

if TYPE_CHECKING:
    from fastclip.data import EmbeddingSummary

# Skipped images that are shown; all are in the file beside the features.
_SHOWN = 20


_Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="A new or empty folder, or the folder of the same job, which then resumes.",
    ),
]
_ShardSize = Annotated[
    int, typer.Option(min=1, help="Rows of a shard, the most that an interruption can cost.")
]


def images(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, a quoted pattern such as 'photos/**/*.jpg', a .tar of webdataset or a "
            ".parquet with images inside (or a pattern of several), a .csv or .tsv with a column "
            "of paths, or a .txt with one path per line.",
        ),
    ],
    model: ModelName,
    output: _Output,
    pretrained: Pretrained = None,
    column: Annotated[
        str | None,
        typer.Option(help="Column of the paths or images; needed if a table has several."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 128,
    shard_size: _ShardSize = 10_000,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads that read and decode. Default: one per processor, 8 at most."
        ),
    ] = None,
    device: Device = "cpu",
    precision: ModelPrecision = "fp32",
    strict: Strict = False,
) -> None:
    """Write the features of many images into a folder.

    Every command that takes features reads the folder. Images that cannot be read are skipped and
    listed in unreadable.jsonl there. If interrupted, rerun the same command to resume.
    """
    target = writable_folder(output)
    from fastclip.data import embed_images, find_images

    found = find_images(source, column=column)
    encoder = load_model(model, pretrained, device, precision)
    began = time.monotonic()
    with progress("embedding", "images") as report:
        summary = embed_images(
            found,
            encoder,
            target,
            model_name=model,
            pretrained=pretrained,
            batch_size=batch_size,
            shard_size=shard_size,
            workers=workers,
            progress=report,
        )
    rows = f"{summary.rows:,} rows of {summary.dim}"
    print_job(output, rows, summary, time.monotonic() - began)
    _print_unreadable(output, summary)
    if strict and summary.unreadable:
        raise typer.Exit(1)


def texts(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .txt with one text per line, a .csv or .tsv, or a .jsonl; each may end in .gz.",
        ),
    ],
    model: ModelName,
    output: _Output,
    pretrained: Pretrained = None,
    column: Annotated[
        str | None,
        typer.Option(help="Column or JSON field of the texts; needed if there are several."),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Prompt with {} for the text, such as 'a photo of a {}'. Repeat it to "
            "average several prompts.",
        ),
    ] = None,
    templates: Annotated[
        Literal["imagenet", "imagenet-simple"] | None,
        typer.Option(help="OpenAI's 80 prompts for ImageNet, or 7 of them."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Texts or prompts per forward pass.")
    ] = 256,
    shard_size: _ShardSize = 10_000,
    device: Device = "cpu",
    precision: ModelPrecision = "fp32",
) -> None:
    """Write the features of many texts into a folder.

    Every command that takes features reads the folder. Duplicates are kept, and a blank line is an
    error. If interrupted, rerun the same command to resume.
    """
    if template and templates:
        raise typer.BadParameter("not together with --template", param_hint="'--templates'")
    target = writable_folder(output)
    from fastclip.data import embed_texts, read_texts

    found = read_texts(source, column=column)
    encoder = load_model(model, pretrained, device, precision)
    prompts: Sequence[str] | None = template or None
    if templates is not None:
        import fastclip.models

        prompts = fastclip.models.templates(templates)
    began = time.monotonic()
    with progress("embedding", "texts") as report:
        summary = embed_texts(
            found,
            encoder,
            target,
            model_name=model,
            pretrained=pretrained,
            templates=prompts,
            batch_size=batch_size,
            shard_size=shard_size,
            progress=report,
        )
    rows = f"{summary.rows:,} rows of {summary.dim}"
    print_job(output, rows, summary, time.monotonic() - began)


def _print_unreadable(output: Path, summary: EmbeddingSummary) -> None:
    count = len(summary.unreadable)
    if not count:
        return
    skipped = "1 image" if count == 1 else f"{count:,} images"
    listed = output / "unreadable.jsonl"
    reasons = ((entry.name, entry.reason) for entry in summary.unreadable)
    list_reasons(f"{skipped} skipped, listed in {listed}", reasons, _SHOWN)
