"""``fastclip openness``: from images and grouped classes to a report."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from fastclip.cli._common import load, printable, progress, table, writable_folder
from fastclip.cli._model import (
    Device,
    ModelPrecision,
    OptionalModelName,
    Precision,
    Pretrained,
    image_features,
    load_model,
)
from fastclip.cli._vocabulary import LISTS, NAMES

if TYPE_CHECKING:
    import torch

    from fastclip.data import Features, ImageSource
    from fastclip.data.vocabularies import ClassList
    from fastclip.metrics.openness import Openness
    from fastclip.models import Model

_SCENES = "scenes"


class _Input(NamedTuple):
    """What is asked: images to embed or their features, classes, and words or a word for them."""

    title: str
    images: ImageSource | Features
    label: Callable[[str], int]
    classes: ClassList
    words: tuple[str, ...] | None


def command(
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="A folder with a folder of images for each class; a file or folder of features "
            "whose names are such paths; the root of the data sets of a protocol; or 'scenes': "
            "drawings that come with fastclip, for the model tiny unless another is named.",
        ),
    ],
    classes: Annotated[
        str | None,
        typer.Argument(
            metavar="CLASSES",
            help="A .csv or .tsv with the columns name, group and, where they differ from the "
            "names, folder; or a protocol: cifar100, entity13, living17, flowers-pets-cars, "
            "cifar100-caltech101-sun397, cifar10-cifar100-imagenet. None for scenes.",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder of the report and the features."
        ),
    ] = Path("openness"),
    model: OptionalModelName = None,
    pretrained: Pretrained = None,
    class_features: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Features of the classes, one row each."),
    ] = None,
    vocabulary: Annotated[
        str | None,
        typer.Option(
            metavar=f"{NAMES}|N",
            help="Words that join the classes, to find those that do the most harm: "
            f"{LISTS}; or named features. For scenes the number of composed captions, 100,000.",
        ),
    ] = None,
    words: Annotated[str | None, typer.Option(hidden=True, help="As --vocabulary.")] = None,
    keep_related: Annotated[
        bool,
        typer.Option(
            "--keep-related",
            help="Keep candidates that WordNet has as synonyms, hypernyms or hyponyms of a class.",
        ),
    ] = False,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Prompt with {} for the name; repeat it to average several. Default: that of "
            "the protocol, or 'a photo of a {}.'.",
        ),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Use all prompts of a protocol instead of one.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Let torchvision download a protocol's data sets.")
    ] = False,
    permutations: Annotated[
        str, typer.Option(metavar="N|all", help="Orders of the groups: all, or N random ones.")
    ] = "all",
    protocol: Annotated[
        Literal["exact", "authors"],
        typer.Option(help="authors: as the script of the paper, with a number of orders."),
    ] = "exact",
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of random orders; the paper's script uses 42.")
    ] = 0,
    top: Annotated[int, typer.Option(min=1, help="How many harmful words to list.")] = 100,
    combine: Annotated[int, typer.Option(min=1, help="How many words to choose together.")] = 3,
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 2000,
    device: Device = "cpu",
    precision: ModelPrecision = "fp32",
) -> None:
    """Measure how accuracy falls as the vocabulary grows, and which words do the most harm.

    Writes report.html, results.json and figures into DIR, together with the features that the
    model computed. If interrupted, rerun the same command to resume. Without a model, images,
    classes and words are read as features.
    """
    if words is not None and vocabulary is not None:
        raise typer.BadParameter("not together with --words", param_hint="'--vocabulary'")
    vocabulary = vocabulary or words
    orders = _orders(permutations)
    target = writable_folder(output)
    target.mkdir(exist_ok=True)
    is_scenes = images == _SCENES and not Path(images).exists()
    if is_scenes:
        if ensemble:
            raise typer.BadParameter("is not known for scenes", param_hint="'--ensemble'")
        asked = _scenes(target, scenes, _captions(vocabulary))
        model = model or "tiny"
    else:
        asked = _asked(images, classes, vocabulary, tuple(template or ()), ensemble, download)
    _check_groups(asked, orders)
    models = _Models(model, pretrained, device, precision)

    image_rows = _images(asked, models, target)
    assert image_rows.names is not None
    labels = [asked.label(name) for name in image_rows.names]
    class_rows = _classes(asked.classes, class_features, models)
    word_rows = _words(asked, vocabulary, models, target)

    from fastclip.data.vocabularies import related
    from fastclip.metrics.openness import measure_openness
    from fastclip.report import write_openness

    keep = keep_related or is_scenes  # whose words are chosen so that none is true of a scene
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        found = measure_openness(
            image_rows,
            labels,
            asked.classes,
            class_rows,
            word_rows,
            permutations=orders,
            seed=seed,
            protocol=protocol,
            exclude=() if keep or word_rows is None else related(asked.classes.names),
            top=top,
            combine=combine,
        )
    for warning in said:
        typer.echo(f"warning: {printable(str(warning.message))}", err=True)
    write_openness(target, found, title=asked.title, picture=_picture(asked.images))
    _print(found, output)


def _orders(permutations: str) -> Literal["all"] | int:
    if permutations == "all":
        return "all"
    if not permutations.isdecimal() or int(permutations) < 1:
        raise typer.BadParameter(
            f"must be 'all' or a number from 1, got {permutations!r}", param_hint="'--permutations'"
        )
    return int(permutations)


def _captions(vocabulary: str | None) -> int:
    """How many are composed for scenes."""
    if vocabulary is None:
        return 100_000
    if not vocabulary.isdecimal() or int(vocabulary) < 1:
        raise typer.BadParameter(
            f"must be a number from 1 for scenes, got {vocabulary!r}", param_hint="'--vocabulary'"
        )
    return int(vocabulary)


def _check_groups(asked: _Input, orders: Literal["all"] | int) -> None:
    """What the metric would say after the model has seen all images."""
    import numpy as np

    from fastclip.metrics.openness._exact import check_possible

    groups = [asked.classes.groups[asked.label(name)] for name in asked.images.names or ()]
    sizes = np.bincount(groups, minlength=len(asked.classes.group_names))
    if (sizes == 0).any():
        group = asked.classes.group_names[int(sizes.argmin())]
        raise ValueError(f"{asked.title}: no image is of the group {group!r}")
    if orders == "all":
        check_possible(sizes)


class _Models:
    """The model, loaded when it is first needed."""

    def __init__(
        self, name: str | None, pretrained: str | None, device: str, precision: Precision
    ) -> None:
        self.name, self.pretrained = name, pretrained
        self._options = device, precision

    @cached_property
    def model(self) -> Model:
        if self.name is None:
            raise typer.BadParameter("is needed to compute features", param_hint="'--model'")
        return load_model(self.name, self.pretrained, *self._options)


def _scenes(target: Path, count: int, words: int) -> _Input:
    from fastclip.data.scenes.openness import openness_scenes
    from fastclip.models.tiny import known_names

    with progress("composing", "scenes") as report:
        found = openness_scenes(
            target / "scenes", known_names(), count=count, words=words, progress=report
        )
    place = dict(zip(found.images.names, found.labels, strict=True))
    return _Input("Scenes of drawings", found.images, place.__getitem__, found.classes, found.words)


def _asked(
    images: str,
    classes: str | None,
    words: str | None,
    templates: tuple[str, ...],
    ensemble: bool,
    download: bool,
) -> _Input:
    if classes is None:
        raise typer.BadParameter("is needed", param_hint="'CLASSES'")
    from fastclip.data import find_images
    from fastclip.data.image_sources import holds_images
    from fastclip.data.openness_sets import NAMES, openness_set
    from fastclip.data.vocabularies import read_class_list, wordnet_nouns
    from fastclip.data.vocabularies.class_lists import PHOTO

    texts = wordnet_nouns() if words == "wordnet" and not Path(words).exists() else None
    if ensemble and templates:
        raise typer.BadParameter("cannot be used with --template", param_hint="'--ensemble'")
    if classes in NAMES and not Path(classes).exists():
        found = openness_set(classes, images, download=download, ensemble=ensemble)
        place = dict(zip(found.images.names, found.labels, strict=True))
        listed = found.classes
        if templates:
            listed = replace(listed, templates=(templates,) * len(listed.group_names))
        return _Input(classes, found.images, place.__getitem__, listed, texts)
    if ensemble:
        raise typer.BadParameter(
            f"is known for {', '.join(NAMES)} alone; for your own classes give each prompt as "
            "--template",
            param_hint="'--ensemble'",
        )
    listed = read_class_list(classes, templates=templates or PHOTO)
    return _Input(
        Path(images).name,
        find_images(images) if holds_images(images) else _named(images, load(images)),
        lambda name: listed.labels([name])[0],
        listed,
        texts,
    )


def _named(source: str, features: Features) -> Features:
    if features.names is None:
        raise ValueError(f"{source}: the rows have no names, allowed: paths CLASS/IMAGE")
    return features


def _images(asked: _Input, models: _Models, target: Path) -> Features:
    from fastclip.data import Features

    if isinstance(asked.images, Features):
        return asked.images.normalized()
    features, summary = image_features(
        asked.images, models.model, target / "images", models.name, models.pretrained
    )
    if summary.unreadable:
        typer.echo(
            f"{len(summary.unreadable)} images skipped, listed in "
            f"{target / 'images' / 'unreadable.jsonl'}",
            err=True,
        )
    return features


def _classes(listed: ClassList, features: str | None, models: _Models) -> torch.Tensor:
    """[C, d]; of the model, each class in the prompts of its group."""
    if features is not None:
        rows = load(features).normalized().features
        if len(rows) != len(listed):
            raise ValueError(f"{features}: {len(listed)} rows are needed, got {len(rows)}")
        return rows
    import torch

    rows = torch.empty(len(listed), models.model.dim)
    for templates in dict.fromkeys(listed.templates):
        own = [i for i, group in enumerate(listed.groups) if listed.templates[group] == templates]
        names = [listed.names[i] for i in own]
        rows[own] = models.model.encode_text(names, templates=templates, progress=True).cpu()
    return rows


def _words(asked: _Input, source: str | None, models: _Models, target: Path) -> Features | None:
    from fastclip.data import embed_texts, read_features
    from fastclip.data.vocabularies import vocabulary
    from fastclip.data.vocabularies.class_lists import PHOTO

    texts = asked.words
    if texts is None:
        if source is None:
            return None
        texts = None if _holds_features(source, models) else vocabulary(source)
        if texts is None:
            return _named(source, load(source)).normalized()
    templates = set(asked.classes.templates)
    with progress("embedding", "words") as report:
        embed_texts(
            texts,
            models.model,
            target / "words",
            model_name=models.name,
            pretrained=models.pretrained,
            # Words of no group: in its prompts if all have the same ones.
            templates=templates.pop() if len(templates) == 1 else PHOTO,
            batch_size=1024,
            progress=report,
        )
    return read_features(target / "words").normalized()


def _holds_features(source: str, models: _Models) -> bool:
    """Whether words come as features; without a model, a sample does, too."""
    if source.removesuffix(".gz").endswith((".txt", ".csv", ".tsv", ".jsonl")):
        return False
    named = ":" in source or "/" in source or "." in source  # a file, or what is in it
    return Path(source).exists() or named or models.name is None


def _picture(images: ImageSource | Features) -> Callable[[str], Any] | None:
    from fastclip.data import Features

    if isinstance(images, Features):
        return None
    from fastclip.data.image_decoding import decode_image

    place = {name: index for index, name in enumerate(images.names)}
    return lambda name: decode_image(images.read(place[name]))


def _print(found: Openness, output: Path) -> None:
    from rich.console import Console

    result = found.expansion
    shown = table("", "Acc-C", "Acc-E", "Acc-S", "all classes")
    accuracies = (result.acc_c, result.acc_e, result.acc_s, result.acc_full)
    shown.add_row("accuracy", *(f"{100 * x:.1f}" for x in accuracies))
    shown.add_row("less Acc-C", "", *(f"{100 * (x - result.acc_c):+.1f}" for x in accuracies[1:]))
    Console().print(shown)
    for size, accuracy in zip(found.sizes, found.size_accuracy.tolist(), strict=True):
        typer.echo(f"{size:>9,} names: {100 * accuracy:.1f} %")
    words = found.adversarial
    if words is not None and found.random_accuracy is not None:
        together = ", ".join(words.combined_names)
        typer.echo(
            f"with {together}: {100 * words.combined_accuracy[-1]:.1f} %; with as many random "
            f"words: {100 * found.random_accuracy:.1f} %"
        )
    typer.echo(f"{output / 'report.html'}")
