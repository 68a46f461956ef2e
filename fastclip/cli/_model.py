"""The options that name a model, the model that they name, and its features of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fastclip.cli._common import progress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL.Image import Image

    from fastclip.data import EmbeddingSummary, Features, ImageSource
    from fastclip.models import Model


Precision = Literal["fp32", "amp", "bf16", "fp16"]
_MODEL = typer.Option(
    metavar="NAME",
    help="An architecture of open_clip, a folder in its format, hf-hub:OWNER/NAME, or tiny.",
)
ModelName = Annotated[str, _MODEL]
OptionalModelName = Annotated[str | None, _MODEL]
Pretrained = Annotated[
    str | None,
    typer.Option(
        metavar="TAG|FILE",
        help="Weights of the architecture: a tag of open_clip, such as openai, a checkpoint, or "
        "TAG:FILE, a checkpoint whose images are preprocessed as for the tag.",
    ),
]
Device = Annotated[str, typer.Option(help="Device of the model, such as cpu or cuda.")]
ModelPrecision = Annotated[
    Precision, typer.Option(help="Numeric precision of the model; features are always float32.")
]


def load_model(
    name: str, pretrained: str | None, device: str, precision: Precision = "fp32"
) -> Model:
    import fastclip.models

    return fastclip.models.load(name, pretrained, device=device, precision=precision)


def image_features(
    source: ImageSource, encoder: Model, folder: Path, name: str | None, pretrained: str | None
) -> tuple[Features, EmbeddingSummary]:
    """Features of unit length, from ``folder`` as far as they are there from an earlier run."""
    from fastclip.data import embed_images, read_features

    with progress("embedding", "images") as report:
        summary = embed_images(
            source, encoder, folder, model_name=name, pretrained=pretrained, progress=report
        )
    return read_features(folder).normalized(), summary


def picture_of(images: ImageSource | Features) -> Callable[[str], Image] | None:
    """Return a function from the name of an image to the image; features have none."""
    from fastclip.data import Features

    if isinstance(images, Features):
        return None
    from fastclip.data.image_decoding import decode_image

    place = {name: index for index, name in enumerate(images.names)}
    return lambda name: decode_image(images.read(place[name]))
