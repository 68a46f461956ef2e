"""``fastclip coder classify``: images without examples, in two stages."""

from pathlib import Path
from typing import Annotated

import typer

from fastclip.cli._common import writable_folder
from fastclip.cli._model import Device, ModelName, Pretrained, load_model, picture_of
from fastclip.cli.coder._common import (
    PROTOCOL,
    Candidates,
    Images,
    Output,
    Templates,
    Texts,
    Threshold,
    as_protocol,
    check_count,
    embed_prompts,
    features_of,
    labels_of_rows,
    read_labels,
    source_of,
)


def command(
    images: Images,
    texts: Texts,
    model: ModelName = "tiny",
    pretrained: Pretrained = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The class of each image, one name per line, to measure accuracy."
        ),
    ] = None,
    output: Output = Path("coder"),
    templates: Templates = "default",
    threshold: Threshold = 0.1,
    candidates: Candidates = 5,
    protocol: Annotated[
        str,
        typer.Option(metavar="NAME", help=f"{PROTOCOL} authors and labels-choose need labels."),
    ] = "honest",
    device: Device = "cpu",
) -> None:
    """Classify images without examples, in two stages, and say why.

    Writes report.html, results.json and decisions.csv into DIR.
    """
    target = writable_folder(output)
    target.mkdir(exist_ok=True)
    from fastclip.coder import ClassTexts, CoderClassifier, measure_coder
    from fastclip.coder.protocol import deviations
    from fastclip.report import write_coder

    chosen = as_protocol(protocol)
    if "labels-choose" in deviations(chosen) and labels is None:
        raise typer.BadParameter("needs --labels", param_hint=f"'--protocol {protocol}'")
    known = ClassTexts.load(texts)
    truth = None if labels is None else read_labels(labels, known)
    source = source_of(images)
    if labels is not None and truth is not None:
        check_count(labels, truth, source)
    encoder = load_model(model, pretrained, device)
    features, places = features_of(source, encoder, model, pretrained, target / "images")
    if labels is not None and truth is not None:
        truth = labels_of_rows(labels, truth, source, places)
    prompts = known.prompts(templates, protocol=chosen)
    coder = embed_prompts(prompts, encoder)
    classifier = CoderClassifier(threshold=threshold, candidates=candidates, protocol=chosen).fit(
        coder
    )
    names = features.names or tuple(f"image {i}" for i in range(len(features)))
    found = measure_coder(coder, classifier, features.features, names, truth)
    write_coder(target, found, title=images, picture=picture_of(source))
    for step, accuracy in found.accuracy.items():
        typer.echo(f"{accuracy:.4f}  {step}")
    typer.echo(
        f"{output / 'report.html'}: {int(found.decisions.reranked.sum()):,} of {len(names):,} "
        "images reranked"
    )
