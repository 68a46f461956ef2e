"""What the commands of ``fastclip coder`` share: options, features, labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastclip.cli._common import load
from fastclip.cli._model import image_features

if TYPE_CHECKING:
    import torch

    from fastclip.coder import ClassTexts, Coder, Prompts
    from fastclip.data import Features, ImageSource
    from fastclip.models import Model

Images = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="Features, as in 'fastclip topk', or images, as in 'fastclip embed-images'.",
    ),
]
Texts = Annotated[
    Path,
    typer.Argument(metavar="TEXTS", help="What 'coder texts' wrote."),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results.")
]
Templates = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="How texts are worded: default, birds, pets, food, flowers, aircraft, satellite, "
        "textures, places, actions, or a .json file.",
    ),
]
RERANKING = "Reranking"
Threshold = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Rerank where the two largest probabilities differ by less than this.",
        rich_help_panel=RERANKING,
    ),
]
Candidates = Annotated[
    int,
    typer.Option(min=2, help="How many classes reranking compares.", rich_help_panel=RERANKING),
]
PROTOCOL = (
    "honest; authors: as the public scripts, for study; or what they do by name, with commas: "
    "none-synonyms, labels-choose, glued-frames, raw-names, six-requests, silent-rerank."
)


def as_protocol(text: str) -> str | list[str]:
    from fastclip.coder.protocol import DEVIATIONS, FEW_SHOT, deviations

    if "," not in text and text not in DEVIATIONS:
        deviations(text)
        return text
    names = text.split(",")
    if without_examples := sorted(deviations(names) & FEW_SHOT):
        raise ValueError(
            f"protocol: holds {without_examples[0]!r}, which needs support images: see "
            "fastclip.coder.few_shot_curve"
        )
    return names


def embed_prompts(prompts: Prompts, encoder: Model) -> Coder:
    """Texts with their features, on the CPU, where those of images are."""
    from fastclip.coder import Coder

    rows = [
        encoder.encode_text(texts, progress=True).cpu()
        for texts in (prompts.texts, prompts.pair_texts)
    ]
    return Coder(prompts, *rows)


def source_of(images: str) -> ImageSource | Features:
    from fastclip.data import find_images
    from fastclip.data.image_sources import holds_images

    # By what it is, not by what fails: the error of one reader would hide that of the other.
    return find_images(images) if holds_images(images) else load(images).normalized()


def features_of(
    source: ImageSource | Features,
    encoder: Model,
    model: str,
    pretrained: str | None,
    folder: Path,
) -> tuple[Features, Sequence[int]]:
    """Features as they are; those of images, computed into ``folder`` if they are not there.

    And the place of each row in ``source``, which unreadable images have, too.
    """
    from fastclip.data import Features

    if isinstance(source, Features):
        return source, range(len(source))
    features, summary = image_features(source, encoder, folder, model, pretrained)
    unreadable = {image.index for image in summary.unreadable}
    return features, [place for place in range(len(source)) if place not in unreadable]


def read_labels(path: Path, known: ClassTexts) -> torch.Tensor:
    import torch

    from fastclip.data import read_texts

    row = {name: i for i, name in enumerate(known.names)}
    names = read_texts(path)
    for line, name in enumerate(names, 1):
        if name not in row:
            raise ValueError(f"{path}: line {line}: {name!r} is no class of the texts")
    return torch.tensor([row[name] for name in names])


def check_count(path: Path, labels: torch.Tensor, source: ImageSource | Features) -> None:
    """Raise before the work where labels cannot be of these images, some perhaps unreadable."""
    from fastclip.data import Features

    if len(labels) > len(source) or (len(labels) < len(source) and isinstance(source, Features)):
        raise ValueError(f"{path}: {len(labels)} lines, allowed: one for each of {len(source)}")


def labels_of_rows(
    path: Path, labels: torch.Tensor, source: ImageSource | Features, places: Sequence[int]
) -> torch.Tensor:
    """Labels of the images that can be read; the file has a line for each of these, or of all."""
    if len(labels) == len(source):
        return labels[list(places)]
    if len(labels) != len(places):
        raise ValueError(
            f"{path}: {len(labels)} lines, allowed: one for each of {len(source)} images"
            + (f", or of the {len(places)} that can be read" if len(places) < len(source) else "")
        )
    return labels
