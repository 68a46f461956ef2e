"""CODER on the model that ships: ``python benches/coder_tiny.py DRAWINGS --output FILE``.

Zero-shot: which of the names that the small model was trained on, of drawings by an artist it was
not trained on (Noto); texts are WordNet's. Once of the names of which WordNet has texts
of all kinds, once of all names. Few-shot: which group of names, of the same drawings; the names
that a group holds are its texts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from experiments import mean_and_half_width, progress, unseen_artwork

import fastclip
from fastclip.coder import (
    KINDS,
    ClassTexts,
    Coder,
    CoderClassifier,
    CurvePoint,
    OneClass,
    TextTemplates,
    WordNetSource,
    confusable_pairs,
    few_shot_curve,
    generate_texts,
)
from fastclip.data.files import replacing
from fastclip.data.scenes import load_drawings
from fastclip.models.tiny import known_names
from fastclip.models.tiny.evaluate import encode_pictures, pictures_of_one
from fastclip.report import measure_coder
from fastclip.report.coder import results

# The small model learnt "a drawing of"; no word of the others stands for photos.
TEMPLATES = TextTemplates(
    "a drawing of {name}",
    "a drawing of {name} which has {attribute}",
    "a drawing of {name} similar to {other}",
    ("because of {feature}, {name} differs from {other}",),
)
_MOST_PAIRS = 2000


def main(
    drawings: Annotated[Path, typer.Argument(help="Folder that `fastclip scenes fetch` wrote.")],
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure each kind of text, reranking, and few-shot curves with five seeds."""
    model = fastclip.models.load("tiny")
    test = unseen_artwork(load_drawings(drawings))
    images = encode_pictures(model, pictures_of_one(test, range(len(test))))
    described = texts_of_all_kinds(model, test)
    some = torch.isin(test.name_index, torch.tensor(described))
    found = {
        "zero_shot": zero_shot(model, test.of_names(described), images[some]),
        "zero_shot_all_names": zero_shot(model, test, images),
        "few_shot": few_shot(model, test, images),
    }
    text = json.dumps(found, indent=1)
    if output is not None:
        with replacing(output) as part:
            part.write_text(text + "\n", "utf-8")
    typer.echo(text)


def texts_of_all_kinds(model: Any, test: Any) -> list[int]:
    source = WordNetSource(model)
    known = [(name, source.describe(test.names[name])) for name in test.present]
    return [name for name, one in known if one.attributes and one.sentences and one.analogous]


def zero_shot(model: Any, test: Any, images: torch.Tensor) -> dict[str, Any]:
    present = list(test.present)
    names = [test.names[name] for name in present]
    labels = torch.tensor([present.index(name) for name in test.name_index.tolist()])
    source = WordNetSource(model)
    known = generate_texts(names, source, model=model, pairs=[])
    without_pairs = Coder(known, model, templates=TEMPLATES)
    pairs: dict[tuple[str, str], None] = {}
    for kinds in (("name",), KINDS):  # both are reranked below
        first = CoderClassifier(kinds=kinds).fit(without_pairs)
        pairs.update(dict.fromkeys(confusable_pairs(first, images)[:_MOST_PAIRS]))
    known = generate_texts(names, source, model=model, pairs=pairs)
    coder = Coder(known, model, templates=TEMPLATES)
    classifier = CoderClassifier().fit(coder)
    title = f"Noto drawings of {len(names)} names"
    found = measure_coder(coder, classifier, images, names, labels)
    alone = {}
    for kinds in (("synonym",), ("attribute",), ("sentence",), ("analogous",)):
        with_names = CoderClassifier(kinds=("name", *kinds), rerank=False).fit(coder)
        alone[kinds[0]] = float((with_names.predict(images) == labels).double().mean())
    names_alone = CoderClassifier(kinds=("name",)).fit(coder).decide(images)
    return {
        **results(found, title),
        "names_and_one_kind": alone,
        "names_and_reranking": {
            "accuracy": float((names_alone.classes == labels).double().mean()),
            "reranked": int(names_alone.reranked.sum()),
        },
        "missing": {kind: len(names) for kind, names in known.missing().items()},
    }


def few_shot(model: Any, test: Any, images: torch.Tensor) -> dict[str, Any]:
    groups = [test.groups[name] for name in test.name_index.tolist()]
    large = sorted({group for group in groups if groups.count(group) > 20})
    rows = torch.tensor([i for i, group in enumerate(groups) if group in large])
    labels = torch.tensor([large.index(groups[i]) for i in rows.tolist()])
    names = [group.replace("-", " ") for group in large]
    # What things a group holds is known without a picture.
    known = ClassTexts(
        tuple(
            OneClass(
                name,
                sentences=tuple(
                    f"a drawing of {thing}" for thing, of in known_names().items() if of == group
                ),
            )
            for name, group in zip(names, large, strict=True)
        )
    )
    coder = Coder(known, model, templates=TEMPLATES)
    points = few_shot_curve(coder, images[rows], labels, progress=progress)
    zero = CoderClassifier(kinds=("name",), rerank=False).fit(coder).predict(images[rows])
    all_texts = CoderClassifier(rerank=False).fit(coder).predict(images[rows])
    return {
        "groups": large,
        "images": len(rows),
        "texts": len(coder.texts),
        "names_alone": float((zero == labels).double().mean()),
        "all_texts": float((all_texts == labels).double().mean()),
        "accuracy": intervals(points),
    }


def intervals(points: list[CurvePoint]) -> dict[str, dict[int, dict[str, float]]]:
    """For each method and number of shots."""
    curve: dict[str, dict[int, list[float]]] = {}
    for point in points:
        curve.setdefault(point.method, {}).setdefault(point.shots, []).append(point.accuracy)
    return {
        method: {shots: mean_and_half(values) for shots, values in by_shots.items()}
        for method, by_shots in curve.items()
    }


def mean_and_half(values: list[float]) -> dict[str, float]:
    """The mean over seeds and half of its interval of 95 %, as the results have them."""
    mean, half = mean_and_half_width(values)
    return {"mean": round(mean, 4), "half": round(half, 4)}


if __name__ == "__main__":
    typer.run(main)
