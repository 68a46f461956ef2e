"""What is trained, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .losses import LOSSES

PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class RunSettings:
    """How a run trains, whatever it minimises.

    Attributes
    ----------
    epochs : int
    batch_size : int
        Images of a step, on all ranks together; the loss is of all of them. The last, smaller batch
        of an epoch is left out.
    micro_batch_size : int, optional
        Images, and texts, that a rank encodes at once: the memory of activations. Gradients are
        those of the whole batch (its features are computed twice). Default: ``batch_size``.
    lr : float
        The highest learning rate: reached after ``warmup`` steps, then a cosine down to 0.
    warmup : int
        Steps.
    weight_decay : float
        Of AdamW, for matrices only.
    precision : "fp32", "bf16" or "fp16"
        Of the computation, by torch's autocast. Weights and losses are float32.
    lora_rank : int
        0 trains all weights; otherwise low-rank updates of attention and MLP alone (peft), merged
        into the weights that are written. The scale of the logits stays as it is then.
    seed : int
    checkpoint_steps : int
        What a kill can cost, at most.
    validation_steps : int
        0: validate before the first step and after the last one only.
    """

    epochs: int = 5
    batch_size: int = 256
    micro_batch_size: int | None = None
    lr: float = 1e-6
    warmup: int = 50
    weight_decay: float = 0.1
    precision: str = "fp32"
    lora_rank: int = 0
    seed: int = 0
    checkpoint_steps: int = 100
    validation_steps: int = 0

    def __post_init__(self) -> None:
        """Check every setting.

        Raises
        ------
        ValueError
            One is out of range; the message names it.
        """
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("epochs", "batch_size", "checkpoint_steps", "micro_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: is {value}, allowed: 1 or more")
        for name in ("lr", "warmup", "weight_decay", "lora_rank", "seed", "validation_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: is {getattr(self, name)}, allowed: 0 or more")

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate of a step, from 0, of ``steps``."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        left = (step - self.warmup) / max(1, steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * left))


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """Settings of `fastclip.train`: those of `RunSettings`, and

    Attributes
    ----------
    loss : str
        ``"hard-positives"`` (`hard_positive_loss`), ``"negclip"``, ``"svlc"`` or ``"clip"``.
    negatives, positives : float, 0 to 1
        Share of the captions whose hard negative, and whose hard positive, is used; drawn anew in
        each epoch. Of several, one is drawn.
    hard_images : bool
        Add to each image of a batch one that looks like it, as NegCLIP does, so that a step is of
        up to twice ``batch_size`` images. Needs `ItemData` with ``similar``.

    Examples
    --------
    >>> from fastclip.training import TrainingSettings
    >>> settings = TrainingSettings(lr=1.0, warmup=10)
    >>> [settings.rate_at(step, steps=110) for step in (0, 9, 60)]
    [0.1, 1.0, 0.5]
    """

    loss: str = "hard-positives"
    negatives: float = 1.0
    positives: float = 1.0
    hard_images: bool = False

    def __post_init__(self) -> None:
        """As of `RunSettings`."""
        super().__post_init__()
        check_choice("loss", self.loss, tuple(LOSSES))
        for name in ("negatives", "positives"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: is {getattr(self, name)}, allowed: 0 to 1")


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError if ``value``, of the setting ``name``, is none of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name}: is {value!r}, allowed: {', '.join(allowed)}")
