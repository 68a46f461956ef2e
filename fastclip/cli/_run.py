"""What ``fastclip train`` and ``fastclip distill`` share: how a run trains, and what it says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

_WAIT = timedelta(days=1)  # at most, for what rank 0 does alone, such as validation


class Precision(str, Enum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="DIR", help="Gets the model, checkpoints and logs."),
]
Epochs = Annotated[int, typer.Option(min=1)]
BatchSize = Annotated[int, typer.Option(min=1)]
MicroBatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images encoded at once; less memory, same result.")
]
LearningRate = Annotated[float, typer.Option("--lr", min=0, help="The highest learning rate.")]
Warmup = Annotated[int, typer.Option(min=0, help="Steps.")]
WeightDecay = Annotated[float, typer.Option(min=0)]
OfComputation = Annotated[Precision, typer.Option(help="Of the computation.")]
LoraRank = Annotated[
    int,
    typer.Option(
        min=0, help="0: train all weights. Else low-rank updates; the logits' scale stays."
    ),
]
Seed = Annotated[int, typer.Option(min=0)]
CheckpointSteps = Annotated[int, typer.Option(min=1)]
ValidationSteps = Annotated[
    int, typer.Option(min=0, help="0: validate before and after training only.")
]
ZeroShot = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE",
        help="Validate with zero-shot accuracy: a .csv or .tsv with the columns image (a path "
        "relative to it) and class.",
    ),
]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Log for TensorBoard, too, in DIR/tensorboard.")
]


@contextmanager
def ranks(device: str) -> Iterator[tuple[str, bool]]:
    """Start torch.distributed where torchrun has started this process.

    Yields the device of this process, and whether it is the one that speaks.
    """
    if "WORLD_SIZE" not in os.environ:
        yield device, True
        return
    import torch
    from torch import distributed

    from fastclip.distributed import RankError

    if device not in ("cpu", "cuda"):
        raise ValueError(f"--device: is {device!r}, allowed under torchrun: cpu, cuda")
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("gloo" if device == "cpu" else "nccl", timeout=_WAIT)
    try:
        yield device, distributed.get_rank() == 0
    except RankError as error:
        raise ValueError(str(error)) from error  # a message, as others are
    finally:
        distributed.destroy_process_group()


def show_change(folder: Path) -> None:
    """Print each figure of the logs before and after training."""
    for name in ("validation.csv", "log.csv"):
        if (folder / name).is_file():
            header, *lines = (folder / name).read_text("utf-8").splitlines()
            first, last = (
                dict(zip(header.split(","), line.split(","), strict=True))
                for line in (lines[0], lines[-1])
            )
            for key, value in last.items():
                if key not in ("step", "learning_rate"):
                    typer.echo(f"{key}: {float(first[key]):.4f} -> {float(value):.4f}")
