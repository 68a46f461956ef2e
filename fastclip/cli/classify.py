"""``fastclip classify``: the names of a vocabulary that fit images best."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fastclip.cli._common import (
    UNBROKEN,
    Strict,
    bar,
    list_reasons,
    printable,
    table,
    writable,
    writable_folder,
    written,
)
from fastclip.cli._model import Device, ModelName, ModelPrecision, Pretrained, load_model
from fastclip.cli._vocabulary import LISTS, NAMES, Prompts, prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastclip.data import ImageSource
    from fastclip.zero_shot import Classification

_SHOWN = 20  # skipped images and confusions that are listed
_FOLDERS = "folders"


def command(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES",
            help="Image files and folders; or a source as for 'embed-images', such as "
            "'photos/**/*.jpg' in quotes, a .tar of webdataset or a .csv with a column of paths.",
        ),
    ],
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar=NAMES, help=f"The names to choose from: {LISTS}. Default: the images' folders."
        ),
    ] = None,
    model: ModelName = "tiny",
    pretrained: Pretrained = None,
    templates: Annotated[
        Prompts | None,
        typer.Option(
            help="Prompts whose features are averaged: 'a photo of a {}.' (default), the name "
            "alone, OpenAI's 80 for ImageNet, or 7 of them."
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Prompt with {} for the name, such as 'a sketch of a {}'. Repeat it to average "
            "several.",
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("-k", "--k", help="Names per image. Default: 5, or all if they are fewer."),
    ] = None,
    labels: Annotated[
        str,
        typer.Option(
            metavar="FILE|folders|none",
            help="The right names, to measure accuracy: a .txt with one per image, a .csv, .tsv or "
            ".jsonl with the columns image and class, or the names of the images' folders.",
        ),
    ] = _FOLDERS,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write a table (.csv, .parquet), .json, or a page with pictures (.html). Repeat "
            "it for several.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep features here, so that the same command resumes if interrupted, and other "
            "questions about the same images are quick.",
        ),
    ] = None,
    format: Annotated[
        Literal["table", "json", "csv"], typer.Option(help="Format of the printed results.")
    ] = "table",
    rows: Annotated[int, typer.Option(min=1, help="Images that a table shows.")] = 20,
    strict: Strict = False,
    device: Device = "cpu",
    precision: ModelPrecision = "fp32",
) -> None:
    """Name images: find the K names of a vocabulary that fit each image best.

    Zero-shot classification. The features of a name's prompts are averaged, as in CLIP and
    open_clip. Where right names are known, accuracy and the most frequent confusions are shown.
    The model tiny ships with fastclip, for drawings and for trying things out.
    """
    if template and templates:
        raise typer.BadParameter("not together with --template", param_hint="'--templates'")
    from fastclip.report.classification import check_ending, write_classification

    targets = [writable(path) for path in output or ()]
    for path in output or ():
        check_ending(path)
    folder = None if cache is None else writable_folder(cache)
    from fastclip.data import find_images
    from fastclip.zero_shot import classify

    source = find_images(images)
    names = _names(vocabulary, source)
    if k is not None and not 1 <= k <= len(names):
        raise typer.BadParameter(
            f"is {k}, allowed: 1 to {len(names)}, the number of names", param_hint="'-k'"
        )
    truth = _labels(labels, source)
    encoder = load_model(model, pretrained, device, precision)
    if model == "tiny":
        typer.echo(
            "the model is tiny, which knows drawings of things; for photos give another one, such "
            "as --model ViT-B-32 --pretrained openai",
            err=True,
        )
    with ExitStack() as bars:
        found = classify(
            source,
            names,
            encoder,
            model_name=model,
            pretrained=pretrained,
            k=k,
            templates=template or prompts(templates or "photo"),
            labels=truth,
            cache=folder,
            progress=lambda what: bar(bars, f"embedding {what}", what),
        )
    _tell_skipped(found)
    if not len(found):
        raise ValueError(f"{' '.join(images)}: none of the {len(source):,} images can be read")
    for path in targets:
        write_classification(path, found)
    _print(found, format, rows, labels)
    for path in output or ():
        typer.echo(written(path), err=True)
    if strict and found.unreadable:
        raise typer.Exit(1)


def _names(asked: str | None, source: ImageSource) -> tuple[str, ...]:
    from fastclip.data.vocabularies import vocabulary

    if asked is not None:
        return vocabulary(asked)
    folders = dict.fromkeys(PurePath(name).parent.name for name in source.names)
    if "" in folders or len(folders) < 2:
        raise typer.BadParameter(
            f"is needed where the images are not in several folders, one for each class: {LISTS}",
            param_hint="'--vocabulary'",
        )
    return tuple(dict.fromkeys(folder.replace("_", " ") for folder in folders))


def _labels(asked: str, source: ImageSource) -> Literal["folders"] | Sequence[str] | None:
    from fastclip.data import read_texts
    from fastclip.data.checks import did_you_mean
    from fastclip.data.texts import kind_of

    if asked == _FOLDERS:
        return "folders"
    if asked == "none":
        return None
    path = Path(asked)
    if not path.exists():
        near = did_you_mean(asked, (_FOLDERS, "none"))
        raise FileNotFoundError(f"{asked}: no such file, allowed: a file, folders or none{near}")
    if kind_of(path) == ".txt":
        lines = [line.strip() for line in read_texts(path)]
        if len(lines) != len(source):
            raise ValueError(
                f"{path}: {len(lines):,} lines, allowed: one for each of {len(source):,} images"
            )
        return lines
    given = read_texts(path, column="image"), read_texts(path, column="class")
    label_of = {image: label.strip() for image, label in zip(*given, strict=True)}
    if not label_of.keys() & set(source.names):
        raise ValueError(
            f"{path}: has the class of {next(iter(label_of))!r} and others, but none of an image "
            f"that was found, such as {source.names[0]!r}"
        )
    return [label_of.get(name, "") for name in source.names]


def _tell_skipped(found: Classification) -> None:
    count = len(found.unreadable)
    if count:
        reasons = ((one.name, one.reason) for one in found.unreadable)
        list_reasons(f"{count:,} image{'s' if count > 1 else ''} skipped", reasons, _SHOWN)


def _print(found: Classification, format: str, rows: int, labels: str) -> None:
    from fastclip.report.classification import print_csv, print_json

    if format == "json":
        print_json(sys.stdout, found)
        return
    if format == "csv":
        print_csv(sys.stdout, found)
        return
    _print_lines(_images(found, rows))
    if len(found) > rows:
        typer.echo(
            f"{len(found) - rows:,} more images; --rows sets how many are shown, -o writes all",
            err=True,
        )
    if not found.labelled:
        return
    beyond = f", top-{found.k} {100 * found.accuracy(found.k):.1f} %" if found.k > 1 else ""
    told = "their folders" if labels == _FOLDERS else labels
    typer.echo(
        f"accuracy: top-1 {100 * found.accuracy():.1f} %{beyond}; images with a right name, from "
        f"{printable(told)}: {found.labelled:,}"
    )
    if confusions := found.confusions(_SHOWN):
        shown = table("name", "taken for", "images", justify="left")
        for name, other, of in confusions:
            shown.add_row(_text(name), _text(other), f"{len(of):,}")
        _print_lines(shown)


def _images(found: Classification, most: int) -> Any:
    from fastclip.report import classification

    known = ["right name"] if found.labelled else []
    others = ["next"] if found.k > 1 else []
    shown = table("image", *known, "name", "probability", *others, justify="left")
    chosen = range(min(most, len(found)))
    for image, label, names in classification.rows(found, chosen):
        first, *rest = names
        style = "" if label is None else "green" if first["name"] == label else "red"
        shown.add_row(
            _text(image),
            *([_text(label or "")] if known else []),
            _text(first["name"], style),
            f"{100 * first['probability']:5.1f} %",
            *([_text(", ".join(one["name"] for one in rest))] if others else []),
        )
    return shown


def _text(name: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(printable(name), style=style, overflow="fold")


def _print_lines(shown: Any) -> None:
    """Print a table; where stdout is no terminal, without breaks within its lines."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else UNBROKEN)
    with console.capture() as captured:
        console.print(shown)
    for line in captured.get().splitlines():
        if line.strip():
            typer.echo(line.rstrip())
