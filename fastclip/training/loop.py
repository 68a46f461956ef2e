"""The training loop: steps, validations and when to stop."""

import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic

import torch
import torch.nn.functional as F

from fastclip.data.checks import check_at_least
from fastclip.data.files import remove_unfinished
from fastclip.data.job_folder import lock
from fastclip.data.progress import progress as show_progress
from fastclip.models import Model, load
from fastclip.models._text import text_features

from ._ranks import ALONE, OneProcess, started_ranks
from ._tensorboard import TensorBoardLog
from .checkpoint import read_checkpoint, write_checkpoint, write_table
from .data import TrainingData
from .export import write_model
from .lora import add_lora, merged
from .losses import Parts
from .objective import B, Batches, HardCaptions, Objective
from .settings import RunSettings, TrainingSettings

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def train(
    name: str,
    pretrained: str | os.PathLike[str] | None,
    data: TrainingData,
    output: str | os.PathLike[str],
    settings: TrainingSettings | None = None,
    *,
    device: str | torch.device = "cpu",
    validate: Callable[[Model], Mapping[str, float]] | None = None,
    guard: Mapping[str, float] | None = None,
    tensorboard: bool = False,
    progress: bool = True,
) -> Model:
    """Fine-tune a CLIP model on captions with hard negatives and hard positives.

    After an interruption, the same call resumes from the last checkpoint and ends in the same
    weights as an uninterrupted run (on one device with one number of threads): every random choice
    follows from the seed and the step. Dropout is off, and statistics of batch norms stay as they
    are.
    QuickGELU is kept where the model has it, in what is written, too.

    Where torch.distributed has been started, its ranks take each step together; all call this with
    the same arguments and see the same ``output``. Each encodes its share of a batch and gets the
    features of all (`fastclip.distributed.gather`), from which each computes the whole loss;
    gradients are added up. Steps are therefore those of one process, up to the order of sums, and a
    run may resume with another number of ranks. Rank 0 validates and writes; the others wait, no
    longer than the timeout of the process group.

    Parameters
    ----------
    name, pretrained
        As of `fastclip.models.load`.
    data : TrainingData
        `ItemData`, or anything with its methods.
    output : path-like
        A folder, made if need be; it gets

        ==========================  ==============================================================
        ``model.safetensors`` and   the model in open_clip's format, for `fastclip.models.load`;
        ``open_clip_config.json``   written last
        ``log.csv``                 loss, its parts and the learning rate of every step
        ``validation.csv``          what ``validate`` returned, by the number of steps before it
        ``checkpoint.pt``           the state to resume from
        ==========================  ==============================================================
    settings : TrainingSettings, optional
    device : str or torch.device
    validate : callable, optional
        From a model to figures with fixed names: `Validation`, or one's own.
    guard : mapping from names of figures to float, optional
        How far each of these figures of ``validate`` may fall below its value before the first
        step. Where one falls further, training ends, with a warning, in the weights of the last
        validation that passed; ``validation_steps`` says how often that is looked at.
    tensorboard : bool
        Also write the contents of both tables for TensorBoard, into the folder ``tensorboard`` of
        ``output``, with every checkpoint.
    progress : bool
        Show a bar with the parts of the loss on stderr, where that is a terminal.

    Returns
    -------
    Model
        The trained model, loaded from ``output``.

    Raises
    ------
    ValueError
        A setting or the model is not allowed, there are fewer captions than ``batch_size``, the
        loss is NaN, ``guard`` names a figure that ``validate`` does not return, or ``output``
        holds a run with other settings, data or model, or another process is at work in it. Or
        ranks have other arguments, or are more than ``batch_size``.
    fastclip.distributed.RankError
        Another rank has failed, has ended or does not answer.
    ImportError
        ``lora_rank`` is not 0 and peft is missing, or ``tensorboard`` is asked for and missing.

    Examples
    --------
    >>> import fastclip, tempfile
    >>> from PIL import Image
    >>> from fastclip.data import HardPositiveItem, find_item_images
    >>> from fastclip.training import ItemData, TrainingSettings
    >>> items = [HardPositiveItem("red", "a red wall", ("a crimson wall",), ("a blue wall",))]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (30, 20), "red").save(f"{folder}/red.png")
    ...     data = ItemData(items, find_item_images(items, folder))
    ...     settings = TrainingSettings(epochs=1, batch_size=1, warmup=0)
    ...     out = f"{folder}/out"
    ...     model = fastclip.train("ViT-S-32-alt", "random", data, out, settings, progress=False)
    >>> model.dim
    256
    """
    objective = HardCaptions(data, settings or TrainingSettings())
    return run_objective(
        name, pretrained, objective, output,
        device=device, validate=validate, guard=guard, tensorboard=tensorboard, progress=progress,
    )  # fmt: skip


