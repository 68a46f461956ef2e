"""``fastclip coder texts``: what WordNet, files or a chat model say of classes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fastclip.cli._common import ENDPOINT_KEY, progress, writable
from fastclip.cli._model import Device, Pretrained, load_model
from fastclip.cli.coder._common import (
    PROTOCOL,
    RERANKING,
    Candidates,
    Templates,
    Threshold,
    as_protocol,
    embed_prompts,
    features_of,
    source_of,
)

if TYPE_CHECKING:
    from fastclip.coder import ClassTexts, EndpointSource, Source
    from fastclip.models import Model

_ENDPOINT = "Endpoint"

Kind = Literal["attributes", "sentences", "analogous", "synonyms", "one-to-one"]
Pairs = Literal["all", "confusable", "none"]


def command(
    names: Annotated[
        str, typer.Argument(metavar="NAMES", help="Class names: a .txt with one name per line.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .json to read and edit.")
    ],
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="wordnet|FILE|URL",
            help="Published descriptions, or an OpenAI-compatible endpoint that ends in "
            "/v1; repeat "
            "it to merge several. Default: wordnet.",
        ),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            help="What the texts of a file are: ends of 'which has ...', whole texts, names of "
            "things that look alike, other names, or what tells a class from another one."
        ),
    ] = "attributes",
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which data set, of a file with several."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Picks meanings in WordNet, rejects analogous classes that are another class, and "
            "finds confusable pairs; named as in 'coder classify'.",
        ),
    ] = None,
    pretrained: Pretrained = None,
    device: Device = "cpu",
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help=f"{PROTOCOL} Texts depend on six-requests.")
    ] = "honest",
    pairs: Annotated[
        Pairs,
        typer.Option(
            help="Pairs of classes with one-to-one texts. confusable: those that reranking "
            "--images would compare; needs --model.",
            rich_help_panel=RERANKING,
        ),
    ] = "all",
    images: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGES",
            help="Images like those to classify, without labels, or their features: for "
            "confusable pairs.",
            rich_help_panel=RERANKING,
        ),
    ] = None,
    templates: Templates = "default",
    threshold: Threshold = 0.1,
    candidates: Candidates = 5,
    chat_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the model at the endpoint.", rich_help_panel=_ENDPOINT
        ),
    ] = None,
    requests_per_minute: Annotated[
        float, typer.Option(min=0.1, help="Highest rate of requests.", rich_help_panel=_ENDPOINT)
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
    in FILE.answers.jsonl: if interrupted, the same command asks only for the others.

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

    if pairs == "confusable" and (model is None or images is None):
        raise typer.BadParameter("needs --model and --images", param_hint="'--pairs confusable'")
    if pairs != "confusable" and images is not None:
        raise typer.BadParameter("needs --pairs confusable", param_hint="'--images'")
    chosen, wording = as_protocol(protocol), text_templates(templates)
    class_names = read_texts(names)
    encoder = None if model is None else load_model(model, pretrained, device)
    sources: list[Source] = [
        _endpoint(one, chat_model, target, requests_per_minute, workers)
        if one.startswith(("http://", "https://"))
        else _source(one, kind, dataset, encoder)
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
        found = generate([] if pairs == "none" else None)
    else:
        classifier = CoderClassifier(threshold=threshold, candidates=candidates)
        folder = target.with_name(target.name + ".images")
        features, _ = features_of(source_of(images), encoder, model, pretrained, folder)
        prompts = generate([]).prompts(wording, protocol=chosen)
        classifier.fit(embed_prompts(prompts, encoder))
        found = generate(confusable_pairs(classifier, features.features))
    found.save(target)
    for line in lacking(found):
        typer.echo(line, err=True)
    for one in sources:
        for text, _ in dict.fromkeys(getattr(one, "malformed", ())):  # pairs take a second pass
            typer.echo(f"no usable answer: {' '.join(text.split())}", err=True)
    typer.echo(f"{output}: {len(found.prompts().texts):,} texts of {len(class_names):,} classes")


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
        key=os.environ.get(ENDPOINT_KEY),
        requests_per_minute=requests_per_minute,
    )
    return EndpointSource(chat, chat_model, workers=workers)


def _source(source: str, kind: Kind, dataset: str | None, model: Model | None) -> Source:
    from fastclip.coder import FileSource, WordNetSource

    if source == "wordnet":
        return WordNetSource(model)
    return FileSource(source, kind, dataset=dataset)


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
