"""``fastclip distill``: text-tag self-distillation of a model, from captioned images."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastclip.cli import _run
from fastclip.cli._common import writable_folder
from fastclip.cli._masks import Method
from fastclip.cli._model import Device, ModelName, Pretrained
from fastclip.cli.tag import Tagger, Words

if TYPE_CHECKING:
    from fastclip.training import Validation


class Distance(str, Enum):
    bce = "bce"
    l1 = "l1"
    l2 = "l2"
    cosine = "cosine"


class Student(str, Enum):
    sigmoid = "sigmoid"
    raw = "raw"
    min_max = "min-max"


def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Captioned images: a .csv, .tsv or .jsonl with the columns image and caption, tar "
            "files as webdataset writes them, or a folder with NAME.txt beside NAME.jpg.",
            show_default=False,
        ),
    ],
    model: ModelName,
    output: _run.Output,
    pretrained: Pretrained = None,
    image_column: Annotated[str, typer.Option(help="Of a table.")] = "image",
    caption_column: Annotated[str, typer.Option(help="Of a table.")] = "caption",
    words: Annotated[Words, typer.Option(help="Which words of a caption are tags.")] = Words.nouns,
    tagger: Annotated[Tagger, typer.Option(help="Of nouns and phrases.")] = Tagger.wordnet,
    method: Annotated[Method, typer.Option(help="Of the features of patches.")] = Method.value,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Tags are shown from this normalised score on.")
    ] = 0.5,
    distance: Annotated[Distance, typer.Option(help="Of maps and targets.")] = Distance.bce,
    student: Annotated[
        Student, typer.Option(help="What of a map is compared with its target.")
    ] = Student.sigmoid,
    tag_weight: Annotated[float, typer.Option(min=0, help="Of the loss of single tags.")] = 1.0,
    map_size: Annotated[
        int | None, typer.Option(min=1, help="Up-sample maps to this side.", show_default=False)
    ] = None,
    epochs: _run.Epochs = 1,
    batch_size: _run.BatchSize = 32,
    micro_batch_size: _run.MicroBatchSize = None,
    lr: _run.LearningRate = 1e-6,
    warmup: _run.Warmup = 50,
    weight_decay: _run.WeightDecay = 0.1,
    precision: _run.OfComputation = _run.Precision.fp32,
    lora_rank: _run.LoraRank = 0,
    seed: _run.Seed = 0,
    checkpoint_steps: _run.CheckpointSteps = 100,
    validation_steps: _run.ValidationSteps = 0,
    zero_shot: _run.ZeroShot = None,
    retrieval: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Watch R@1 both ways on captioned images, as of DATA."),
    ] = None,
    guard: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="End training where a watched figure falls by more than this.",
            show_default=False,
        ),
    ] = None,
    tensorboard: _run.TensorBoard = False,
    device: Device = "cpu",
) -> None:
    """Fine-tune a CLIP model so that captions find all of the things that they name.

    Text-tag self-distillation (TTD). Run again after a kill, it goes on from its last checkpoint.
    Several processes or GPUs share each batch under torchrun, as with `train`.
    """
    target = writable_folder(output)
    if guard is not None and zero_shot is None and retrieval is None:
        raise ValueError("--guard: needs --zero-shot or --retrieval, which it watches")
    from fastclip.data import find_captioned_images
    from fastclip.ttd import DistillationSettings, TaggedImages, distill, extract_tags

    settings = DistillationSettings(
        method=method.value,
        threshold=threshold,
        distance=distance.value,
        student=student.value,
        tag_weight=tag_weight,
        map_size=map_size,
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
    found = find_captioned_images(data, image_column=image_column, caption_column=caption_column)
    tagged = extract_tags(found.captions, kind=words.value, tagger=tagger.value)
    used = TaggedImages(found, [[tag.text for tag in own] for own in tagged])
    validate = _validation(zero_shot, retrieval)
    watched = validate.figures if validate is not None and guard is not None else ()
    with _run.ranks(device) as (device, first):
        for number, what in (
            (len(found.without_caption), "images without a caption"),
            (used.untagged, "captions without a tag"),
        ):
            if number and first:
                typer.echo(f"left out: {number} {what}", err=True)
        distill(
            model,
            pretrained,
            used,
            target,
            settings,
            device=device,
            validate=validate,
            guard={name: guard for name in watched} if guard is not None else None,
            tensorboard=tensorboard,
        )
    if first:
        _run.show_change(target)
        typer.echo(f"{output}: the model, for fastclip.models.load")


def _validation(zero_shot: Path | None, retrieval: Path | None) -> Validation | None:
    from fastclip.data import find_captioned_images
    from fastclip.training import Validation, read_classes

    if zero_shot is None and retrieval is None:
        return None
    return Validation(
        zero_shot=None if zero_shot is None else read_classes(zero_shot),
        retrieval=None if retrieval is None else find_captioned_images(retrieval),
    )