def run_objective(
    name: str,
    pretrained: str | os.PathLike[str] | None,
    objective: Objective[B],
    output: str | os.PathLike[str],
    *,
    device: str | torch.device,
    validate: Callable[[Model], Mapping[str, float]] | None,
    guard: Mapping[str, float] | None,
    tensorboard: bool,
    progress: bool,
) -> Model:
    """Fine-tune a CLIP model with any objective; all else as in `train`."""
    ranks = started_ranks()
    held = ExitStack()

    def start() -> _Run[B]:
        run = _Run(name, pretrained, objective, Path(output), device, ranks)
        run.watch(validate, guard)
        if ranks.rank == 0:
            held.enter_context(lock(run.output))
            remove_unfinished(run.output)
        run.resume()
        if tensorboard and ranks.rank == 0:
            run.board = TensorBoardLog(run.output / "tensorboard")
        return run

    with held:
        run = ranks.together(start, _Run.arguments)
        if ranks.rank == 0 and (short := _short_warmup(run.settings, len(run.batches))):
            warnings.warn(short, stacklevel=3)
        _take_steps(run, ranks, progress)
        ranks.on_first(run.export)
        if run.stopped and ranks.rank == 0:
            warnings.warn(run.stopped, stacklevel=3)
        return load(str(run.output), device=device)


