"""Measure a small model: ``python -m fastclip.models.tiny.evaluate DRAWINGS --model DIR``.

All pictures are of drawings and artwork sets that it was not trained on, unless a row says so.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer

import fastclip.models
from fastclip.data.files import dump_json
from fastclip.data.scenes import (
    Contrast,
    Drawings,
    Scene,
    SceneMaker,
    article,
    caption,
    compose,
    generator,
    load_drawings,
    object_replaced,
    placed_alone,
    relation_swap,
    size_swap,
    sizes,
    split,
)
from fastclip.models import Model
from fastclip.models._dense import METHODS

from .train import SIDE, normalised

PROMPTS = ("{}", "a picture of {}", "a drawing of {}")
_SEED = 10_000  # scenes of the evaluation; training uses small seeds
_BATCH = 128


def evaluate(drawings: Drawings, folder: Path) -> dict[str, Any]:
    """All figures of the model card."""
    model = fastclip.models.load(folder)
    train, test = split(drawings, "train"), drawings.select(["noto"], held_out=False)
    seen = [name for name in test.present if name in set(train.present)]
    test = test.of_names(seen)
    result: dict[str, Any] = {"names": single_objects(model, drawings, seen)}
    result["held_out_names"] = held_out_names(model, drawings, seen)
    result["scenes"] = scene_retrieval(model, test)
    result["patches"] = {side: best_patches(model, test, side) for side in (SIDE, 2 * SIDE)}
    result["contrasts"] = contrasts(model, test)
    result["openness"] = openness(model, test)
    return result


def encode_pictures(model: Model, pictures: torch.Tensor) -> torch.Tensor:
    """[B, 3, 64, 64] from 0 to 1 -> [B, d] unit rows."""
    return model.encode_image(normalised(pictures), batch_size=_BATCH)


def encode_names(model: Model, names: Sequence[str]) -> torch.Tensor:
    """[V, d] unit rows: the mean of a few prompts."""
    return model.encode_text([article(name) for name in names], templates=PROMPTS)


def pictures_of_one(drawings: Drawings, rows: Iterable[int]) -> torch.Tensor:
    """[N, 3, 64, 64]: each drawing alone on white, over 85 % of the side."""
    scenes = [placed_alone(drawings, row) for row in rows]
    return compose(drawings, scenes, SIDE)[0]


def top(images: torch.Tensor, texts: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    """Share of the images whose target is the first, or among the first five, of ``texts``."""
    ranks = fastclip.rank(images, texts, target)
    return {f"top{k}": round(float((ranks < k).float().mean()), 4) for k in (1, 5)}


def single_objects(model: Model, drawings: Drawings, seen: list[int]) -> dict[str, Any]:
    """Among all seen names, and among 100 of them (mean of 20 draws), in each artwork set."""
    texts = encode_names(model, [drawings.names[name] for name in seen])
    rng = np.random.default_rng(_SEED)
    draws = [rng.choice(len(seen), 100, replace=False) for _ in range(20)]
    result = {}
    for artwork in drawings.sets:
        chosen = drawings.select([artwork]).of_names(seen)
        images = encode_pictures(model, pictures_of_one(chosen, range(len(chosen))))
        target = torch.tensor([seen.index(name) for name in chosen.name_index.tolist()])
        of_100 = []
        for draw in map(torch.from_numpy, draws):
            rows = torch.isin(target, draw)
            place = torch.full((len(seen),), -1).index_copy(0, draw, torch.arange(100))
            of_100.append(top(images[rows], texts[draw], place[target[rows]])["top1"])
        result[artwork] = {
            "pictures": len(chosen),
            "names": len(seen),
            "of_all": top(images, texts, target),
            "of_100": {"top1": round(float(np.mean(of_100)), 4)},
        }
    return result


def held_out_names(model: Model, drawings: Drawings, seen: list[int]) -> dict[str, Any]:
    """Names that no training picture shows, among themselves and among all names."""
    words = {word for name in seen for word in drawings.names[name].split()}
    test = drawings.select(["noto"], held_out=True)
    images = encode_pictures(model, pictures_of_one(test, range(len(test))))
    texts = encode_names(model, drawings.names)
    composed = torch.tensor([set(drawings.names[n].split()) <= words for n in test.name_index])
    result = {}
    for key, rows in (("all", torch.ones_like(composed)), ("of_seen_words", composed)):
        names = test.name_index[rows]
        count = int(rows.sum())
        result[key] = {"names": count, **top(images[rows], texts[names], torch.arange(count))}
        result[key]["among_all_names"] = top(images[rows], texts, names)["top1"]
    return result


def scenes_of(
    test: Drawings, seed: int, count: int, wanted: Callable[[Scene], bool]
) -> list[Scene]:
    """The first ``count`` two-object scenes of a seed that are wanted."""
    maker = SceneMaker(test, seed)
    scenes: list[Scene] = []
    index = 0
    while len(scenes) < count:
        scene = maker.scene(index, "pair")
        if wanted(scene):
            scenes.append(scene)
        index += 1
    return scenes


def scene_retrieval(model: Model, test: Drawings) -> dict[str, Any]:
    """R@1 among the captions of 200 two-object scenes, both ways; mean of five sets of 200."""
    found = []
    for repeat in range(5):
        scenes = scenes_of(test, _SEED + repeat, 200, lambda _: True)
        images = encode_pictures(model, compose(test, scenes, SIDE)[0])
        texts = model.encode_text([caption(test, scene) for scene in scenes])
        both = fastclip.metrics.retrieval(images, texts)
        found.append((both.image_to_text.recall[1], both.text_to_image.recall[1]))
    there, back = np.mean(found, axis=0)
    return {"image_to_text": round(float(there), 4), "text_to_image": round(float(back), 4)}


def best_patches(model: Model, test: Drawings, side: int, count: int = 400) -> dict[str, Any]:
    """Where the best patch of a named object lies, in ``count`` two-object scenes."""
    scenes = scenes_of(test, _SEED + 10, count, lambda _: True)
    images, masks = compose(test, scenes, side)
    covered = _at_patch_centres(masks) > 0.5  # [B, 2, h * w]
    names = [encode_names(model, [test.names[s.names[k]] for s in scenes]) for k in (0, 1)]
    tags = torch.stack(names, dim=1)
    result: dict[str, Any] = {"chance": round(float(covered.float().mean()), 4)}
    for method in METHODS:
        patches = model.encode_pixels(normalised(images), method=method, batch_size=_BATCH)
        scores = torch.einsum("bdp,bkd->bkp", patches.flatten(2), tags)
        best = scores.argmax(2, keepdim=True)
        on_own = covered.gather(2, best).float().mean()
        on_other = covered.flip(1).gather(2, best).float().mean()
        right = (scores > scores.flip(1))[covered].float().mean()
        result[method] = {
            "on_the_object": round(float(on_own), 4),
            "on_the_other": round(float(on_other), 4),
            "own_patches_right_of_two": round(float(right), 4),
        }
    return result


def _at_patch_centres(masks: torch.Tensor) -> torch.Tensor:
    """[B, K, s, s] -> [B, K, h * w]: mean of the four pixels about each patch's centre."""
    return F.avg_pool2d(masks[:, :, 3:-3, 3:-3], 2, stride=8).flatten(2)


