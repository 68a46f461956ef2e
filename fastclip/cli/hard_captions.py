"""``fastclip hard-captions``: hard positives and negatives for your own captions."""

import os
from pathlib import Path
from typing import Annotated

import typer

from fastclip.cli._common import ENDPOINT_KEY, progress, writable


def command(
    captions: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .txt with one caption per line, or a .csv, .tsv or .jsonl with a "
            "column caption.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .jsonl file for `train`.")
    ],
    image_column: Annotated[
        str | None, typer.Option(help="Column of a table that names the images.")
    ] = None,
    wordnet: Annotated[
        Path | None, typer.Option(metavar="DIR", help="WordNet's database files, for rules.")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask a chat model instead of rules: an OpenAI-compatible endpoint, such as "
            "http://localhost:8000/v1.",
        ),
    ] = None,
    chat_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model at the endpoint.")
    ] = None,
    requests_per_minute: Annotated[
        float, typer.Option(min=0.1, help="Highest rate of requests.")
    ] = 60,
    judge: Annotated[
        bool, typer.Option(help="Let the chat model judge whether the meaning is the same.")
    ] = True,
) -> None:
    """Write hard positives and hard negatives of captions, by rules or by a chat model.

    Nothing is sent over the network without --endpoint, whose key is read from
    FASTCLIP_ENDPOINT_KEY. Answers are kept beside the output, in OUTPUT.answers, and are never
    requested again.
    """
    if (endpoint is None) != (chat_model is None):
        raise typer.BadParameter(
            "needs --chat-model, and the other way round", param_hint="'--endpoint'"
        )
    target = writable(output)
    from fastclip.data import read_texts
    from fastclip.generation import (
        ChatEndpoint,
        WordNet,
        generate_by_endpoint,
        generate_by_rules,
    )

    table = not captions.name.removesuffix(".gz").endswith(".txt")
    texts = read_texts(captions, column="caption" if table else None)
    images = None if image_column is None else read_texts(captions, column=image_column)
    if endpoint is None or chat_model is None:
        found = generate_by_rules(texts, images, None if wordnet is None else WordNet(wordnet))
    else:
        asked = ChatEndpoint(
            endpoint,
            chat_model,
            target.with_name(target.name + ".answers"),
            key=os.environ.get(ENDPOINT_KEY),
            requests_per_minute=requests_per_minute,
        )
        with progress("asking", "captions") as report:
            found = generate_by_endpoint(texts, asked, images, judge=judge, progress=report)
    found.write(target)
    with_positive = sum(bool(item.hard_positives) for item in found.items)
    with_negative = sum(bool(item.hard_negatives) for item in found.items)
    typer.echo(
        f"{output}: {len(found.items):,} captions, {with_positive:,} with hard positives, "
        f"{with_negative:,} with hard negatives"
    )
    for reason, count in found.rejected.items():
        typer.echo(f"  rejected, {reason}: {count:,}", err=True)
