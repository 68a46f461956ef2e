"""CODER on the model that ships: ``python benches/coder_tiny.py DRAWINGS --output FILE``.

Zero-shot: which of the names that the small model was trained on, of drawings by an artist it was
not trained on (Noto). Few-shot: which group of names, of the same drawings. Texts are WordNet's.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import fastclip
from fastclip.coder import (
    Coder,
    CoderClassifier,
    TextTemplates,
    WordNetSource,
    confusable_pairs,
    few_shot_curve,
    generate_texts,
)
from fastclip.data.files import replacing
from fastclip.data.scenes import load_drawings, split
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
_T = 2.776  # two-sided 95 % of Student's t with the four degrees of freedom of five seeds


def main(
    drawings: Annotated[Path, typer.Argument(help="Folder that `fastclip scenes fetch` wrote.")],
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure each kind of text, reranking, and few-shot curves with five seeds."""
    model = fastclip.models.load("tiny")
    loaded = load_drawings(drawings)
    train = set(split(loaded, "train").present)
    test = loaded.select(["noto"], held_out=False)
    test = test.of_names([name for name in test.present if name in train])
    images = encode_pictures(model, pictures_of_one(test, range(len(test))))
    found = {
        "zero_shot": zero_shot(model, test, images),
        "few_shot": few_shot(model, test, images),
    }
    text = json.dumps(found, indent=1)
    if output is not None:
        with replacing(output) as part:
            part.write_text(text + "\n", "utf-8")
    typer.echo(text)


def zero_shot(model: Any, test: Any, images: torch.Tensor) -> dict[str, Any]:
    present = list(test.present)
    names = [test.names[name] for name in present]
    labels = torch.tensor([present.index(name) for name in test.name_index.tolist()])
    source = WordNetSource(model)
    first = CoderClassifier(kinds=("name", "synonym"), threshold=0.1).fit(
        Coder(generate_texts(names, source, model=model, pairs=[]), model, templates=TEMPLATES)
    )
    pairs = confusable_pairs(first, images)[:_MOST_PAIRS]
    known = generate_texts(names, source, model=model, pairs=pairs)
    coder = Coder(known, model, templates=TEMPLATES)
    classifier = CoderClassifier().fit(coder)
    title = f"Noto drawings of {len(names)} names"
    found = measure_coder(coder, classifier, images, names, labels)
    alone = {}
    for kinds in (("synonym",), ("attribute",), ("sentence",), ("analogous",)):
        with_names = CoderClassifier(kinds=("name", *kinds), rerank=False).fit(coder)
        alone[kinds[0]] = float((with_names.predict(images) == labels).double().mean())
    rest = ("name",)
    reranked = CoderClassifier(kinds=rest).fit(coder).predict(images)
    return {
        **results(found, title),
        "names_and_one_kind": alone,
        "names_and_reranking": float((reranked == labels).double().mean()),
        "missing": {kind: len(names) for kind, names in known.missing().items()},
    }


def few_shot(model: Any, test: Any, images: torch.Tensor) -> dict[str, Any]:
    groups = [test.groups[name] for name in test.name_index.tolist()]
    large = sorted({group for group in groups if groups.count(group) > 20})
    rows = torch.tensor([i for i, group in enumerate(groups) if group in large])
    labels = torch.tensor([large.index(groups[i]) for i in rows.tolist()])
    names = [group.replace("-", " ") for group in large]
    known = generate_texts(names, WordNetSource(model), model=model, pairs=[])
    # What the names of a group are is known without a picture, and not from the test images.
    coder = Coder(known, model, templates=TEMPLATES)
    points = few_shot_curve(coder, images[rows], labels, progress=_progress)
    zero = CoderClassifier(kinds=("name",), rerank=False).fit(coder).predict(images[rows])
    curve: dict[str, dict[str, Any]] = {}
    for point in points:
        curve.setdefault(point.method, {}).setdefault(str(point.shots), []).append(point.accuracy)
    for by_shots in curve.values():
        for shots, values in by_shots.items():
            half = _T * statistics.stdev(values) / math.sqrt(len(values))
            by_shots[shots] = {"mean": round(statistics.mean(values), 4), "half": round(half, 4)}
    return {
        "groups": large,
        "images": len(rows),
        "texts": len(coder.texts),
        "names_alone": float((zero == labels).double().mean()),
        "accuracy": curve,
    }


def _progress(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done} of {total} fits")


if __name__ == "__main__":
    typer.run(main)
