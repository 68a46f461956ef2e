"""``fastclip train``: fine-tune a model on captions with hard negatives and hard positives."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastclip.cli import _run
from fastclip.cli._common import printable, warnings_as_lines, writable_folder
from fastclip.cli._model import Device, ModelName, Pretrained, image_features, load_model
from fastclip.cli.hard_positives import scored_items
from fastclip.training.settings import TrainingSettings

if TYPE_CHECKING:
    from fastclip.data import ImageSource
    from fastclip.training import Validation


@_run.with_settings
def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Captions with hard negatives and hard positives, in a format that "
            "`hard-positives` reads.",
        ),
    ],
    images: Annotated[Path, typer.Option(metavar="SOURCE", help=_run.IMAGES)],
    model: ModelName,
    output: _run.Output,
    pretrained: Pretrained = None,
    *,
    settings: TrainingSettings,
    benchmark: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Validate with this benchmark.")
    ] = None,
    benchmark_images: Annotated[
        Path | None,
        typer.Option(metavar="SOURCE", help="Images of the benchmark, if they are elsewhere."),
    ] = None,
    zero_shot: _run.ZeroShot = None,
    tensorboard: _run.TensorBoard = False,
    device: Device = "cpu",
) -> None:
    """Fine-tune a CLIP model so that it tells meanings apart and accepts other wordings.

    If interrupted, rerun the same command to resume from the last checkpoint. Dropout is off, and
    the statistics of batch norms stay as they are. Hard images are drawn from the 3 most similar
    ones. Under torchrun, several processes or GPUs share each batch:
    torchrun --nproc-per-node 2 -m fastclip train ...
    """
    target = writable_folder(output)
    import torch

    from fastclip.data import find_item_images, read_hard_positives
    from fastclip.training import ItemData, train
    from fastclip.training._ranks import started_ranks

    items = read_hard_positives(data, needs_negatives=False).items
    found = find_item_images(items, images)
    found.require_all(images)
    validate = _validation(benchmark, benchmark_images or images, zero_shot)
    with _run.ranks(device) as (device, first):
        similar = None
        if settings.hard_images:
            embed = partial(_similar, found.source, model, pretrained, device, target)
            similar = torch.tensor(started_ranks().on_first(embed))
        used = ItemData(items, found, similar=similar)
        with warnings_as_lines():
            train(
                model,
                pretrained,
                used,
                target,
                settings,
                device=device,
                validate=validate,
                tensorboard=tensorboard,
            )
    if first:
        _run.show_change(target, len(used) // settings.batch_size)
        typer.echo(f"{output}: the model, for fastclip.models.load")


def _similar(
    source: ImageSource, model: str, pretrained: str | None, device: str, target: Path
) -> list[list[int]]:
    from fastclip.training import similar_images

    target.mkdir(exist_ok=True)
    encoder = load_model(model, pretrained, device)
    features, summary = image_features(source, encoder, target / "images", model, pretrained)
    if summary.unreadable:
        first = summary.unreadable[0]
        raise ValueError(f"{printable(first.name)}: {printable(first.reason)}")
    similar: list[list[int]] = similar_images(features.features, min(3, len(features) - 1)).tolist()
    return similar


def _validation(benchmark: Path | None, images: Path, zero_shot: Path | None) -> Validation | None:
    from fastclip.data import find_item_images, read_hard_positives
    from fastclip.training import Validation, read_classes

    items = pictures = None
    if benchmark is not None:
        read = read_hard_positives(benchmark, needs_negatives=False).items
        entries, left_out = scored_items(benchmark, read)
        if left_out:
            typer.echo(left_out, err=True)
        found = find_item_images(entries, images)
        found.require_all(images)
        items = entries, found
    if zero_shot is not None:
        pictures = read_classes(zero_shot)
    if items is None and pictures is None:
        return None
    return Validation(items, pictures)
