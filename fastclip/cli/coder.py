"""``fastclip coder``: texts about classes, and classification by them."""

from __future__ import annotations

import json
import os
import warnings
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from fastclip.cli._common import load, progress, writable, writable_folder
from fastclip.cli._model import Device, ModelName, Pretrained, image_features, load_model

if TYPE_CHECKING:
    import torch

    from fastclip.coder import ClassTexts, CurvePoint, EndpointSource, Source
    from fastclip.data import Features
    from fastclip.models import Model

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

_KEY = "FASTCLIP_ENDPOINT_KEY"


class Kind(str, Enum):
    """What the texts of a file are."""

    attributes = "attributes"
    sentences = "sentences"


class Pairs(str, Enum):
    """For which pairs of classes one-to-one texts are made."""

    all = "all"
    none = "none"


class Protocol(str, Enum):
    honest = "honest"
    authors = "authors"


_Images = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="Features, as in 'fastclip topk', or images, as in 'fastclip embed-images'.",
        show_default=False,
    ),
]
_Texts = Annotated[
    Path,
    typer.Argument(metavar="TEXTS", help="What 'coder texts' wrote.", show_default=False),
]
_Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Where the results go.")
]
_Templates = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="default, birds, pets, food, flowers, aircraft, satellite, textures, places, "
        "actions, or a .json file.",
    ),
]


@app.callback()
def coder() -> None:
    """Classify images by texts near them: what is known of classes, two stages, few shots."""


@app.command()
def texts(
    names: Annotated[
        str, typer.Argument(metavar="NAMES", help="Class names: a .txt with a name a line.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .json to read and edit.")
    ],
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="wordnet|FILE|URL",
            help="Published descriptions, or an OpenAI-compatible endpoint that ends in /v1; given "
            "several times, their texts are merged. Default: wordnet.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[Kind, typer.Option(help="What the texts of files are.")] = Kind.attributes,
    dataset: Annotated[
        str | None, typer.Option(help="Of files with several data sets.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Rejects analogous classes and picks meanings, such as tiny.",
            show_default=False,
        ),
    ] = None,
    pretrained: Pretrained = None,
    pairs: Annotated[Pairs, typer.Option(help="One-to-one texts of which pairs.")] = Pairs.all,
    chat_model: Annotated[
        str | None, typer.Option(help="The endpoint's name of its model.", show_default=False)
    ] = None,
    requests_per_minute: Annotated[float, typer.Option(min=0.1)] = 60,
    workers: Annotated[
        int, typer.Option(min=1, help="Requests that are open at the same time.")
    ] = 4,
    yes: Annotated[bool, typer.Option("--yes", help="Send requests without asking.")] = False,
) -> None:
    """Write attributes, analogous classes, synonyms and one-to-one texts of classes.

    The endpoint's key is read from FASTCLIP_ENDPOINT_KEY. Its answers are kept beside the output,
    in FILE.answers.jsonl: after a kill, the same command asks for the others alone.
    """
    target = writable(output)
    from fastclip.coder import EndpointSource, generate_texts
    from fastclip.coder.generate import lacking
    from fastclip.data import read_texts

    class_names = read_texts(names)
    encoder = None if model is None else load_model(model, pretrained, "cpu")
    sources: list[Source] = [
        _endpoint(one, chat_model, target, requests_per_minute, workers)
        if one.startswith(("http://", "https://"))
        else _source(one, kind.value, dataset, encoder)
        for one in source or ["wordnet"]
    ]
    wanted: list[tuple[str, str]] | None = [] if pairs is Pairs.none else None
    asked = sum(isinstance(one, EndpointSource) for one in sources)
    if asked:
        count = 0 if wanted is not None else len(class_names) * (len(class_names) - 1)
        need = EndpointSource.requests(class_names, count)
        typer.echo(
            f"{asked * need.number:,} requests, about {asked * need.characters // 4:,} tokens sent "
            f"and at most {asked * need.most_answer_tokens:,} received, less what is kept",
            err=True,
        )
        if not yes and not typer.confirm("Send them?", err=True):
            raise typer.Exit(1)
    with progress("asking", "requests") as report, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # printed below, with all kinds of texts
        found = generate_texts(class_names, sources, model=encoder, pairs=wanted, progress=report)
    found.save(target)
    for line in lacking(found):
        typer.echo(line, err=True)
    for one in sources:
        for text, _ in getattr(one, "malformed", ()):
            typer.echo(f"no usable answer: {' '.join(text.split())}", err=True)
    typer.echo(f"{output}: {len(found.prompts().texts):,} texts of {len(class_names):,} classes")


@app.command()
def classify(
    images: _Images,
    texts: _Texts,
    model: ModelName = "tiny",
    pretrained: Pretrained = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The class of each image, a name a line: to measure."),
    ] = None,
    output: _Output = Path("coder"),
    templates: _Templates = "default",
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Gap of probabilities below which to rerank.")
    ] = 0.1,
    candidates: Annotated[int, typer.Option(min=2, help="Classes that reranking compares.")] = 5,
    protocol: Annotated[
        Protocol, typer.Option(help="authors: as the public scripts, for study; needs labels.")
    ] = Protocol.honest,
    device: Device = "cpu",
) -> None:
    """Classify images without examples, in two stages, and say why.

    Writes report.html, results.json and decisions.csv into DIR.
    """
    target = writable_folder(output)
    target.mkdir(exist_ok=True)
    from fastclip.coder import ClassTexts, Coder, CoderClassifier
    from fastclip.report import measure_coder, write_coder

    if protocol is Protocol.authors and labels is None:
        raise typer.BadParameter("needs --labels", param_hint="'--protocol authors'")
    known = ClassTexts.load(texts)
    truth = None if labels is None else _labels(labels, known)
    encoder = load_model(model, pretrained, device)
    features = _features(images, encoder, model, pretrained, target)
    _check_count(labels, truth, features)
    prompts = known.prompts(templates, protocol=protocol.value)
    coder = Coder(prompts, encoder, progress=True)
    classifier = CoderClassifier(
        threshold=threshold, candidates=candidates, protocol=protocol.value
    ).fit(coder)
    names = features.names or tuple(f"image {i}" for i in range(len(features)))
    found = measure_coder(coder, classifier, features.features, names, truth)
    write_coder(target, found, title=images)
    for step, accuracy in found.accuracy.items():
        typer.echo(f"{accuracy:.4f}  {step}")
    typer.echo(
        f"{output / 'report.html'}: {int(found.decisions.reranked.sum()):,} of {len(names):,} "
        "images reranked"
    )


