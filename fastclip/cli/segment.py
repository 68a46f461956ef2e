"""``fastclip segment``: which of many tags is where in an image?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastclip.cli import _masks
from fastclip.cli._common import Strict, printable, progress, writable_folder
from fastclip.cli._model import Device, ModelName, ModelPrecision, Pretrained, load_model
from fastclip.cli._vocabulary import Templates, Vocabulary

if TYPE_CHECKING:
    import torch

_SHOWN = 3


def command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Files.")],
    model: ModelName,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the results, three files per image."
        ),
    ],
    pretrained: Pretrained = None,
    tags: Annotated[str | None, typer.Option(help="Names, separated by commas.")] = None,
    vocabulary: Vocabulary = None,
    background: Annotated[
        float | None,
        typer.Option(help="Label as background the pixels whose best cosine is below this."),
    ] = None,
    templates: Templates = "photo",
    size: _masks.Size = 448,
    scale: _masks.Scales = None,
    flip: _masks.Flip = False,
    window: _masks.Window = None,
    refine: _masks.Refine = False,
    method: _masks.Reading = "value",
    strict: Strict = False,
    device: Device = "cpu",
    precision: ModelPrecision = "fp32",
) -> None:
    """Label each pixel with one of --tags or of a --vocabulary.

    For each image NAME: NAME-overlay.png, coloured, with a legend; NAME-labels.png, 0 for the
    background and the number of the tag elsewhere; NAME.json, the tags with their masks as COCO's
    run lengths. Images that cannot be read or are too small are skipped and listed.
    """
    if (tags is None) == (vocabulary is None):
        raise typer.BadParameter("one of the two is needed", param_hint="'--tags', '--vocabulary'")
    folder = writable_folder(output)
    _check_names(images)
    from fastclip.data.vocabularies import vocabulary as read_vocabulary

    if tags is not None:
        names = tuple(dict.fromkeys(filter(None, map(str.strip, tags.split(",")))))
    else:
        names = read_vocabulary(str(vocabulary))
    if not names:
        raise typer.BadParameter("holds no name", param_hint="'--tags'")

    from fastclip.report import draw_labels
    from fastclip.ttd import segment

    encoder = load_model(model, pretrained, device, precision)
    features = _masks.encode(encoder, names, templates)
    folder.mkdir(exist_ok=True)
    skipped = {}
    with progress("segmenting", "images") as report:
        for done, path in enumerate(images):
            report(done, len(images))
            try:
                picture = _masks.read_picture(path)
                found = segment(
                    encoder,
                    picture,
                    features,
                    background=background,
                    refine=refine,
                    size=size,
                    scales=scale or (1.0,),
                    flip=flip,
                    window=window,
                    method=method,
                )
            except ValueError as error:
                skipped[path] = str(error)
                continue
            labels = found.labels.cpu()
            areas = _areas(labels, names)
            _masks.save_picture(
                folder / f"{path.stem}-overlay.png", draw_labels(picture, labels, names)
            )
            _masks.save_labels(folder / f"{path.stem}-labels.png", labels, len(names))
            _masks.save_json(folder / f"{path.stem}.json", {"image": str(path), "tags": areas})
            best = ", ".join(f"{area['tag']} {area['share']:.0%}" for area in areas[:_SHOWN])
            typer.echo(printable(f"{path}: {best or 'nothing'}"))
    for path, reason in skipped.items():
        typer.echo(f"skipped {printable(str(path))}: {printable(reason)}", err=True)
    if skipped and (strict or len(skipped) == len(images)):
        raise typer.Exit(1)


def _check_names(images: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in images:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        if path.stem in seen:
            raise ValueError(f"{seen[path.stem]}, {path}: both would be written as {path.stem}")
        seen[path.stem] = path


def _areas(labels: torch.Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """What is there, the largest first."""
    from fastclip.data import encode_rle

    ids, counts = labels[labels >= 0].unique(return_counts=True)
    return [
        {
            "tag": names[int(ids[i])],
            "label": int(ids[i]) + 1,
            "share": int(counts[i]) / labels.numel(),
            "segmentation": encode_rle(labels == ids[i]),
        }
        for i in counts.argsort(descending=True, stable=True).tolist()
    ]
