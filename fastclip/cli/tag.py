"""``fastclip tag``: what of a caption, or of a vocabulary, does an image show?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fastclip.cli import _masks
from fastclip.cli._common import printable, writable_folder
from fastclip.cli._model import Device, ModelName, ModelPrecision, Pretrained, load_model
from fastclip.cli._vocabulary import Templates, Vocabulary

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_PANELS = 23  # and the picture itself


Words = Literal["nouns", "phrases", "content-words", "words"]
Tagger = Literal["wordnet", "hanta"]


@dataclass(frozen=True)
class _Found:
    """Tags, the best first."""

    tags: list[str]
    features: torch.Tensor
    scores: list[float]
    normalized: list[float]
    selected: torch.Tensor
    nearest: list[tuple[int, int]]  # (x, y) in the picture


def command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A file.")],
    model: ModelName,
    pretrained: Pretrained = None,
    text: Annotated[str | None, typer.Option(help="A caption whose words are scored.")] = None,
    vocabulary: Vocabulary = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write overlays and masks."),
    ] = None,
    words: Annotated[Words, typer.Option(help="Which words of --text.")] = "nouns",
    tagger: Annotated[
        Tagger, typer.Option(help="Finds nouns; hanta needs the package HanTa.")
    ] = "wordnet",
    threshold: Annotated[
        float,
        typer.Option(
            help="Lowest score of a selected tag, from 0 (the caption's worst) to 1 (its best)."
        ),
    ] = 0.5,
    minimum: Annotated[float | None, typer.Option(help="Lowest cosine of a selected tag.")] = None,
    k: Annotated[
        int, typer.Option("-k", "--k", min=1, help="How many names of --vocabulary to show.")
    ] = 10,
    top: Annotated[int | None, typer.Option(min=1, hidden=True, help="As -k.")] = None,
    templates: Templates = "photo",
    size: _masks.Size = 448,
    scale: _masks.Scales = None,
    flip: _masks.Flip = False,
    window: _masks.Window = None,
    refine: _masks.Refine = False,
    method: _masks.Reading = "value",
    device: Device = "cpu",
    precision: ModelPrecision = "fp32",
) -> None:
    """Score tags by their nearest pixel (TTD), and draw where they are.

    DIR gets tags.png, a picture for each tag; overlay.png, the best of the selected tags at each
    pixel; a mask of each selected tag, and text.png, their union; and tags.json, scores with the
    masks above 0.5 as COCO's run lengths.
    """
    if (text is None) == (vocabulary is None):
        raise typer.BadParameter("one of the two is needed", param_hint="'--text', '--vocabulary'")
    folder = None if output is None else writable_folder(output)
    if not image.is_file():
        raise FileNotFoundError(f"{image}: no such file")
    from fastclip.data.vocabularies import vocabulary as read_vocabulary

    names = _tags(text, words, tagger) if text is not None else read_vocabulary(str(vocabulary))

    from fastclip.ttd import dense_features

    picture = _masks.read_picture(image)
    encoder = load_model(model, pretrained, device, precision)
    pixels = dense_features(
        encoder,
        picture,
        size=size,
        scales=scale or (1.0,),
        flip=flip,
        window=window,
        method=method,
    )
    result = _scored(
        pixels, names, _masks.encode(encoder, names, templates), picture, threshold, minimum,
        None if text is not None else top or k,
    )  # fmt: skip
    _print(result)
    if folder is not None:
        folder.mkdir(exist_ok=True)
        shape = (picture.height, picture.width)
        guide = encoder.prepare([picture], size=shape).float() if refine else None
        _write(folder, picture, pixels, result, guide)


def _tags(text: str, words: Words, tagger: Tagger) -> tuple[str, ...]:
    from fastclip.ttd import extract_tags

    try:
        found = extract_tags([text], kind=words, tagger=tagger)[0]
    except ImportError as error:
        raise ValueError(f"--{error}") from error
    if not found:
        raise ValueError(f"--text: {words} are needed, there are none in {text!r}")
    return tuple(tag.text for tag in found)


def _scored(
    pixels: torch.Tensor,
    names: tuple[str, ...],
    features: torch.Tensor,
    picture: Image,
    threshold: float,
    minimum: float | None,
    top: int | None,
) -> _Found:
    """All tags of a caption, or the ``top`` ones of a vocabulary, of which the minimum selects."""
    from fastclip.ttd import select_tags

    selection = select_tags(
        pixels, features, threshold=threshold if top is None else 0.0, minimum=minimum
    )
    order = selection.scores.argsort(descending=True, stable=True)[:top]
    h, w = pixels.shape[2:]
    return _Found(
        [names[i] for i in order.tolist()],
        features[order],
        selection.scores[order].tolist(),
        selection.normalized[order].tolist(),
        selection.selected[order],
        [
            (int((at % w + 0.5) * picture.width / w), int((at // w + 0.5) * picture.height / h))
            for at in selection.locations[order].tolist()
        ],
    )


def _print(found: _Found) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("tag", "cosine", "score", "x, y", ""):
        table.add_column(column, justify="left" if column in ("tag", "") else "right")
    for i, tag in enumerate(found.tags):
        table.add_row(
            Text(printable(tag)),
            f"{found.scores[i]:.4f}",
            f"{found.normalized[i]:.2f}",
            "{}, {}".format(*found.nearest[i]),
            "selected" if found.selected[i] else "",
        )
    Console().print(table)


def _write(
    folder: Path,
    picture: Image,
    pixels: torch.Tensor,
    found: _Found,
    guide: torch.Tensor | None,
) -> None:
    from fastclip.data import encode_rle
    from fastclip.report import Panel, draw_labels, draw_panels
    from fastclip.ttd import image_maps, tag_masks, text_mask

    maps = image_maps(pixels, found.features, (picture.height, picture.width), refine_by=guide)
    masks = tag_masks(maps, found.selected)
    union = text_mask(masks)[0]
    shown = tag_masks(maps)
    panels = [Panel("all selected tags", union)] + [
        Panel(f"{tag}  {found.scores[i]:.3f}", shown[i], muted=not found.selected[i])
        for i, tag in enumerate(found.tags)
    ]
    _masks.save_picture(folder / "tags.png", draw_panels(picture, panels[:_PANELS]))
    chosen = [i for i, selected in enumerate(found.selected.tolist()) if selected]
    if chosen:
        labels = maps[chosen].argmax(0).masked_fill(union < 0.5, -1)
        names = [found.tags[i] for i in chosen]
        _masks.save_picture(folder / "overlay.png", draw_labels(picture, labels, names))
    _masks.save_mask(folder / "text.png", union)
    entries: list[dict[str, Any]] = []
    for i, tag in enumerate(found.tags):
        entry: dict[str, Any] = {
            "tag": tag,
            "score": found.scores[i],
            "normalized": found.normalized[i],
            "selected": i in chosen,
            "nearest_pixel": found.nearest[i],
        }
        if i in chosen:
            entry["mask"] = f"mask-{i + 1:02d}-{_masks.file_name(tag)}.png"
            entry["segmentation"] = encode_rle(masks[i] > 0.5)
            _masks.save_mask(folder / entry["mask"], masks[i])
        entries.append(entry)
    _masks.save_json(folder / "tags.json", {"tags": entries, "text": encode_rle(union > 0.5)})
