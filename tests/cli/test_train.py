from __future__ import annotations

import csv
from pathlib import Path

import pytest
import small
from PIL import Image
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.cli._run import show_change

pytestmark = pytest.mark.host


def run(*arguments: object):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines, table = ["image,caption,hard_positive,hard_negative"], ["image,class"]
    for colour in ("red", "green", "blue", "white"):
        Image.new("RGB", (32, 32), colour).save(f"{colour}.png")
        lines.append(f"{colour},a {colour} wall,the {colour} wall,a {colour} cat")
        table.append(f"{colour}.png,{colour} wall")
    Path("own.csv").write_text("\n".join(lines) + "\n")
    Path("classes.csv").write_text("\n".join(table) + "\n")
    small.save(tmp_path / "model", small.VIT)
    return tmp_path


FAST = ("--model", "model", "--images", ".", "--batch-size", 2, "--epochs", 1, "--output", "out")


def test_trains_and_validates(folder: Path) -> None:
    validation = ("--benchmark", "own.csv", "--zero-shot", "classes.csv")
    result = run("own.csv", *FAST, *validation, "--loss", "svlc", "--negatives", 0.5)
    assert result.exit_code == 0, result.stderr
    assert not (folder / "out" / "tensorboard").exists()
    for name in ("brittleness", "zero_shot_accuracy", "loss", "caption_to_image"):
        assert f"\n{name}: " in f"\n{result.stdout}"
    assert fastclip.models.load("out").dim == 24
    log = (folder / "out" / "log.csv").read_text()
    assert len(log.splitlines()) == 3
    assert "means of 2 steps, no trend, for which 2 epochs are needed:" in result.stdout
    losses = [float(row["loss"]) for row in csv.DictReader(log.splitlines())]
    assert f"\nloss: {sum(losses) / 2:.4f}\n" in result.stdout
    result = run("own.csv", *FAST, *validation, "--loss", "clip", "--negatives", 0.5)
    assert result.exit_code == 1
    assert 'out: was begun with other inputs: loss was "svlc", is "clip"' in result.stderr


def test_a_warmup_longer_than_the_run_is_told_and_epochs_are_compared(folder: Path) -> None:
    result = run("own.csv", *FAST, "--epochs", 3, "--lr", 1e-3)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(
        "warning: warmup: is 50, but training has 6 steps, so that the learning rate rises to "
        "0.00012 only, not to lr 0.001"
    )
    with open("out/log.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    first, last = sum(losses[:2]) / 2, sum(losses[4:]) / 2
    assert "means of epochs 1 and 3:\n" in result.stdout
    assert f"\nloss: {first:.4f} -> {last:.4f}\n" in result.stdout
    for warmup in (0, 6):
        result = run("own.csv", *FAST, "--epochs", 3, "--warmup", warmup, "-o", f"out-{warmup}")
        assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (2, "means of 2 steps, no trend, for which 2 epochs are needed:\nloss: 0.5000\n"),
        (7, "means of 7 steps, no trend, for which 2 epochs are needed:\nloss: 3.0000\n"),
        (9, "means of epochs 1 and 2:\nloss: 1.5000 -> 5.5000\n"),
    ],
)
def test_a_run_that_a_guard_has_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: int, expected: str
) -> None:
    lines = [f"{step},{step},0.1" for step in range(rows)]
    (tmp_path / "log.csv").write_text("\n".join(["step,loss,learning_rate", *lines]) + "\n")
    show_change(tmp_path, 4)
    assert capsys.readouterr().out == expected


def test_a_benchmark_is_validated_as_far_as_it_is_complete(folder: Path) -> None:
    Path("mixed.csv").write_text(Path("own.csv").read_text() + "red,a wall,,a cat\n")
    result = run("own.csv", *FAST, "--warmup", 0, "--benchmark", "mixed.csv")
    assert result.exit_code == 0
    assert result.stderr == "mixed.csv: 4 of 5 items are scored, 1 have no hard positive\n"


def test_hard_images(folder: Path) -> None:
    for _ in range(2):  # the second finds all done
        result = run("own.csv", *FAST, "--hard-images", "--loss", "negclip")
        assert result.exit_code == 0, result.stderr
    assert fastclip.data.read_features("out/images").features.shape == (4, 24)
    result = run("own.csv", *FAST, "--loss", "negclip")
    assert "hard_images was true, is false" in result.stderr
    Path("red.png").write_bytes(b"no image")
    result = run("own.csv", *FAST[:-1], "other", "--hard-images")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: red.png: not an image")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.csv", *FAST), "absent.csv: no such file"),
        (("own.csv", *FAST, "--batch-size", 5), "batch_size: is 5, allowed: up to 4"),
        (("own.csv", *FAST, "--zero-shot", "own.csv"), "column is 'class', allowed: image, capt"),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: tuple[object, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_missing_images_stop_it(folder: Path) -> None:
    (folder / "red.png").unlink()
    result = run("own.csv", *FAST)
    assert result.exit_code == 1
    assert "1 images are missing: red: no such file" in result.stderr
