"""Runs of one process and of two ranks, for test_ranks.py.

usage: python ranks.py FOLDER

Each rank is a fork, without the seconds that importing torch takes, and writes FOLDER/output-RANK.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import small
import torch
import torch._dynamo  # optimizers would, in each process
from PIL import Image
from torch import distributed as dist
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.data import HardPositiveItem, find_captioned_images, find_item_images
from fastclip.distributed import RankError
from fastclip.training import ItemData, TrainingSettings, checkpoint, loop, train
from fastclip.training._ranks import OneProcess
from fastclip.ttd import DistillationSettings, TaggedImages, distill

RANKS = 2
COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange", "pink", "gray")
FAST = TrainingSettings(
    epochs=2, batch_size=5, lr=1e-3, warmup=2, checkpoint_steps=2, negatives=0.5, positives=0.5
)
COMMAND = ("train", "own.csv", "--images", "images", "--model", "model", "--batch-size", "3",
           "--epochs", "1", "--lr", "1e-3", "--hard-images", "--loss", "negclip")  # fmt: skip


def make_inputs() -> None:
    (FOLDER / "images").mkdir()
    lines = ["image,caption,hard_positive,hard_negative"]
    for i, colour in enumerate(COLOURS):
        image = Image.new("RGB", (32, 32), colour)
        image.paste("gray", (2 * i, 0, 2 * i + 8, 16))
        image.save(FOLDER / "images" / f"{i}.png")
        (FOLDER / "images" / f"{i}.txt").write_text(f"a {colour} house with a cat")
        lines.append(f"{i}.png,a {colour} wall,the {colour} wall,a {colour} cat")
    (FOLDER / "own.csv").write_text("\n".join(lines) + "\n")
    small.save(FOLDER / "model", small.VIT)


def data() -> ItemData:
    items = [
        HardPositiveItem(
            str(i), f"a {colour} wall", (f"the {colour} wall",), (f"a {colour} cat", "a wall")
        )
        for i, colour in enumerate(COLOURS)
    ]
    near = torch.tensor([[(i + 1) % 10, (i + 2) % 10] for i in range(10)])
    return ItemData(items, find_item_images(items, FOLDER / "images"), similar=near)


def go(output: str, of_rank: Any = None, **changes: Any) -> fastclip.models.Model:
    settings = dataclasses.replace(FAST, **changes)
    return train(
        str(FOLDER / "model"), None, of_rank or data(), FOLDER / output, settings,
        validate=validate, progress=False,
    )  # fmt: skip


def validate(model: fastclip.models.Model) -> dict[str, float]:
    assert not dist.is_initialized() or dist.get_rank() == 0
    return {"scale": model.module.logit_scale.item()}


def go_distilling(output: str, **changes: Any) -> None:
    found = find_captioned_images(FOLDER / "images")
    tags = [["house", "cat"], ["house"], ["cat", "house"], *[["house", "cat"]] * 7]
    settings = DistillationSettings(batch_size=3, lr=1e-3, warmup=2, **changes)
    images = TaggedImages(found, tags)
    distill(str(FOLDER / "model"), None, images, FOLDER / output, settings, progress=False)


def go_in_parts(output: str, size: int = 2) -> None:
    go(output, loss="svlc", hard_images=True, micro_batch_size=size)


def run_alone() -> None:
    go("whole")
    go_in_parts("parts-1")
    go_distilling("tags-1")
    result = CliRunner().invoke(app, [*COMMAND, "--output", "command-1"])
    assert result.exit_code == 0, result.stderr


def divide_alone() -> None:
    """The same runs of one process, which only encodes other numbers of rows at once."""
    go("whole-divided", micro_batch_size=3)
    go_in_parts("parts-divided", 3)
    go_distilling("tags-divided", micro_batch_size=2)
    result = CliRunner().invoke(
        app, [*COMMAND, "--micro-batch-size", "2", "--output", "command-divided"]
    )
    assert result.exit_code == 0, result.stderr


def go_wrong() -> None:
    """Runs of one process with a mistake that ranks could make."""
    take_step = loop._Run.take_step

    def lose_a_row(ranks: OneProcess, rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows[:-1], rows[-1:].detach()])

    def divide_by_five_of_six(ranks: OneProcess, tensors: Sequence[torch.Tensor]) -> None:
        for tensor in tensors:
            tensor.mul_(6 / 5)

    def repeat_a_step(run: Any, batch: Any) -> Any:
        if run.step == 2:
            take_step(run, batch)
            run.step -= 1
            run.log.pop()
        return take_step(run, batch)

    def forget_moments(run: Any, batch: Any) -> Any:
        if run.step == 2:
            run.optimizer.state.clear()
        return take_step(run, batch)

    for owner, name, mistake in (
        (OneProcess, "gather", lose_a_row),
        (OneProcess, "add_up", divide_by_five_of_six),
        (loop._Run, "take_step", repeat_a_step),
        (loop._Run, "take_step", forget_moments),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, mistake)
            go(mistake.__name__)


def run_command(rank: int) -> None:
    result = CliRunner().invoke(app, [*COMMAND, "--output", "command-2"])
    assert result.exit_code == 0, result.stderr
    assert ("loss: " in result.stdout) == (rank == 0)
    result = CliRunner().invoke(app, [*COMMAND, "--output", "none", "--device", "cuda:0"])
    assert "--device: is 'cuda:0', allowed under torchrun: cpu, cuda" in result.stderr
    assert not dist.is_initialized()


def run_together(rank: int) -> None:
    go_in_parts("parts-2")
    go_distilling("tags-2")


def check_errors(rank: int) -> None:
    with pytest.raises(ValueError, match="batch_size: is 1, allowed: 2 or more, an image for each"):
        go("none", batch_size=1)
    with pytest.raises(
        ValueError, match=r"lr: must be the same on all ranks, got 0.5 on rank 0 an"
    ):
        go("none", lr=0.5 + rank)
    with pytest.raises(ValueError, match=r"output: must be the same on all ranks, got '/.*none0' "):
        go(f"none{rank}")
    kind, model = (ValueError, "absent") if rank else (RankError, "model")
    with pytest.raises(kind, match=r"name: is '/.*/absent', allowed: an architecture of open_clip"):
        train(str(FOLDER / model), None, data(), FOLDER / "none", FAST)
    assert not [path for path in FOLDER.glob("none*/*") if path.name != ".lock"]


class Unreadable:
    """Data whose images one rank cannot read from some step on."""

    def __init__(self, rank: int) -> None:
        self.data, self.rank, self.left = data(), rank, 2

    def __len__(self) -> int:
        return len(self.data)

    def images(self, indices: Any, preprocess: Any) -> torch.Tensor:
        self.left -= 1
        if self.rank == 1 and self.left < 0:
            raise ValueError("7.png: not an image")
        return self.data.images(indices, preprocess)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)


def check_unreadable_images(rank: int) -> None:
    kind, prefix = (ValueError, "^") if rank else (RankError, "^rank 1 failed: ValueError: ")
    with pytest.raises(kind, match=prefix + r"7\.png: not an image"):
        go("unreadable", Unreadable(rank))


def full_disk(*_: Any) -> None:
    raise OSError("disk full")


def check_full_disk(rank: int) -> None:
    kind = RankError if rank else OSError
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "sink", full_disk)
        with pytest.raises(kind, match="disk full"):
            go("full")


def check_killed_rank(rank: int) -> None:
    """Rank 1 ends in the middle of the run; the last check."""
    take_step = loop._Run.take_step

    def dies(self: Any, batch: Any) -> Any:
        if self.step == 3:
            (FOLDER / "ok-1").touch()  # as `start` does for the others
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(self, batch)

    if rank == 1:
        loop._Run.take_step = dies
    begin = time.monotonic()
    with pytest.raises(RankError, match="rank 0 of 2 had no answer from another rank, which has e"):
        go("killed")
    assert time.monotonic() - begin < 20  # the timeout is 30 minutes
    assert not (FOLDER / "killed" / "model.safetensors").exists()


def main(rank: int) -> None:
    if rank == 0:
        run_alone()
    else:  # which would wait
        divide_alone()
        go_wrong()
    place = {"RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "localhost", "MASTER_PORT": PORT}
    with pytest.MonkeyPatch.context() as patch:  # as torchrun does
        for name, value in place.items():
            patch.setenv(name, str(value))
        run_command(rank)
    dist.init_process_group("gloo", f"file://{FOLDER}/store", rank=rank, world_size=RANKS)
    for check in (
        run_together,
        check_errors,
        check_unreadable_images,
        check_full_disk,
        check_killed_rank,
    ):
        print(f"{check.__name__}, {time.process_time():.2f} s so far", flush=True)
        check(rank)


def start(rank: int) -> int:
    child = os.fork()
    if child:
        return child
    output = os.open(FOLDER / f"output-{rank}", os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    try:
        main(rank)
        (FOLDER / f"ok-{rank}").touch()
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # not to wait for a group that has lost a rank


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    torch.set_num_threads(1)
    # Or else rounding alone moves a weight that has no gradient by as much as any other.
    adamw = torch.optim.AdamW
    torch.optim.AdamW = lambda *groups, **options: adamw(*groups, **{**options, "eps": 1e-2})
    os.chdir(FOLDER)
    make_inputs()
    fastclip.models.load("model")  # imports what else there is to import
    with socket.socket() as free:
        free.bind(("localhost", 0))
        PORT = free.getsockname()[1]
    children = [start(rank) for rank in range(RANKS)]
    for child in children:
        os.waitpid(child, 0)
    go("killed")  # which one process goes on with