class _Run(Generic[B]):
    """A training run: model, optimizer and log, at some step."""

    def __init__(
        self,
        name: str,
        pretrained: str | os.PathLike[str] | None,
        objective: Objective[B],
        output: Path,
        device: str | torch.device,
        ranks: OneProcess = ALONE,
    ) -> None:
        self.ranks = ranks
        self.objective = objective
        self.settings = settings = objective.settings
        self.output = output
        self.name = name
        weights = None if pretrained is None else os.fspath(pretrained)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)  # of untrained weights
            self.model = load(name, weights, device=device)
        self.module = self.model.module
        self.batches = Batches(objective, self.model.preprocess, self.ranks)
        self.tuner = None
        if settings.lora_rank:
            self.tuner = add_lora(self.module, settings.lora_rank, settings.seed)
        self.trained = {n: p for n, p in self.module.named_parameters() if p.requires_grad}
        matrices = [p for p in self.trained.values() if p.ndim >= 2]
        others = [p for p in self.trained.values() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.lr,
            betas=(0.9, 0.98),
            eps=1e-6,
        )
        self.scaler = torch.amp.GradScaler(
            self.model.device.type, enabled=settings.precision == "fp16"
        )
        self.step = 0
        self.log: list[dict[str, float]] = []
        self.validations: list[dict[str, float]] = []
        self.board: TensorBoardLog | None = None
        self.validate: Callable[[Model], Mapping[str, float]] | None = None
        self.guard: Mapping[str, float] = {}
        self.passed: dict[str, torch.Tensor] = {}  # weights of the last validation that passed
        self.stopped = ""  # why, if the guard has ended the run
        self.identity = {
            "model": name,
            "pretrained": weights,
            "data": objective.data.digest(),
            "captions": len(objective.data),
            **asdict(settings),
        }
        output.mkdir(parents=True, exist_ok=True)

    def arguments(self) -> dict[str, Any]:
        """What must be the same on all ranks."""
        return {
            **self.identity,
            "output": str(self.output.resolve()),
            "step of the checkpoint": self.step,
            "guard": dict(self.guard),
            "validate is given": self.validate is not None,
        }

    def take_step(self, batch: B) -> dict[str, float]:
        """Move the weights along the gradient of a batch; return the parts of its loss."""
        rate = self.settings.rate_at(self.step, len(self.batches))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parts = self._backward(batch)
        numbers = {name: part.item() for name, part in parts.items()}
        if not math.isfinite(numbers["loss"]):
            raise ValueError(
                f"loss: is {numbers['loss']} in step {self.step}; lower lr (it is "
                f"{self.settings.lr}) or take precision fp32 (it is {self.settings.precision!r})"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.module.logit_scale.clamp_(0, math.log(100))
        self.step += 1
        self.log.append({"step": self.step, "learning_rate": rate, **numbers})
        return numbers

    def _backward(self, batch: B) -> Parts:
        """Gradients of the loss of a whole batch: each rank encodes its share of images and texts.

        In parts, where the share is large: the features first, without a graph; the loss and its
        gradient in the features; then each part again, with that gradient handed on (Gao et al.,
        *Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup*, 2021).
        """
        device = self.model.device
        size = self.settings.micro_batch_size or len(batch.images)
        images = [part.to(device) for part in batch.images.split(size)]
        tokens = self.model.tokenizer(self.ranks.own(batch.texts)).to(device).split(size)
        inputs = [(True, part) for part in images] + [(False, part) for part in tokens]
        at_once = len(images) == 1
        with torch.set_grad_enabled(at_once):
            encoded = [self._encode(*part) for part in inputs]
        leaves = encoded if at_once else [rows.requires_grad_() for rows in encoded]
        of_images = self.ranks.gather(torch.cat(leaves[: len(images)]))
        of_texts = self.ranks.gather(torch.cat(leaves[len(images) :]))
        parts = self.objective.loss(batch, of_images, of_texts, self.module)
        # Each rank has the whole loss: the gradients of all of them are added up.
        self.scaler.scale(parts["loss"] / self.ranks.size).backward()
        if not at_once:
            for part, leaf in zip(inputs, leaves, strict=True):
                self._encode(*part).backward(leaf.grad)
        self.ranks.add_up([p.grad for p in self.trained.values() if p.grad is not None])
        return {name: part.detach() for name, part in parts.items()}

    def _encode(self, images: bool, part: torch.Tensor) -> torch.Tensor:
        kind = self.model.device.type
        dtype = _AUTOCAST.get(self.settings.precision)
        encode = self.objective.encode_images if images else text_features
        with torch.autocast(kind, dtype, enabled=dtype is not None):
            rows = encode(self.module, part)
        return F.normalize(rows.float(), dim=1)

    def watch(
        self,
        validate: Callable[[Model], Mapping[str, float]] | None,
        guard: Mapping[str, float] | None,
    ) -> None:
        """Validate with ``validate``, and stop where a figure falls further than ``guard`` says."""
        if guard and validate is None:
            raise ValueError("guard: needs validate, whose figures it watches")
        check_at_least(0, **{f"guard[{name!r}]": fall for name, fall in (guard or {}).items()})
        self.validate, self.guard = validate, guard or {}

    def validate_if_due(self) -> None:
        """Before the first step, after the last one, and every ``validation_steps``."""
        every = self.settings.validation_steps
        due = self.step in (0, len(self.batches)) or (every and self.step % every == 0)
        done = any(entry["step"] == self.step for entry in self.validations)
        validate = self.validate
        if validate is None or self.stopped or done or not due:
            return

        def measured() -> dict[str, float]:
            return {name: float(figure) for name, figure in validate(self.model).items()}

        figures = {"step": self.step, **self.ranks.on_first(measured)}
        self.validations.append(figures)
        if self.guard:
            self._judge(self.validations[0], figures)

    def _judge(self, first: Mapping[str, float], now: Mapping[str, float]) -> None:
        unknown = [name for name in self.guard if name not in now]
        if unknown:
            known = ", ".join(name for name in now if name != "step")
            raise ValueError(f"guard: {unknown[0]!r} is no figure of validate, which are: {known}")
        fallen = [
            f"{name} fell from {first[name]:.4f} to {now[name]:.4f}"
            for name, allowed in self.guard.items()
            if not now[name] >= first[name] - allowed  # NaN stops, too
        ]
        if fallen:
            self.module.load_state_dict(self.passed)
            self.stopped = (
                f"training ended at step {self.step}: {'; '.join(fallen)}; "
                "the weights are those of the validation before"
            )
        else:
            state = self.module.state_dict()
            self.passed = {name: weight.clone() for name, weight in state.items()}

    def save(self) -> None:
        """Write the checkpoint and the logs, each whole or not at all."""
        state = {
            "step": self.step,
            # All of them: peft adds its updates to frozen weights and takes them off again in
            # every step, which does not end in quite the same bits.
            "weights": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "log": self.log,
            "validations": self.validations,
            "passed": self.passed,
            "stopped": self.stopped,
        }
        write_checkpoint(self.output, self.identity, state)
        write_table(self.output / "log.csv", self.log)
        write_table(self.output / "validation.csv", self.validations)
        if self.board is not None:
            self.board.write(self.log, self.validations)

    def resume(self) -> None:
        """Take over the checkpoint of the folder, if there is one."""
        state = read_checkpoint(self.output, self.identity, self.model.device)
        if state is None:
            return
        self.step, self.log, self.validations = state["step"], state["log"], state["validations"]
        self.passed, self.stopped = state.get("passed", {}), state.get("stopped", "")
        self.module.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def export(self) -> None:
        """Write the model, with low-rank updates added to its weights."""
        weights = merged(self.tuner, self.module)
        write_model(self.output, self.name, self.identity["pretrained"], self.module, weights)


def _short_warmup(settings: RunSettings, steps: int) -> str:
    """Say so where training ends before the learning rate has risen to what was asked for."""
    if settings.warmup <= steps or not settings.lr:
        return ""
    highest = settings.rate_at(steps - 1, steps)
    return (
        f"warmup: is {settings.warmup}, but training has {steps} steps, so that the learning rate "
        f"rises to {highest:.2g} only, not to lr {settings.lr:.2g}: lower warmup, or train for "
        "more epochs or with a smaller batch_size"
    )


def _take_steps(run: _Run[B], ranks: OneProcess, progress: bool) -> None:
    with _bar(run, progress and ranks.rank == 0) as show, ThreadPoolExecutor(1) as ahead:
        steps = len(run.batches)
        more = run.step < steps and not run.stopped
        waiting = ahead.submit(run.batches.load, run.step) if more else None
        while waiting is not None:
            run.validate_if_due()
            if run.stopped:
                break
            batch = ranks.together(waiting.result)
            more = run.step + 1 < steps
            waiting = ahead.submit(run.batches.load, run.step + 1) if more else None
            show(run.take_step(batch))
            if run.step % run.settings.checkpoint_steps == 0 or run.step == steps:
                ranks.on_first(run.save)
    run.validate_if_due()
    ranks.on_first(run.save)


@contextmanager
def _bar(run: _Run[B], shown: bool) -> Iterator[Callable[[dict[str, float]], None]]:
    with show_progress("training", "steps", shown=shown) as report:

        def show(parts: dict[str, float]) -> None:
            listed = "  ".join(f"{name.replace('_', ' ')} {x:.3f}" for name, x in parts.items())
            report(run.step, len(run.batches), listed)

        report(run.step, len(run.batches))
        yield show