@app.command("few-shot")
def few_shot(
    images: _Images,
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="The class of each image, a name a line.")
    ],
    texts: _Texts,
    model: ModelName = "tiny",
    pretrained: Pretrained = None,
    shots: Annotated[str, typer.Option(help="Support images of each class.")] = "1,2,4,8,16",
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of them.")] = 5,
    output: _Output = Path("coder"),
    templates: _Templates = "default",
    device: Device = "cpu",
) -> None:
    """Compare CODER-Adapter and Tip-Adapter by the number of labelled images.

    Support, validation (four of a class at most) and test images are drawn from IMAGES; alpha and
    beta are chosen on the validation images, and the test images are asked once. Writes
    few-shot.json and few-shot.png into DIR.
    """
    target = writable_folder(output)
    target.mkdir(exist_ok=True)
    from fastclip.coder import ClassTexts, Coder, few_shot_curve
    from fastclip.data.files import replacing

    numbers = _shots(shots)
    known = ClassTexts.load(texts)
    truth = _labels(labels, known)
    encoder = load_model(model, pretrained, device)
    features = _features(images, encoder, model, pretrained, target)
    _check_count(labels, truth, features)
    coder = Coder(known.prompts(templates), encoder, progress=True)
    with progress("fitting", "fits") as report:
        points = few_shot_curve(
            coder,
            features.features,
            truth,
            shots=numbers,
            seeds=range(seeds),
            progress=report,
        )
    with replacing(target / "few-shot.json") as part:
        content = [point._asdict() for point in points]
        part.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    from fastclip.report.coder_figures import few_shot_curves
    from fastclip.report.openness_figures import write_png

    with replacing(target / "few-shot.png") as part:
        write_png(part, few_shot_curves(points))
    _print_curve(points, numbers)


def _endpoint(
    url: str, chat_model: str | None, output: Path, requests_per_minute: float, workers: int
) -> EndpointSource:
    if chat_model is None:
        raise typer.BadParameter("is needed for an endpoint", param_hint="'--chat-model'")
    from fastclip.coder import EndpointSource
    from fastclip.generation import ChatEndpoint

    chat = ChatEndpoint(
        url,
        chat_model,
        output.with_name(output.name + ".answers.jsonl"),
        key=os.environ.get(_KEY),
        requests_per_minute=requests_per_minute,
    )
    return EndpointSource(chat, chat_model, workers=workers)


def _source(source: str, kind: str, dataset: str | None, model: Model | None) -> Source:
    from fastclip.coder import FileSource, WordNetSource

    if source == "wordnet":
        return WordNetSource(model)
    return FileSource(source, cast(Literal["attributes", "sentences"], kind), dataset=dataset)


def _features(
    images: str, encoder: Model, model: str, pretrained: str | None, target: Path
) -> Features:
    """Features as they are; those of images, computed into ``target`` if they are not there."""
    from fastclip.data import find_images

    try:
        found = find_images(images)
    except (ValueError, FileNotFoundError):
        return load(images).normalized()
    return image_features(found, encoder, target / "images", model, pretrained)[0]


def _labels(path: Path, known: ClassTexts) -> torch.Tensor:
    import torch

    from fastclip.data import read_texts

    row = {name: i for i, name in enumerate(known.names)}
    names = read_texts(path)
    for line, name in enumerate(names, 1):
        if name not in row:
            raise ValueError(f"{path}: line {line}: {name!r} is no class of the texts")
    return torch.tensor([row[name] for name in names])


def _check_count(path: Path | None, labels: torch.Tensor | None, features: Features) -> None:
    if labels is not None and len(labels) != len(features):
        raise ValueError(f"{path}: {len(labels)} lines, allowed: one for each of {len(features)}")


def _shots(shots: str) -> list[int]:
    numbers = shots.split(",")
    if not all(number.isdecimal() and int(number) > 0 for number in numbers):
        raise typer.BadParameter(
            f"numbers from 1 with commas are needed, got {shots!r}", param_hint="'--shots'"
        )
    return [int(number) for number in numbers]


def _print_curve(points: list[CurvePoint], shots: list[int]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="accuracy, mean and half of the range over seeds")
    table.add_column("method")
    for number in shots:
        table.add_column(str(number), justify="right")
    for method in dict.fromkeys(point.method for point in points):
        row: list[Any] = []
        for number in shots:
            found = [p.accuracy for p in points if (p.method, p.shots) == (method, number)]
            spread = (max(found) - min(found)) / 2
            row.append(f"{sum(found) / len(found):.3f} ±{spread:.3f}")
        table.add_row(method, *row)
    Console().print(table)
