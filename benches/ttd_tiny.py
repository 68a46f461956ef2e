"""Do the findings of TTD appear on the small model, on made-up scenes and on photographs?

    python benches/ttd_tiny.py DRAWINGS --output runs [--coco FOLDER]

DRAWINGS is what `fastclip scenes fetch` wrote. Trains the shipped model further in three ways and
several seeds, on scenes of its training drawings whose captions name something that is not there,
and measures each on scenes of an artwork set that no training has seen, whose masks are exact.
FOLDER has coco_mini.zip (photographs and label maps) and coco_mini.jsonl (captions, classes).
Writes a table, what it says, and a picture of masks into benches/results. Stopped at any time, the
same command goes on: finished runs stay, and a begun one from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from experiments import EachAlone, once, unseen_artwork, write_results
from ttd_tiny_data import (
    CHOICE_SEED,
    TEST_SEED,
    ContrastiveData,
    Pictures,
    SceneData,
    photographs,
    scene_pictures,
)
from ttd_tiny_measures import METHOD, choose_background, measure, whole_images
from ttd_tiny_overlays import overlays
from ttd_tiny_report import report

import fastclip
from fastclip.data.scenes import Drawings, load_drawings, split
from fastclip.metrics import retrieval
from fastclip.models import Model
from fastclip.training import TrainingSettings, train
from fastclip.ttd import DistillationSettings, distill

ARMS: dict[str, dict[str, Any] | None] = {
    "contrastive": None,
    "TTD, sigmoid": {"student": "sigmoid", "distance": "bce"},
    "TTD, min-max": {"student": "min-max", "distance": "l2"},
}
"""What is trained: CLIP's loss, the control, or TTD's with these options."""


@dataclass(frozen=True)
class Test:
    """Pictures that no training has seen, and training drawings to choose the background by."""

    scenes: Pictures
    choice: Pictures
    photographs: Pictures | None
    alone: EachAlone

    def __call__(self, model: Model) -> dict[str, float]:
        background = choose_background(model, self.choice)
        figures = measure(model, self.scenes, background)
        figures |= self.kept(model)
        if self.photographs is not None:
            of_photographs = measure(model, self.photographs, background)
            figures |= {f"photographs: {name}": value for name, value in of_photographs.items()}
        return figures

    def kept(self, model: Model) -> dict[str, float]:
        """What training for maps may damage."""
        texts = model.encode_text([own[0] for own in self.scenes.captions])
        both = retrieval(whole_images(model, self.scenes), texts)
        return {
            "zero-shot accuracy": self.alone(model),
            "image to text R@1": both.image_to_text.recall[1],
            "text to image R@1": both.text_to_image.recall[1],
        }


def make_test(drawings: Drawings, model: Model, coco: Path | None, count: int, side: int) -> Test:
    test, training = unseen_artwork(drawings), split(drawings, "train")
    return Test(
        scene_pictures(test, TEST_SEED, count, side),
        scene_pictures(training, CHOICE_SEED, max(10, count // 3), side),
        None if coco is None else photographs(coco, model, side),
        EachAlone(test),
    )


def run_all(
    drawings: Drawings, coco: Path | None, model: str, output: Path, settings: Mapping[str, Any]
) -> dict[str, list[dict[str, float]]]:
    """Figures of each arm and seed, and of the model before, under "before"."""
    start = fastclip.models.load(model)
    test = make_test(drawings, start, coco, settings["test_scenes"], settings["test_side"])
    found = {"before": [once(output / "before.json", lambda: test(start))]}
    steps, batch = settings["steps"], settings["batch_size"]
    common = {
        "epochs": 1, "batch_size": batch, "lr": settings["lr"], "warmup": max(1, steps // 10),
        "checkpoint_steps": 50,
    }  # fmt: skip
    training, count = split(drawings, "train"), steps * batch
    for seed in range(settings["seeds"]):
        for arm in ARMS:
            folder = output / f"{arm.replace(' ', '-').replace(',', '')}-{seed}"

            def trained(arm: str = arm, folder: Path = folder, seed: int = seed) -> Model:
                options = ARMS[arm]
                if options is None:
                    data = ContrastiveData(training, 1000 + seed, count)
                    plain = TrainingSettings(loss="clip", seed=seed, **common)
                    return train(model, None, data, folder, plain)
                own = DistillationSettings(method=METHOD, seed=seed, **common, **options)
                return distill(model, None, SceneData(training, 1000 + seed, count), folder, own)

            figures = once(folder / "figures.json", lambda trained=trained: test(trained()))
            found.setdefault(arm, []).append(figures)
    return found


def main(
    drawings: Annotated[Path, typer.Argument(help="Folder that `fastclip scenes fetch` wrote.")],
    output: Annotated[Path, typer.Option(help="Folder of the runs.")],
    coco: Annotated[
        Path | None, typer.Option(help="Folder with coco_mini.zip and coco_mini.jsonl.")
    ] = None,
    model: Annotated[str, typer.Option(help="tiny, or a folder in its format.")] = "tiny",
    seeds: Annotated[int, typer.Option(min=2)] = 3,
    steps: Annotated[int, typer.Option(min=1)] = 75,
    batch_size: Annotated[int, typer.Option(min=2)] = 32,
    lr: Annotated[float, typer.Option(min=0)] = 1e-4,
    test_scenes: Annotated[int, typer.Option(min=1)] = 200,
    test_side: Annotated[int, typer.Option(min=16)] = 128,
    results: Annotated[Path, typer.Option(help="Folder of the table.")] = (
        Path(__file__).parent / "results"
    ),
) -> None:
    """Train, measure, and say which findings appear."""
    settings = {
        "steps": steps, "batch_size": batch_size, "lr": lr, "seeds": seeds,
        "test_scenes": test_scenes, "test_side": test_side,
    }  # fmt: skip
    output.mkdir(exist_ok=True)
    results.mkdir(exist_ok=True)
    loaded = load_drawings(drawings)
    found = run_all(loaded, coco, model, output, settings)
    options = f"--seeds {seeds} --steps {steps} --batch-size {batch_size} --lr {lr}"
    options += "" if coco is None else " --coco COCO"
    command = f"python benches/ttd_tiny.py DRAWINGS --output RUNS {options}"
    text = report(found, settings, command)
    content = {"command": command, "settings": settings, "figures": found}
    write_results(results / "ttd_tiny", text, content)
    last = fastclip.models.load(output / "TTD-min-max-0")
    models = {"before": fastclip.models.load(model), "TTD, min-max": last}
    overlays(loaded, models, results / "ttd_tiny.png", test_side)
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
