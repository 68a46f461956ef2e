"""``fastclip coder``: texts about classes, and classification by them."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from fastclip.cli._common import load, progress, writable, writable_folder
from fastclip.cli._model import Device, ModelName, Pretrained, image_features, load_model

if TYPE_CHECKING:
    import torch

    from fastclip.coder import ClassTexts, Coder, CurvePoint, EndpointSource, Prompts, Source
    from fastclip.data import Features, ImageSource
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
    confusable = "confusable"
    none = "none"


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
        help="How texts are worded: default, birds, pets, food, flowers, aircraft, satellite, "
        "textures, places, actions, or a .json file.",
    ),
]
_RERANKING = "Reranking"
_Threshold = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Gap of the two largest probabilities below which to rerank.",
        rich_help_panel=_RERANKING,
    ),
]
_Candidates = Annotated[
    int,
    typer.Option(min=2, help="Classes that reranking compares.", rich_help_panel=_RERANKING),
]
_PROTOCOL = (
    "honest; authors: as the public scripts, for study; or what they do by name, with commas: "
    "none-synonyms, labels-choose, glued-frames, raw-names, six-requests, silent-rerank."
)
_ENDPOINT = "Endpoint"


@app.callback()
def coder() -> None:
    """Classify images by their nearness to texts about classes.

    First 'texts'; then 'classify' without labelled images, or 'few-shot' with a few of each class.
    """


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
    kind: Annotated[
        Kind,
        typer.Option(help="What the texts of a file are: ends of 'which has ...', or whole texts."),
    ] = Kind.attributes,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which one, of a file with several.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Picks meanings in WordNet, rejects analogous classes that are another class, and "
            "finds confusable pairs; named as in 'coder classify'.",
            show_default=False,
        ),
    ] = None,
    pretrained: Pretrained = None,
    device: Device = "cpu",
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help=f"{_PROTOCOL} Texts depend on six-requests.")
    ] = "honest",
    pairs: Annotated[
        Pairs,
        typer.Option(
            help="Pairs of classes with one-to-one texts. confusable: those that reranking "
            "--images would compare; needs --model.",
            rich_help_panel=_RERANKING,
        ),
    ] = Pairs.all,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGES",
            help="Images like those to classify, without labels, or their features: for "
            "confusable pairs.",
            show_default=False,
            rich_help_panel=_RERANKING,
        ),
    ] = None,
    templates: _Templates = "default",
    threshold: _Threshold = 0.1,
    candidates: _Candidates = 5,
    chat_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The endpoint's name of its model.",
            show_default=False,
            rich_help_panel=_ENDPOINT,
        ),
    ] = None,
    requests_per_minute: Annotated[
        float, typer.Option(min=0.1, help="Sent at most.", rich_help_panel=_ENDPOINT)
    ] = 60,
    workers: Annotated[
        int,
        typer.Option(
            min=1, help="Requests that are open at the same time.", rich_help_panel=_ENDPOINT
        ),
    ] = 4,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Send requests without asking.", rich_help_panel=_ENDPOINT),
    ] = False,
) -> None:
    """Write attributes, analogous classes, synonyms and one-to-one texts of classes.

    The endpoint's key is read from FASTCLIP_ENDPOINT_KEY. Its answers are kept beside the output,
    in FILE.answers.jsonl: after a kill, the same command asks for the others alone.

    To find confusable pairs, give --templates, --threshold and --candidates as later to 'coder
    classify'. Features of --images are kept in FILE.images.
    """
    target = writable(output)
    from fastclip.coder import (
        CoderClassifier,
        confusable_pairs,
        generate_texts,
        text_templates,
    )
    from fastclip.coder.generate import lacking
    from fastclip.data import read_texts

    if pairs is Pairs.confusable and (model is None or images is None):
        raise typer.BadParameter("needs --model and --images", param_hint="'--pairs confusable'")
    if pairs is not Pairs.confusable and images is not None:
        raise typer.BadParameter("needs --pairs confusable", param_hint="'--images'")
    chosen, wording = _protocol(protocol), text_templates(templates)
    class_names = read_texts(names)
    encoder = None if model is None else load_model(model, pretrained, device)
    sources: list[Source] = [
        _endpoint(one, chat_model, target, requests_per_minute, workers)
        if one.startswith(("http://", "https://"))
        else _source(one, kind.value, dataset, encoder)
        for one in source or ["wordnet"]
    ]

    def generate(wanted: list[tuple[str, str]] | None) -> ClassTexts:
        count = len(class_names) * (len(class_names) - 1) if wanted is None else len(wanted)
        _confirm(sources, class_names, count, yes)
        with progress("asking", "requests") as report, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # printed below, with all kinds of texts
            return generate_texts(
                class_names,
                sources,
                model=encoder,
                pairs=wanted,
                protocol=chosen,
                progress=report,
            )

    if images is None or model is None or encoder is None:
        found = generate([] if pairs is Pairs.none else None)
    else:
        classifier = CoderClassifier(threshold=threshold, candidates=candidates)
        folder = target.with_name(target.name + ".images")
        features, _ = _features(_source_of(images), encoder, model, pretrained, folder)
        prompts = generate([]).prompts(wording, protocol=chosen)
        classifier.fit(_coder(prompts, encoder))
        found = generate(confusable_pairs(classifier, features.features))
    found.save(target)
    for line in lacking(found):
        typer.echo(line, err=True)
    for one in sources:
        for text, _ in dict.fromkeys(getattr(one, "malformed", ())):  # pairs take a second pass
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
    threshold: _Threshold = 0.1,
    candidates: _Candidates = 5,
    protocol: Annotated[
        str,
        typer.Option(metavar="NAME", help=f"{_PROTOCOL} authors and labels-choose need labels."),
    ] = "honest",
    device: Device = "cpu",
) -> None:
    """Classify images without examples, in two stages, and say why.

    Writes report.html, results.json and decisions.csv into DIR.
    """
    target = writable_folder(output)
    target.mkdir(exist_ok=True)
    from fastclip.coder import ClassTexts, CoderClassifier
    from fastclip.coder.protocol import deviations
    from fastclip.report import measure_coder, write_coder

    chosen = _protocol(protocol)
    if "labels-choose" in deviations(chosen) and labels is None:
        raise typer.BadParameter("needs --labels", param_hint=f"'--protocol {protocol}'")
    known = ClassTexts.load(texts)
    truth = None if labels is None else _labels(labels, known)
    encoder = load_model(model, pretrained, device)
    features, _ = _features(_source_of(images), encoder, model, pretrained, target / "images")
    _check_count(labels, truth, features)
    prompts = known.prompts(templates, protocol=chosen)
    coder = _coder(prompts, encoder)
    classifier = CoderClassifier(threshold=threshold, candidates=candidates, protocol=chosen).fit(
        coder
    )
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
    shots: Annotated[
        str, typer.Option(metavar="N,...", help="Numbers of support images of each class.")
    ] = "1,2,4,8,16",
    seeds: Annotated[int, typer.Option(min=1, help="How many draws of them.")] = 5,
    augmentations: Annotated[
        int,
        typer.Option(
            min=0,
            help="Randomly cropped and mirrored copies over which to average the features of a "
            "support image; needs images. 0: the image as it is. The authors use 20, but 10 for "
            "pets and 1 for ImageNet.",
        ),
    ] = 0,
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
    from fastclip.coder import ClassTexts, few_shot_curve
    from fastclip.data import Features
    from fastclip.data.files import replacing

    numbers = _shots(shots)
    source = _source_of(images)
    if augmentations and isinstance(source, Features):
        raise typer.BadParameter("needs images, got features", param_hint="'--augmentations'")
    known = ClassTexts.load(texts)
    truth = _labels(labels, known)
    encoder = load_model(model, pretrained, device)
    features, places = _features(source, encoder, model, pretrained, target / "images")
    _check_count(labels, truth, features)
    coder = _coder(known.prompts(templates), encoder)

    def augmented(rows: torch.Tensor) -> torch.Tensor:
        assert not isinstance(source, Features)
        chosen = [places[row] for row in rows.tolist()]
        return _augmented(source, chosen, encoder, augmentations)

    with progress("fitting", "fits") as report:
        points = few_shot_curve(
            coder,
            features.features,
            truth,
            shots=numbers,
            seeds=range(seeds),
            embed_support=augmented if augmentations else None,
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


def _confirm(sources: Sequence[Source], class_names: Sequence[str], pairs: int, yes: bool) -> None:
    """Say what endpoints will be asked, and end the command where that is not wanted."""
    from fastclip.coder import EndpointSource

    asked = sum(isinstance(one, EndpointSource) for one in sources)
    if not asked:
        return
    need = EndpointSource.requests(class_names, pairs)
    typer.echo(
        f"{asked * need.number:,} requests, about {asked * need.characters // 4:,} tokens sent "
        f"and at most {asked * need.most_answer_tokens:,} received, less what is kept",
        err=True,
    )
    if not yes and not typer.confirm("Send them?", err=True):
        raise typer.Exit(1)


def _protocol(text: str) -> str | list[str]:
    from fastclip.coder.protocol import DEVIATIONS, deviations

    chosen = text.split(",") if "," in text or text in DEVIATIONS else text
    deviations(chosen)
    return chosen


def _coder(prompts: Prompts, encoder: Model) -> Coder:
    """Texts with their features, on the CPU, where those of images are."""
    from fastclip.coder import Coder

    rows = [
        encoder.encode_text(texts, progress=True).cpu()
        for texts in (prompts.texts, prompts.pair_texts)
    ]
    return Coder(prompts, *rows)


def _source_of(images: str) -> ImageSource | Features:
    from fastclip.data import find_images

    try:
        return find_images(images)
    except (ValueError, FileNotFoundError):
        return load(images).normalized()


def _features(
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
