"""What is trained, and how: each setting once, with its default, bounds and documentation."""

from __future__ import annotations

import inspect
import math
import textwrap
from dataclasses import Field, dataclass, field, fields
from typing import Any

from fastclip.data.checks import check_at_least, check_choice

from .losses import LOSSES

PRECISIONS = ("fp32", "bf16", "fp16")


def setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a field of `Settings`; the command line has an option for it."""
    about = {"text": text, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Settings:
    """Base of dataclasses of settings, which checks them and adds them to the docstring.

    A class may give a setting that it inherits another default, and nothing else.
    """

    def __init_subclass__(cls) -> None:
        known: dict[str, tuple[Any, Field[Any]]] = {f.name: (f.type, f) for f in fields(cls)}
        for name, kind in inspect.get_annotations(cls).items():
            value = vars(cls)[name]
            if name in known:
                value = field(default=value, metadata=known[name][1].metadata)
                setattr(cls, name, value)
            if isinstance(value, Field):
                known[name] = kind, value
        lines = ["Attributes", "----------"]
        for name, (kind, one) in known.items():
            if one.metadata:
                lines.append(f"{name} : {kind}, default {one.default!r}")
                lines.append(textwrap.indent(textwrap.fill(one.metadata["text"], 92), " " * 4))
        text, mark, examples = inspect.cleandoc(cls.__doc__ or "").partition("Examples\n")
        cls.__doc__ = "\n".join([text.rstrip(), "", *lines, "", mark + examples])

    def __post_init__(self) -> None:
        """Check every setting.

        Raises
        ------
        ValueError
            One is out of range; the message names it.
        """
        for one in (one for one in fields(self) if one.metadata):
            name, value = one.name, getattr(self, one.name)
            low, high, choices = (one.metadata[key] for key in ("low", "high", "choices"))
            if choices:
                check_choice(name, value, choices)
            elif high is not None and not low <= value <= high:
                raise ValueError(f"{name}: is {value}, allowed: {low:g} to {high:g}")
            elif low is not None:
                check_at_least(low, **{name: value})


@dataclass(frozen=True)
class RunSettings(Settings):
    """How a run trains, whatever it minimises."""

    epochs: int = setting(5, "Passes over the captions.", low=1)
    batch_size: int = setting(
        256,
        "Images of a step, on all ranks together; the loss is of all of them. The last, smaller "
        "batch of an epoch is left out.",
        low=1,
    )
    micro_batch_size: int | None = setting(
        None,
        "Images, and texts, that a rank encodes at once: saves memory for the same gradients, but "
        "computes features twice. Default: the whole batch.",
        low=1,
    )
    lr: float = setting(
        1e-6, "The highest learning rate: reached after the warmup, then a cosine down to 0.", low=0
    )
    warmup: int = setting(50, "Steps until the learning rate is at its highest.", low=0)
    weight_decay: float = setting(0.1, "Weight decay of AdamW, for matrices only.", low=0)
    precision: str = setting(
        "fp32",
        "Numeric precision of the computation, by torch's autocast; weights and losses are "
        "float32.",
        choices=PRECISIONS,
    )
    lora_rank: int = setting(
        0,
        "0: train all weights. Otherwise low-rank updates of attention and MLP alone (peft), "
        "merged into the weights that are written; the scale of the logits stays as it is.",
        low=0,
    )
    seed: int = setting(0, "Seed of all random choices.", low=0)
    checkpoint_steps: int = setting(
        100, "Steps between checkpoints: what a kill can cost, at most.", low=1
    )
    validation_steps: int = setting(
        0,
        "Steps between validations. 0: validate before the first step and after the last one only.",
        low=0,
    )

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step, from 0, of ``steps``."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        left = (step - self.warmup) / max(1, steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * left))


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """Settings of `fastclip.train`.

    ``hard_images`` needs `ItemData` with ``similar``.

    Examples
    --------
    >>> from fastclip.training import TrainingSettings
    >>> settings = TrainingSettings(lr=1.0, warmup=10)
    >>> [settings.rate_at(step, steps=110) for step in (0, 9, 60)]
    [0.1, 1.0, 0.5]
    """

    loss: str = setting(
        "hard-positives", "The loss to minimise: see fastclip.training.LOSSES.",
        choices=tuple(LOSSES),
    )  # fmt: skip
    negatives: float = setting(
        1.0,
        "Share of the captions whose hard negative is used, drawn anew in each epoch; of several, "
        "one is drawn.",
        low=0,
        high=1,
    )
    positives: float = setting(
        1.0, "Share of the captions whose hard positive is used, drawn alike.", low=0, high=1
    )
    hard_images: bool = setting(
        False,
        "Add to each image of a batch one that looks like it to the model before training, as "
        "NegCLIP does, so that a step is of up to twice as many images.",
    )
