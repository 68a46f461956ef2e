"""``fastclip coder few-shot``: CODER-Adapter beside Tip-Adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastclip.cli._common import progress, table, warnings_as_lines, writable_folder
from fastclip.cli._model import Device, ModelName, Pretrained, load_model
from fastclip.cli.coder._common import (
    Images,
    Output,
    Templates,
    Texts,
    check_count,
    embed_prompts,
    features_of,
    labels_of_rows,
    read_labels,
    source_of,
)

if TYPE_CHECKING:
    import torch

    from fastclip.coder import ClassTexts, CurvePoint
    from fastclip.data import ImageSource
    from fastclip.models import Model

_USUAL = (1, 2, 4, 8, 16)


def command(
    images: Images,
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="The class of each image, one name per line.")
    ],
    texts: Texts,
    model: ModelName = "tiny",
    pretrained: Pretrained = None,
    shots: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="Numbers of support images per class. Default: those of 1,2,4,8,16 for which the "
            "smallest class has enough images.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many times to draw them.")] = 5,
    augmentations: Annotated[
        int,
        typer.Option(
            min=0,
            help="Randomly cropped and mirrored copies over which to average the features of a "
            "support image; needs images. 0: the image as it is. The authors use 20, but 10 for "
            "pets and 1 for ImageNet.",
        ),
    ] = 0,
    output: Output = Path("coder"),
    templates: Templates = "default",
    device: Device = "cpu",
) -> None:
    """Compare CODER-Adapter and Tip-Adapter by the number of labelled images.

    Support, validation (four of a class at most) and test images are drawn from IMAGES; alpha and
    beta are chosen on the validation images, and the test images are asked once. Writes
    few-shot.json and few-shot.png into DIR.
    """
    target = writable_folder(output)
    target.mkdir(exist_ok=True)
    from fastclip.coder import ClassTexts, few_shot_curve
    from fastclip.coder.curve import first_of_equal, shortage
    from fastclip.data import Features
    from fastclip.data.files import dump_json, replacing

    numbers = None if shots is None else _shots(shots)
    source = source_of(images)
    if augmentations and isinstance(source, Features):
        raise typer.BadParameter("needs images, got features", param_hint="'--augmentations'")
    known = ClassTexts.load(texts)
    truth = read_labels(labels, known)
    check_count(labels, truth, source)
    if missing := shortage(max(numbers or _USUAL[:1]), truth, known.names):
        raise ValueError(missing)
    encoder = load_model(model, pretrained, device)
    features, places = features_of(source, encoder, model, pretrained, target / "images")
    truth = labels_of_rows(labels, truth, source, places)
    if numbers is None:
        numbers = _possible(truth[first_of_equal(features.features)], known)
    coder = embed_prompts(known.prompts(templates), encoder)

    def augmented(rows: torch.Tensor) -> torch.Tensor:
        assert not isinstance(source, Features)
        chosen = [places[row] for row in rows.tolist()]
        return _augmented(source, chosen, encoder, augmentations)

    with warnings_as_lines(), progress("fitting", "fits") as report:
        points = few_shot_curve(
            coder,
            features.features,
            truth,
            shots=numbers,
            seeds=range(seeds),
            embed_support=augmented if augmentations else None,
            progress=report,
        )
    content = [{**point._asdict(), "augmentations": augmentations} for point in points]
    dump_json(target / "few-shot.json", content, indent=1)
    from fastclip.report.coder_figures import few_shot_curves
    from fastclip.report.openness_figures import write_png

    with replacing(target / "few-shot.png") as part:
        write_png(part, few_shot_curves(points))
    _print_curve(points, numbers)


def _augmented(
    source: ImageSource, places: Sequence[int], encoder: Model, augmentations: int
) -> torch.Tensor:
    """Support features, image by image: one picture is in memory, and its crops are its own."""
    import torch

    from fastclip.coder import support_features
    from fastclip.data.image_decoding import decode_image

    rows = []
    with progress("augmenting", "images") as report:
        for place in places:
            picture = decode_image(source.read(place))
            rows.append(
                support_features(encoder, [picture], augmentations=augmentations, seed=place)
            )
            report(len(rows), len(places))
    return torch.cat(rows)


def _shots(shots: str) -> list[int]:
    numbers = shots.split(",")
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise typer.BadParameter(
            f"numbers from 1 with commas are needed, got {shots!r}", param_hint="'--shots'"
        )
    return [int(number) for number in numbers]


def _possible(labels: torch.Tensor, known: ClassTexts) -> list[int]:
    """The usual numbers of shots that the labels allow; says which they do not allow."""
    from fastclip.coder.curve import shortage

    missing = {number: shortage(number, labels, known.names) for number in _USUAL}
    possible = [number for number in _USUAL if not missing[number]]
    if not possible:
        raise ValueError(missing[_USUAL[0]])
    if left_out := [number for number in _USUAL if missing[number]]:
        listed = ", ".join(map(str, left_out))
        typer.echo(f"left out: {listed} shots; {missing[left_out[0]]}", err=True)
    return possible


def _print_curve(points: list[CurvePoint], shots: list[int]) -> None:
    from rich.console import Console

    shown = table("method", *map(str, shots))
    shown.title = "accuracy, mean and half of the range over seeds"
    for method in dict.fromkeys(point.method for point in points):
        row: list[Any] = []
        for number in shots:
            found = [p.accuracy for p in points if (p.method, p.shots) == (method, number)]
            spread = (max(found) - min(found)) / 2
            row.append(f"{sum(found) / len(found):.3f} ±{spread:.3f}")
        shown.add_row(method, *row)
    Console().print(shown)
