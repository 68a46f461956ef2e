"""What ``fastclip train`` and ``fastclip distill`` share: how a run trains, and what it says."""

import csv
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from fastclip.training.settings import RunSettings

_WAIT = timedelta(days=1)  # at most, for what rank 0 does alone, such as validation


Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="DIR", help="Folder of the model, checkpoints and logs."
    ),
]
IMAGES = (
    "Where the images are, found by name: a folder, a pattern, or .tar or .parquet files, as for "
    "'embed-images'."
)
ZeroShot = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE",
        help="Validate with zero-shot accuracy: a .csv or .tsv with the columns image (a path "
        "relative to it) and class.",
    ),
]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Also log for TensorBoard, in DIR/tensorboard.")
]


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each setting of the class of its parameter ``settings``."""
    # Not get_type_hints, which wraps what is None by default in Python 3.10.
    declared = inspect.signature(command, eval_str=True).parameters
    kind = declared["settings"].annotation
    options = list(_options(kind))
    parameters = []
    for one in declared.values():
        if one.name == "settings":
            parameters += options
        else:
            parameters.append(one.replace(kind=one.KEYWORD_ONLY))

    def run(**given: Any) -> None:
        chosen = {one.name: given.pop(one.name) for one in options}
        command(settings=kind(**chosen), **given)

    run.__doc__ = command.__doc__
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _options(kind: type[RunSettings]) -> Iterator[inspect.Parameter]:
    """An option for each setting, those of ``kind`` itself first."""
    hints = get_type_hints(kind)
    shared = [one.name for one in fields(RunSettings)]
    for one in sorted(fields(kind), key=lambda one: one.name in shared):
        if not one.metadata:
            continue
        text, low, high, choices = one.metadata.values()
        option = typer.Option(f"--{one.name.replace('_', '-')}", min=low, max=high, help=text)
        if choices:
            hints[one.name] = Literal[choices]
        yield inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=one.default,
            annotation=Annotated[hints[one.name], option],
        )


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


def show_change(folder: Path, steps: int) -> None:
    """Print each figure before and after training.

    Losses of two steps are of different captions and tell no trend: what is compared is the mean
    of the first epoch and of the last one that is whole, of ``steps`` steps each. Where there are
    no two whole epochs, the mean of all steps is printed.
    """
    if (folder / "validation.csv").is_file():
        rows = _figures(folder / "validation.csv")
        for name, before in rows[0].items():
            typer.echo(f"{name}: {before:.4f} -> {rows[-1][name]:.4f}")
    rows = _figures(folder / "log.csv")
    epochs = len(rows) // steps
    typer.echo(
        f"means of epochs 1 and {epochs}:"
        if epochs > 1
        else f"means of {len(rows)} steps, no trend, for which 2 epochs are needed:"
    )
    parts = [rows]
    if epochs > 1:
        parts = [rows[:steps], rows[(epochs - 1) * steps : epochs * steps]]
    for name in rows[0]:
        means = [sum(row[name] for row in part) / len(part) for part in parts]
        typer.echo(f"{name}: {' -> '.join(f'{mean:.4f}' for mean in means)}")


def _figures(table: Path) -> list[dict[str, float]]:
    with open(table, encoding="utf-8", newline="") as file:
        return [
            {name: float(x) for name, x in row.items() if name not in ("step", "learning_rate")}
            for row in csv.DictReader(file)
        ]
