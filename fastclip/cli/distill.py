"""``fastclip distill``: text-tag self-distillation of a model, from captioned images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastclip.cli import _run
from fastclip.cli._common import warnings_as_lines, writable_folder
from fastclip.cli._model import Device, ModelName, Pretrained
from fastclip.cli.tag import Tagger, Words
from fastclip.ttd.distillation import DistillationSettings

if TYPE_CHECKING:
    from fastclip.training import Validation


@_run.with_settings
def command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Captioned images: a .csv, .tsv or .jsonl with the columns image and caption, tar "
            "files as webdataset writes them, .parquet files as data sets of Hugging Face have "
            "them, or a folder with NAME.txt beside NAME.jpg.",
        ),
    ],
    model: ModelName,
    output: _run.Output,
    pretrained: Pretrained = None,
    image_column: Annotated[str, typer.Option(help="Column of a table with the paths.")] = "image",
    caption_column: Annotated[
        str, typer.Option(help="Column of a table with the captions.")
    ] = "caption",
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE", help=f"{_run.IMAGES} Default: the paths of a table, relative to it."
        ),
    ] = None,
    words: Annotated[Words, typer.Option(help="Which words of a caption are tags.")] = "nouns",
    tagger: Annotated[Tagger, typer.Option(help="What finds nouns and phrases.")] = "wordnet",
    *,
    settings: DistillationSettings,
    zero_shot: _run.ZeroShot = None,
    retrieval: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Watch R@1 in both directions on captioned images in a format of DATA.",
        ),
    ] = None,
    guard: Annotated[
        float | None,
        typer.Option(min=0, help="End training where a watched figure falls by more than this."),
    ] = None,
    tensorboard: _run.TensorBoard = False,
    device: Device = "cpu",
) -> None:
    """Fine-tune a CLIP model so that captions find all of the things that they name.

    Text-tag self-distillation (TTD). If interrupted, rerun the same command to resume from the last
    checkpoint. Under torchrun, several processes or GPUs share each batch, as with `train`.
    """
    target = writable_folder(output)
    if guard is not None and zero_shot is None and retrieval is None:
        raise ValueError("--guard: needs --zero-shot or --retrieval, which it watches")
    from fastclip.data import find_captioned_images
    from fastclip.ttd import TaggedImages, distill, extract_tags

    found = find_captioned_images(
        data, image_column=image_column, caption_column=caption_column, images=images
    )
    tagged = extract_tags(found.captions, kind=words, tagger=tagger)
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
        with warnings_as_lines():
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
        _run.show_change(target, len(used) // settings.batch_size)
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
