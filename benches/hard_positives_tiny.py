"""Do the findings of *The Hard Positive Truth* appear on the small model and made-up scenes?

    OMP_NUM_THREADS=1 python benches/hard_positives_tiny.py DRAWINGS --output RUNS

DRAWINGS is what `fastclip scenes fetch` wrote. Trains the shipped model further in five ways and
several seeds, on scenes of its training drawings, and measures each on scenes of an artwork set
that no training has seen. The learning rate is the one of RATES with the highest original accuracy
in a run of "both" with a seed that is not reported, on fresh scenes of the training drawings.
Writes a table and what it says into benches/results. Stopped at any time, the same command goes
on: finished runs stay, and a begun one goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from experiments import (
    EachAlone,
    ScenePairs,
    difference,
    mean_and_half_width,
    once,
    percent,
    unseen_artwork,
    write_results,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

import fastclip
from fastclip.data.scenes import (
    Contrast,
    Drawings,
    Scene,
    SceneMaker,
    compose,
    generator,
    load_drawings,
    object_replaced,
    relation_swap,
    size_swap,
    sizes,
    split,
)
from fastclip.metrics import hard_positive_scores
from fastclip.models import Model
from fastclip.models.tiny.train import SIDE, normalised
from fastclip.training import TrainingSettings, train

ARMS: dict[str, dict[str, Any]] = {
    "no hard captions": {"loss": "clip"},
    "hard negatives": {"positives": 0.0},
    "hard positives": {"negatives": 0.0},
    "both, 1/2 of the negatives": {"negatives": 0.5},
    "both": {},
}
"""What is trained; settings beside the common ones."""

MEASURES = ("original_accuracy", "augmented_accuracy", "brittleness", "zero_shot_accuracy")
_TITLES = ("original", "augmented", "brittle", "zero-shot")
KINDS = ("size_swap", "relation_swap", "object_replaced")
RATES = (1e-4, 3e-4, 1e-3)
_CONTRAST = 5  # stream of a scene's generator
# Of scenes and of runs; seeds of reported runs count from 0, those of their scenes from 1,000.
_TEST_SEED = 20_000
_CHOICE_SEED = 900


def contrast(drawings: Drawings, scene: Scene, kind: str, rng: np.random.Generator) -> Contrast:
    if kind == "size_swap":
        return size_swap(drawings, scene)
    if kind == "relation_swap":
        return relation_swap(drawings, scene)
    return object_replaced(drawings, scene, rng)


class SceneData(ScenePairs):
    """Each with a caption, its hard negative and its hard positive."""

    def texts(self, index: int) -> tuple[str, Sequence[str], Sequence[str]]:
        scene = self._maker.scene(index, "pair")
        rng = generator(self._seed, index, _CONTRAST)
        kinds = KINDS if sizes(*scene.objects) else KINDS[1:]
        found = contrast(self._drawings, scene, kinds[int(rng.integers(len(kinds)))], rng)
        return found.true, [found.negative], [found.equivalent]


@dataclass(frozen=True)
class Questions:
    """Scenes of each kind, painted, and what is asked about them."""

    images: torch.Tensor
    contrasts: list[Contrast]
    kinds: list[str]

    def __call__(self, model: Model) -> dict[str, float]:
        scores = hard_positive_scores(
            model.encode_image(self.images),
            *(
                model.encode_text([getattr(c, role) for c in self.contrasts])
                for role in ("true", "equivalent", "negative")
            ),
            categories=self.kinds,
            resamples=0,
        )
        figures = {name: getattr(scores.macro, name) for name in MEASURES[:3]}
        for kind, own in scores.categories.items():
            figures |= {f"{kind} {name}": getattr(own, name) for name in MEASURES[:3]}
        return figures


def questions(drawings: Drawings, seed: int, count: int) -> Questions:
    """``count`` scenes of each kind."""
    scenes: list[Scene] = []
    contrasts: list[Contrast] = []
    kinds: list[str] = []
    for number, kind in enumerate(KINDS):
        maker, index = SceneMaker(drawings, seed + number), 0
        while kinds.count(kind) < count:
            scene = maker.scene(index, "pair")
            if kind != "size_swap" or sizes(*scene.objects):
                rng = generator(seed + number, index, _CONTRAST)
                scenes.append(scene)
                contrasts.append(contrast(drawings, scene, kind, rng))
                kinds.append(kind)
            index += 1
    return Questions(normalised(compose(drawings, scenes, SIDE)[0]), contrasts, kinds)


class Test:
    """Drawings that were not trained on, of names that were: scenes of two, and each alone."""

    def __init__(self, drawings: Drawings, count: int) -> None:
        test = unseen_artwork(drawings)
        self._questions = questions(test, _TEST_SEED, count)
        self._alone = EachAlone(test)

    def __call__(self, model: Model) -> dict[str, float]:
        return {**self._questions(model), "zero_shot_accuracy": self._alone(model)}


@dataclass(frozen=True)
class Experiment:
    """What is trained further, on what, and how long."""

    drawings: Drawings
    model: str
    output: Path
    steps: int
    batch_size: int

    def figures(
        self, arm: str, seed: int, lr: float, measure: Callable[[Model], dict[str, float]]
    ) -> dict[str, float]:
        """Train and measure, if that has not been done."""
        name = arm.replace("/", "-").replace(",", "").replace(" ", "-")
        folder = self.output / f"{name}-{seed}-{lr:g}"

        def trained() -> Model:
            settings = TrainingSettings(
                epochs=1,
                batch_size=self.batch_size,
                lr=lr,
                warmup=max(1, self.steps // 20),
                precision="bf16",
                seed=seed,
                checkpoint_steps=25,
                **ARMS[arm],
            )
            data = SceneData(self.drawings, 1000 + seed, self.steps * self.batch_size)
            # The fused kernel's backward pass is slow at 65 tokens.
            with sdpa_kernel(SDPBackend.MATH):
                return train(self.model, None, data, folder, settings)

        return once(folder / "figures.json", lambda: measure(trained()))

    def accuracy_by_rate(self, count: int) -> dict[float, float]:
        """Original accuracy of "both" on fresh scenes of the training drawings."""
        fresh = questions(self.drawings, _TEST_SEED + len(KINDS), count)
        return {
            lr: self.figures("both", _CHOICE_SEED, lr, fresh)["original_accuracy"] for lr in RATES
        }


def run_all(
    experiment: Experiment, test: Test, seeds: int, lr: float
) -> dict[str, list[dict[str, float]]]:
    """Figures of each arm and seed, and of the model before, under "before"."""
    found: dict[str, list[dict[str, float]]] = {
        "before": [test(fastclip.models.load(experiment.model))]
    }
    for seed in range(seeds):
        for arm in ARMS:
            found.setdefault(arm, []).append(experiment.figures(arm, seed, lr, test))
    return found


CLAIMS = (
    ("Hard negatives alone raise original accuracy", "hard negatives", "no hard captions",
     "original_accuracy", 1),
    ("Hard negatives alone raise brittleness", "hard negatives", "no hard captions",
     "brittleness", 1),
    ("Adding hard positives lowers brittleness", "both", "hard negatives", "brittleness", -1),
    ("Adding hard positives raises augmented accuracy", "both", "hard negatives",
     "augmented_accuracy", 1),
)  # fmt: skip


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """One sentence per finding: whether it appears, with the difference and its interval."""
    lines = []
    for claim, arm, other, name, sign in CLAIMS:
        mean, half = difference(found, arm, other, name)
        appears = sign * mean - half > 0
        against = sign * mean + half < 0
        word = "appears" if appears else "the opposite appears" if against else "does not appear"
        lines.append(f"{claim}: {word} ({100 * mean:+.1f} ± {100 * half:.1f} points).")
    order = ["hard positives", *(arm for arm in ARMS if arm.startswith("both"))]
    for name in ("augmented_accuracy", "brittleness"):
        claim = f"Half of the negatives lies in between in {name.replace('_', ' ')}"
        values = [100 * mean_and_half_width([r[name] for r in found[arm]])[0] for arm in order]
        mean, half = difference(found, order[-1], order[0], name)
        if abs(mean) <= half:
            word = "none and all of them do not differ"
        else:
            inside = min(values[0], values[-1]) <= values[1] <= max(values[0], values[-1])
            word = "appears" if inside else "does not appear"
        figures = ", ".join(f"{value:.1f}" for value in values)
        lines.append(f"{claim}: {word} ({figures} for 0, 1/2 and 1).")
    return lines


def table(found: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    """A row for each arm; ``columns`` are titles by the names of figures."""
    lines = [
        f"| trained with | {' | '.join(columns.values())} |",
        "|---|" + "---|" * len(columns),
    ]
    for arm, rows in found.items():
        cells = [percent([row[name] for row in rows]) for name in columns]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return lines


def report(found: Mapping[str, Any], settings: Mapping[str, Any], command: str) -> str:
    rates = settings["original_accuracy_by_rate"]
    return "\n".join(
        [
            "# Hard positives on the small model",
            "",
            f"`{command}`",
            "",
            f"{settings['steps']} steps of {settings['batch_size']} scenes, "
            f"{settings['seeds']} seeds; percent, mean and 95 % interval over seeds (Student's "
            "t). Original, augmented and brittle: unweighted mean of "
            f"{', '.join(KINDS)}, {settings['test_scenes']} scenes each, of drawings and an "
            "artwork set that were not trained on. Chance: 50, 33.3, 33.3. Zero-shot: each name "
            "alone among all names of the test.",
            "",
            f"The learning rate is {settings['lr']:g}: of "
            f"{', '.join(f'{lr:g} ({100 * a:.1f})' for lr, a in rates.items())} the one with the "
            'highest original accuracy (in brackets) after a run of "both" whose seed is not '
            "among those below, on other scenes of the training drawings.",
            "",
            *table(found, dict(zip(MEASURES, _TITLES, strict=True))),
            "",
            *(f"- {line}" for line in verdicts(found)),
            "",
            "By kind, original accuracy and brittleness:",
            "",
            *table(
                found,
                {
                    f"{kind} {name}": f"{kind.replace('_', ' ')}, {title}"
                    for kind in KINDS
                    for name, title in zip(MEASURES, _TITLES, strict=True)
                    if title in ("original", "brittle")
                },
            ),
            "",
        ]
    )


def main(
    drawings: Annotated[Path, typer.Argument(help="Folder that `fastclip scenes fetch` wrote.")],
    output: Annotated[Path, typer.Option(help="Folder of the runs.")],
    model: Annotated[str, typer.Option(help="tiny, or a folder in its format.")] = "tiny",
    seeds: Annotated[int, typer.Option(min=2)] = 3,
    steps: Annotated[int, typer.Option(min=1)] = 200,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    test_scenes: Annotated[int, typer.Option(min=1)] = 600,
    results: Annotated[Path, typer.Option(help="Folder of the table.")] = (
        Path(__file__).parent / "results"
    ),
) -> None:
    """Train, measure, and say which findings appear."""
    output.mkdir(exist_ok=True)
    results.mkdir(exist_ok=True)
    every = load_drawings(drawings)
    experiment = Experiment(split(every, "train"), model, output, steps, batch_size)
    rates = experiment.accuracy_by_rate(test_scenes)
    lr = max(rates, key=rates.__getitem__)
    found = run_all(experiment, Test(every, test_scenes), seeds, lr)
    settings = {
        "seeds": seeds,
        "steps": steps,
        "batch_size": batch_size,
        "test_scenes": test_scenes,
        "lr": lr,
        "original_accuracy_by_rate": rates,
    }
    options = f"--seeds {seeds} --steps {steps} --batch-size {batch_size}"
    command = f"python benches/hard_positives_tiny.py DRAWINGS --output RUNS {options}"
    text = report(found, settings, command)
    content = {"command": command, "settings": settings, "figures": found}
    write_results(results / "hard_positives", text, content)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