def contrasts(model: Model, test: Drawings, count: int = 600) -> dict[str, Any]:
    """Share of ``count`` scenes whose true caption is ahead, and whose equivalent one is too."""
    rng = generator(_SEED, 0)
    kinds: dict[str, tuple[Callable[[Scene], bool], Callable[[Scene], Contrast]]] = {
        "size_swap": (lambda s: sizes(*s.objects) is not None, lambda s: size_swap(test, s)),
        "relation_swap": (lambda _: True, lambda s: relation_swap(test, s)),
        "object_replaced": (lambda _: True, lambda s: object_replaced(test, s, rng)),
    }
    result = {}
    for number, (kind, (wanted, change)) in enumerate(kinds.items()):
        scenes = scenes_of(test, _SEED + 20 + number, count, wanted)
        images = encode_pictures(model, compose(test, scenes, SIDE)[0])
        changed = [change(scene) for scene in scenes]
        true, negative, equivalent = (
            (images * model.encode_text([getattr(c, role) for c in changed])).sum(1)
            for role in ("true", "negative", "equivalent")
        )
        result[kind] = {
            "true_ahead": round(float((true > negative).float().mean()), 4),
            "both_ahead": round(
                float(((true > negative) & (equivalent > negative)).float().mean()), 4
            ),
        }
    return result


def openness(model: Model, test: Drawings) -> dict[str, Any]:
    """Accuracy while the vocabulary grows group by group, with and without new pictures."""
    rng = np.random.default_rng(_SEED)
    present = torch.tensor(test.present)
    groups = [test.groups[name] for name in present.tolist()]
    order = rng.permutation(sorted(set(groups))).tolist()
    by_group = torch.tensor(sorted(range(len(present)), key=lambda i: order.index(groups[i])))
    texts = encode_names(model, [test.names[name] for name in present[by_group].tolist()])
    first_row = {name: row for row, name in enumerate(test.name_index.tolist())}
    images = encode_pictures(
        model, pictures_of_one(test, [first_row[name] for name in present[by_group].tolist()])
    )
    ends = np.cumsum([groups.count(group) for group in order]).tolist()
    target = torch.arange(len(texts))
    growing, first = [], []
    for end in ends:
        right = fastclip.rank(images[:end], texts[:end], target[:end]) == 0
        growing.append(round(float(right.float().mean()), 4))
        first.append(round(float(right[: ends[0]].float().mean()), 4))
    return {
        "vocabulary": ends,
        "accuracy": growing,
        "mean_accuracy": round(float(np.mean(growing)), 4),
        "first_groups_pictures": ends[0],
        "first_groups_accuracy": first,
    }


@dataclass(frozen=True)
class Bar:
    """A figure that the shipped model has to reach."""

    path: str
    least: float


BARS = (
    Bar("names.noto.of_100.top1", 0.68),
    Bar("names.noto.of_all.top1", 0.30),
    Bar("scenes.image_to_text", 0.50),
    Bar("patches.128.value-only.on_the_object", 0.62),
    Bar("contrasts.size_swap.true_ahead", 0.88),
    Bar("contrasts.size_swap.both_ahead", 0.84),
    Bar("held_out_names.of_seen_words.top1", 0.30),
)


def main(
    drawings: Annotated[Path, typer.Argument(help="Folder that `fastclip scenes fetch` wrote.")],
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = Path(__file__).parent,
    output: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
) -> None:
    """Measure a small model on what it has not seen."""
    figures = json.loads(json.dumps(evaluate(load_drawings(drawings), model)))
    if output is not None:
        dump_json(output, figures, indent=2)
    for bar in BARS:
        value: Any = figures
        for key in bar.path.split("."):
            value = value[key]
        mark = "ok" if value >= bar.least else "BELOW"
        typer.echo(f"{bar.path:45} {value:.4f}  at least {bar.least:.2f}  {mark}")


if __name__ == "__main__":
    typer.run(main)
