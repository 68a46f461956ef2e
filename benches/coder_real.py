"""CODER on real CLIP features: ``python benches/coder_real.py DATA --output FILE``.

No published features hold pictures together with texts about attributes, synonyms, analogous
classes or differences, so stage two and most kinds of text cannot be tried on them. What can:

- COCO (500 pairs, ViT-B/16). Pictures of the eight classes that at least nine pictures are about:
  three of their five captions name it, and no other class. Zero-shot, the texts of a class are
  captions of other pictures of it, from one to four. Few-shot, CLIP's classifier is made of such
  captions, and the neighbours are these and captions of pictures of none of the classes.
- THINGS (200 pictures, ViT-L/14). The neighbours are prototypes, means of other pictures of a
  concept, for want of texts. One prototype a concept is the support: the nearest decides, by the
  features themselves or by their nearness to some of the prototypes.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from coder_tiny import intervals, mean_and_half
from experiments import progress

from fastclip.coder import (
    ClassTexts,
    Coder,
    CoderClassifier,
    OneClass,
    few_shot_curve,
)
from fastclip.data.files import replacing

_SEEDS = range(5)
_TEXTS = (1, 2, 3, 4)  # of a class, zero-shot
_FEWEST = 9  # pictures of a class
_ANCHORS = (2, 5, 10, 20, 50, 100, 200)
_SHOTS = (1, 2)
_CAPTIONS = (0, 10, 30, 100, None)  # None: all


def main(
    data: Annotated[Path, typer.Argument(help="Folder with clip_features/ and neighbours/.")],
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure the density of neighbours zero-shot and few-shot."""
    coco = read_coco(data)
    found = {
        "coco": {
            "classes": {name: coco.class_of.count(name) for name in coco.names},
            "zero_shot": zero_shot(coco),
            "few_shot": few_shot(coco),
        },
        "things": prototypes(data),
    }
    text = json.dumps(found, indent=1)
    if output is not None:
        with replacing(output) as part:
            part.write_text(text + "\n", "utf-8")
    typer.echo(text)


class Coco(NamedTuple):
    """Features of pictures and of one caption of each."""

    images: torch.Tensor
    captions: torch.Tensor
    class_of: list[str | None]
    names: list[str]
    """Classes with enough pictures."""


def read_coco(data: Path) -> Coco:
    pairs = np.load(data / "clip_features" / "paired_coco500_vitb16.npz")
    images, captions = (
        torch.nn.functional.normalize(torch.from_numpy(pairs[key]))
        for key in ("image_features", "text_features")
    )
    class_of = about(data, pairs["image_id"].tolist())
    counts = Counter(name for name in class_of if name is not None)
    names = sorted(name for name, count in counts.items() if count >= _FEWEST)
    return Coco(images, captions, class_of, names)


def about(data: Path, image_ids: list[int]) -> list[str | None]:
    """Which class of COCO each picture is about, if it is one."""
    path = data / "neighbours" / "coco_val2017_captions.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        captions = {row["image_id"]: row["captions"] for row in map(json.loads, file)}
    names = np.load(data / "clip_features" / "text_vitb32_coco.npz")["names"].tolist()
    words = {name: re.compile(rf"\b{re.escape(name)}(s|es)?\b", re.IGNORECASE) for name in names}
    result = []
    for image in image_ids:
        often = [
            name
            for name, word in words.items()
            if sum(word.search(caption) is not None for caption in captions[image]) >= 3
        ]
        result.append(often[0] if len(often) == 1 else None)
    return result


def divided(coco: Coco, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows whose captions are texts, [classes, most texts]; other rows, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    texts, rows, labels = [], [], []
    for label, name in enumerate(coco.names):
        of_class = torch.tensor([row for row, other in enumerate(coco.class_of) if other == name])
        of_class = of_class[torch.randperm(len(of_class), generator=generator)]
        texts.append(of_class[: _TEXTS[-1]])
        rows.append(of_class[_TEXTS[-1] :])
        labels += [label] * len(rows[-1])
    return torch.stack(texts), torch.cat(rows), torch.tensor(labels)


def zero_shot(coco: Coco) -> dict[str, Any]:
    by_count: dict[int, list[float]] = {count: [] for count in _TEXTS}
    for seed in _SEEDS:
        texts, rows, labels = divided(coco, seed)
        for count in _TEXTS:
            known = ClassTexts(
                tuple(OneClass(name, sentences=texts_of(count - 1)) for name in coco.names)
            )
            coder = Coder(known, coco.captions[texts[:, :count].flatten()])
            predicted = CoderClassifier(rerank=False).fit(coder).predict(coco.images[rows])
            by_count[count].append(float((predicted == labels).double().mean()))
    return {
        "test_images": len(rows),
        "accuracy": {count: mean_and_half(values) for count, values in by_count.items()},
    }


def texts_of(count: int) -> tuple[str, ...]:
    """Stand for captions: their features are given."""
    return tuple(f"caption {i}" for i in range(count))


def few_shot(coco: Coco) -> dict[str, Any]:
    images, captions, class_of, names = coco
    texts, rows, labels = divided(coco, 0)
    mine = torch.nn.functional.normalize(captions[texts].mean(1))  # in the place of name texts
    others = captions[torch.tensor([name is None for name in class_of])]
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))
    found = {}
    for count in _CAPTIONS:
        more = others[order[:count]]
        # The adapter compares images by all texts: which class has the captions does not matter.
        known = [OneClass(names[0], sentences=texts_of(len(more))), *map(OneClass, names[1:])]
        coder = Coder(ClassTexts(tuple(known)), torch.cat([more, mine]))
        points = few_shot_curve(
            coder, images[rows], labels, shots=_SHOTS, seeds=_SEEDS, progress=progress
        )
        found[len(coder.texts)] = intervals(points)
    predicted = (images[rows] @ mine.T).argmax(1)
    return {
        "images": len(rows),
        "classifier_alone": float((predicted == labels).double().mean()),
        "accuracy_by_number_of_texts": found,
    }


def prototypes(data: Path) -> dict[str, Any]:
    things = np.load(data / "clip_features" / "things200_vitl14.npz")
    images = torch.from_numpy(things["image_features"])
    anchors = torch.nn.functional.normalize(torch.from_numpy(things["class_prototypes"]))
    labels = torch.arange(len(images))
    found: dict[str, dict[int, list[float]]] = {"cosine": {}, "centred": {}}
    for count in _ANCHORS:
        for seed in _SEEDS:
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(len(anchors), generator=generator)[:count]
            known = ClassTexts(tuple(OneClass(f"concept {i}") for i in range(count)))
            coder = Coder(known, anchors[chosen])
            phi, keys = (
                torch.nn.functional.normalize(coder.transform(rows).double())
                for rows in (images, anchors)
            )
            mean = keys.mean(0)
            for how, shift in (("cosine", 0.0 * mean), ("centred", mean)):
                nearest = (phi - shift) @ torch.nn.functional.normalize(keys - shift).T
                accuracy = float((nearest.argmax(1) == labels).double().mean())
                found[how].setdefault(count, []).append(accuracy)
    return {
        "features_alone": float(((images @ anchors.T).argmax(1) == labels).double().mean()),
        "representations": {
            how: {count: mean_and_half(values) for count, values in by_count.items()}
            for how, by_count in found.items()
        },
    }


if __name__ == "__main__":
    typer.run(main)
