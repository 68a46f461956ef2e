"""Train the small model: ``python -m fastclip.models.tiny.train DRAWINGS --output DIR --seed 0``.

If interrupted, rerun the same command to resume from the last checkpoint.
"""

import csv
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastclip.data.files import (
    dump_json,
    remove_unfinished,
    replacing,
    sink,
    write_safetensors,
)
from fastclip.data.job_folder import lock
from fastclip.data.progress import progress
from fastclip.data.scenes import (
    Drawings,
    Scene,
    SceneMaker,
    compose,
    exchanged,
    generator,
    load_drawings,
    split,
    varied_caption,
)
from fastclip.models._text import text_features

from .tokens import tokenizer, words_of, write_pruned_bpe

SIDE = 64
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_CAPTIONS = 1  # stream of a scene's generator
_MIX = 2


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how long."""

    steps: int = 8000  # may change between runs, while the learning rate has not begun to fall
    batch: int = 128
    lr: float = 2e-3
    warmup: int = 100  # steps
    falling: float = 0.45  # share of the steps, the last
    weight_decay: float = 0.1
    single: float = 0.5  # shares of the pictures
    pair: float = 0.42
    followed: float = 0.3  # pairs that are followed by themselves with the objects exchanged
    width: int = 128
    layers: int = 5
    checkpoint_seconds: float = 180


def configuration(recipe: Recipe, vocabulary: int) -> dict[str, Any]:
    """The model in the format of open_clip's local folders."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {
                "image_size": SIDE,
                "patch_size": 8,
                "width": recipe.width,
                "layers": recipe.layers,
                "head_width": 64,
            },
            "text_cfg": {
                "context_length": 32,
                "vocab_size": vocabulary,
                "width": 128,
                "heads": 2,
                "layers": 3,
                "tokenizer_kwargs": {"bpe_path": "bpe.txt.gz"},
            },
        },
        "preprocess_cfg": {
            "size": SIDE,
            "mode": "RGB",
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "squash",
            "fill_color": 255,
        },
    }


class TrainingPictures:
    """Picture and caption number ``index``, the same in every run of a seed."""

    def __init__(self, drawings: Drawings, recipe: Recipe, seed: int) -> None:
        self.drawings = drawings
        self.recipe = recipe
        self.maker = SceneMaker(drawings, seed, augment=True)
        self.seed = seed

    def item(self, index: int) -> tuple[Scene, str]:
        """Every second picture may be the one before with its two objects exchanged."""
        before = index - index % 2
        scene, told_apart = self._scene(before)
        if index != before:
            scene = exchanged(scene) if told_apart else self._scene(index)[0]
        rng = generator(self.seed, index, _CAPTIONS)
        return scene, varied_caption(self.drawings, scene, rng, told_apart=told_apart)

    def _scene(self, index: int) -> tuple[Scene, bool]:
        rng = generator(self.seed, index, _MIX)
        draw = rng.random()
        if draw < self.recipe.single:
            return self.maker.scene(index, "single"), False
        if draw < self.recipe.single + self.recipe.pair:
            return self.maker.scene(index, "pair"), bool(rng.random() < self.recipe.followed)
        return self.maker.scene(index, "several"), False

    def batch(self, step: int) -> tuple[torch.Tensor, list[str], torch.Tensor]:
        """Normalised images, captions, and [B, B] bool: pairs that are no negatives."""
        first = step * self.recipe.batch
        scenes, captions = zip(
            *(self.item(i) for i in range(first, first + self.recipe.batch)), strict=True
        )
        images, _ = compose(self.drawings, scenes, SIDE)
        alone = torch.tensor(
            [s.names[0] if len(s.names) == 1 else -1 - i for i, s in enumerate(scenes)]
        )
        same = alone[:, None] == alone
        return normalised(images), list(captions), same.fill_diagonal_(False)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """[B, 3, h, w] pictures from 0 to 1, as the model takes them."""
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return (images - mean) / std


def contrastive_loss(
    model: Any, images: torch.Tensor, tokens: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """InfoNCE in both directions; pairs of ``same`` are left out of the negatives."""
    image = F.normalize(model.encode_image(images).float(), dim=1)
    text = F.normalize(text_features(model, tokens).float(), dim=1)
    logits = model.logit_scale.float().exp() * image @ text.T
    logits = logits.masked_fill(same, -math.inf)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class Optimizer:
    """Weights in bfloat16 for speed, their masters in float32; Muon for the blocks' matrices."""

    def __init__(self, model: torch.nn.Module, recipe: Recipe) -> None:
        self.recipe = recipe
        self.model = model
        self.names = [name for name, _ in model.named_parameters()]
        self.masters = [p.detach().clone() for p in model.parameters()]
        model.to(torch.bfloat16)
        self.weights: list[torch.Tensor] = list(model.parameters())
        groups: dict[str, list[torch.Tensor]] = {"matrix": [], "decayed": [], "free": []}
        for name, master in zip(self.names, self.masters, strict=True):
            blocks = "resblocks" in name and master.ndim == 2
            decayed = master.ndim >= 2 and "embedding" not in name
            groups["matrix" if blocks else "decayed" if decayed else "free"].append(master)
        decay = recipe.weight_decay
        self.parts = [
            torch.optim.Muon(groups["matrix"], weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [
                    {"params": groups["decayed"], "weight_decay": decay},
                    {"params": groups["free"], "weight_decay": 0.0},
                ],
                betas=(0.9, 0.98),
                fused=True,
            ),
        ]

    def step(self, rate: float) -> None:
        """Move the masters along the weights' gradients and round them to the weights."""
        for master, weight in zip(self.masters, self.weights, strict=True):
            assert weight.grad is not None
            master.grad = weight.grad.float()
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
        scale = self.masters[self.names.index("logit_scale")]
        scale.clamp_(0, math.log(100))
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.masters)

    def state(self) -> dict[str, Any]:
        return {
            "masters": dict(zip(self.names, self.masters, strict=True)),
            "parts": [part.state_dict() for part in self.parts],
        }

    def load(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, master in zip(self.names, self.masters, strict=True):
                master.copy_(state["masters"][name])
            torch._foreach_copy_(self.weights, self.masters)
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)


def rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, constant, then linear down to nothing."""
    left = (recipe.steps - step) / (recipe.falling * recipe.steps)
    return recipe.lr * min((step + 1) / recipe.warmup, 1.0, left)


def train(drawings: Drawings, output: Path, seed: int, recipe: Recipe = Recipe()) -> None:
    """Train on the training sets of ``drawings`` and write the model into ``output``."""
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(f"torch is {torch.__version__}, training needs 2.9 or newer")
    import open_clip

    output.mkdir(parents=True, exist_ok=True)
    vocabulary = write_pruned_bpe(output / "bpe.txt.gz", words_of(drawings))
    config = configuration(recipe, vocabulary)
    dump_json(output / "open_clip_config.json", config, indent=2)
    trained_on = split(drawings, "train")
    known = {drawings.names[i]: drawings.groups[i] for i in trained_on.present}
    dump_json(output / "names.json", known, indent=1)
    pictures = TrainingPictures(trained_on, recipe, seed)
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config["model_cfg"])
    optimizer = Optimizer(model, recipe)
    tokens_of = tokenizer(output)

    checkpoint = output / "checkpoint.pt"
    start, log = 0, []
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        start, log = saved["step"], saved["log"]
        same = saved["recipe"] == asdict(replace(recipe, steps=saved["recipe"]["steps"]))
        if not same or saved["seed"] != seed or log[-1][2] != rate_at(start - 1, recipe):
            raise ValueError(f"{checkpoint}: is of seed {saved['seed']}, {saved['recipe']}")
        optimizer.load(saved["optimizer"])

    # The fused kernel's backward pass takes most of the time at 65 tokens.
    attention = sdpa_kernel(SDPBackend.MATH)
    with attention, progress("training", "steps") as report:
        report(start, recipe.steps)
        last, mean = time.monotonic(), None
        for step in range(start, recipe.steps):
            images, captions, same = pictures.batch(step)
            loss = contrastive_loss(model, images.bfloat16(), tokens_of(captions), same)
            loss.backward()
            rate = rate_at(step, recipe)
            optimizer.step(rate)
            log.append((step + 1, loss.item(), rate))
            mean = loss.item() if mean is None else 0.95 * mean + 0.05 * loss.item()
            report(step + 1, recipe.steps, f"loss {mean:.3f}")
            if time.monotonic() - last > recipe.checkpoint_seconds or step + 1 == recipe.steps:
                _save(output, optimizer, log, recipe, seed)
                last = time.monotonic()
    weights = {name: w.half() for name, w in zip(optimizer.names, optimizer.masters, strict=True)}
    write_safetensors(output / "model.safetensors", weights, {"format": "pt"})
    _plot(output / "loss.svg", log, recipe)


def _save(
    output: Path,
    optimizer: Optimizer,
    log: list[tuple[int, float, float]],
    recipe: Recipe,
    seed: int,
) -> None:
    state = {
        "step": log[-1][0],
        "log": log,
        "recipe": asdict(recipe),
        "seed": seed,
        "optimizer": optimizer.state(),
    }
    with sink(output / "checkpoint.pt") as file:
        torch.save(state, file)  # type: ignore[arg-type]
    with (
        replacing(output / "loss.csv") as part,
        open(part, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", "loss", "learning_rate"))
        writer.writerows((step, f"{loss:.4f}", f"{rate:.3e}") for step, loss, rate in log)


def _plot(path: Path, log: list[tuple[int, float, float]], recipe: Recipe) -> None:
    """Draw the loss, each point the mean of 1 % of the steps."""
    import matplotlib
    from matplotlib.figure import Figure

    size = max(1, len(log) // 100)
    parts = [log[i : i + size] for i in range(0, len(log) - size + 1, size)]
    style = {"svg.hashsalt": "fastclip", "svg.fonttype": "none"}  # equal runs give equal files
    with replacing(path) as part, matplotlib.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(
            [recipe.batch * entries[-1][0] / 1000 for entries in parts],
            [sum(loss for _, loss, _ in entries) / len(entries) for entries in parts],
        )
        axes.set(xlabel="thousand pictures", ylabel=f"loss, batch {recipe.batch}", ylim=(0, None))
        axes.grid(alpha=0.3)
        figure.savefig(part, format="svg", metadata={"Date": None})


def main(
    drawings: Annotated[Path, typer.Argument(help="Folder that `fastclip scenes fetch` wrote.")],
    output: Annotated[Path, typer.Option(help="Folder for the model, checkpoints and the loss.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[int, typer.Option(min=1)] = Recipe.steps,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Train the small model, or resume its training."""
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    with lock(output):
        remove_unfinished(output)
        train(load_drawings(drawings), output, seed, Recipe(steps=steps))


if __name__ == "__main__":
    typer.run(main)
