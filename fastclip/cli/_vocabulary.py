"""The options that name a vocabulary and its prompts, and what they name."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Prompts = Literal["photo", "none", "imagenet", "imagenet-simple"]
NAMES = "NAMES|wordnet|lvis"
LISTS = (
    "names with commas, a file of names as for 'embed-texts', or a list that comes with fastclip: "
    "wordnet (117,798 nouns), lvis, openimages, objects365, coco, imagenet or cifar100"
)
Vocabulary = Annotated[
    str | None, typer.Option(metavar=NAMES, help=f"{LISTS[0].upper()}{LISTS[1:]}.")
]
Templates = Annotated[
    Prompts,
    typer.Option(
        help="'a photo of a {}.', the name alone, OpenAI's 80 for ImageNet, or 7 of them."
    ),
]


def prompts(templates: Prompts) -> tuple[str, ...]:
    """The prompts that an option names."""
    from fastclip.data.vocabularies.class_lists import PHOTO
    from fastclip.models import templates as of_imagenet

    if templates == "photo":
        return PHOTO
    return ("{}",) if templates == "none" else of_imagenet(templates)
