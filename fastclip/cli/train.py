"""``fastclip train``: fine-tune a model on captions with hard negatives and hard positives."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastclip.cli._common import writable_folder

if TYPE_CHECKING:
    from fastclip.training import Validation


class Loss(str, Enum):
    hard_positives = "hard-positives"
    negclip = "negclip"
    svlc = "svlc"
    clip = "clip"


class Precision(str, Enum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Captions with hard negatives and hard positives, as of `hard-positives`.",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the images are.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="As of `hard-positives`.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Gets the model, checkpoints and logs."),
    ],
    pretrained: Annotated[
        str | None, typer.Option(metavar="TAG|FILE", help="Weights.", show_default=False)
    ] = None,
    loss: Annotated[Loss, typer.Option(help="What is minimised.")] = Loss.hard_positives,
    negatives: Annotated[
        float, typer.Option(min=0, max=1, help="Share of captions with their hard negative.")
    ] = 1.0,
    positives: Annotated[
        float, typer.Option(min=0, max=1, help="Share of captions with their hard positive.")
    ] = 1.0,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    batch_size: Annotated[int, typer.Option(min=1)] = 256,
    micro_batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images encoded at once; less memory, same result.")
    ] = None,
    lr: Annotated[float, typer.Option(min=0, help="The highest learning rate.")] = 1e-6,
    warmup: Annotated[int, typer.Option(min=0, help="Steps.")] = 50,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.1,
    precision: Annotated[Precision, typer.Option(help="Of the computation.")] = Precision.fp32,
    lora_rank: Annotated[int, typer.Option(min=0, help="0: train all weights.")] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    checkpoint_steps: Annotated[int, typer.Option(min=1)] = 100,
    validation_steps: Annotated[
        int, typer.Option(min=0, help="0: validate before and after training only.")
    ] = 0,
    benchmark: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Validate with this benchmark.")
    ] = None,
    benchmark_images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Its images, if elsewhere.")
    ] = None,
    zero_shot: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Validate with zero-shot accuracy: a .csv or .tsv with the columns image (a path "
            "relative to it) and class.",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
) -> None:
    """Fine-tune a CLIP model so that it tells meanings apart and accepts other wordings.

    Run again after a kill, it goes on from its last checkpoint.
    """
    target = writable_folder(output)
    from fastclip.data import find_item_images, read_hard_positives
    from fastclip.training import ItemData, TrainingSettings, train

    settings = TrainingSettings(
        loss=loss.value,
        negatives=negatives,
        positives=positives,
        epochs=epochs,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        lr=lr,
        warmup=warmup,
        weight_decay=weight_decay,
        precision=precision.value,
        lora_rank=lora_rank,
        seed=seed,
        checkpoint_steps=checkpoint_steps,
        validation_steps=validation_steps,
    )
    items = read_hard_positives(data, needs_negatives=False).items
    found = find_item_images(items, images)
    found.require_all(images)
    validate = _validation(benchmark, benchmark_images or images, zero_shot)
    train(
        model,
        pretrained,
        ItemData(items, found),
        target,
        settings,
        device=device,
        validate=validate,
    )
    show_change(target)
    typer.echo(f"{output}: the model, for fastclip.models.load")


def show_change(folder: Path) -> None:
    """Print each figure of the logs before and after training."""
    for name in ("validation.csv", "log.csv"):
        if (folder / name).is_file():
            header, *lines = (folder / name).read_text("utf-8").splitlines()
            first, last = (dict(zip(header.split(","), line.split(","), strict=True))
                           for line in (lines[0], lines[-1]))  # fmt: skip
            for key, value in last.items():
                if key not in ("step", "learning_rate"):
                    typer.echo(f"{key}: {float(first[key]):.4f} -> {float(value):.4f}")


def _validation(benchmark: Path | None, images: Path, zero_shot: Path | None) -> Validation | None:
    from fastclip.data import find_item_images, read_hard_positives
    from fastclip.training import Validation, read_classes

    items = pictures = None
    if benchmark is not None:
        entries = read_hard_positives(benchmark).items
        found = find_item_images(entries, images)
        found.require_all(images)
        items = entries, found
    if zero_shot is not None:
        pictures = read_classes(zero_shot)
    if items is None and pictures is None:
        return None
    return Validation(items, pictures)
