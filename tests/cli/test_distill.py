from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small
from PIL import Image
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app

pytestmark = pytest.mark.host
FAST = ("--model", "model", "--batch-size", 2, "--output", "out", "--lr", 1e-3, "--warmup", 1)


def run(*arguments: object):
    return CliRunner().invoke(app, ["distill", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines, table = ["image,caption"], ["image,class"]
    for colour in ("red", "green", "blue", "white"):
        Image.new("RGB", (32, 32), colour).save(f"{colour}.png")
        lines.append(f"{colour}.png,a {colour} house and a cat")
        table.append(f"{colour}.png,{colour} house")
    lines.append("red.png,so it is")
    Path("own.csv").write_text("\n".join(lines) + "\n")
    Path("classes.csv").write_text("\n".join(table) + "\n")
    small.save(tmp_path / "model", small.VIT)
    return tmp_path


def test_trains_and_watches(folder: Path) -> None:
    result = run("own.csv", *FAST, "--zero-shot", "classes.csv", "--retrieval", "own.csv",
                 "--guard", 1.0, "--map-size", 8)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    for name in ("zero_shot_accuracy", "text_to_image_recall", "loss", "text", "tag"):
        assert f"\n{name}: " in f"\n{result.stdout}"
    assert "left out: 1 captions without a tag" in result.stderr
    assert fastclip.models.load("out").dim == 24
    assert len((folder / "out" / "log.csv").read_text().splitlines()) == 3


def test_images_elsewhere_and_in_tables(folder: Path) -> None:
    header, *lines = Path("own.csv").read_text().splitlines()[:5]  # each image once
    Path("own.csv").write_text("\n".join([header, *lines]))
    rows = [line.split(",") for line in lines]
    images = [{"bytes": (folder / name).read_bytes(), "path": name} for name, _ in rows]
    column = pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    both = {"image": column, "caption": [caption for _, caption in rows]}
    pq.write_table(pa.table(both), "own.parquet")
    (folder / "photos").mkdir()
    for name, _ in rows:
        (folder / name).rename(folder / "photos" / name)
    logs = []
    for output, source in (
        ("a", ("own.parquet",)),
        ("b", ("own.csv", "--images", "photos")),
        ("c", ("own.csv", "--images", "own.parquet")),
    ):
        result = run(*source, *FAST, "--warmup", 0, "-o", output)
        assert result.exit_code == 0, result.stderr
        logs.append((folder / output / "log.csv").read_text())
    assert logs[0] == logs[1] == logs[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.csv", *FAST), "absent.csv: no such file"),
        (("own.csv", *FAST, "--guard", 0.1), "--guard: needs --zero-shot or --retrieval"),
        (("own.csv", *FAST, "--student", "raw"), "student: is 'raw', allowed with distance 'bce'"),
        (("own.csv", *FAST, "--words", "phrases"), "'wordnet' finds no adjectives, so no phrases"),
        (("own.csv", *FAST, "--caption-column", "text"), "column is 'text', allowed: image, capt"),
    ],
)
def test_errors_are_one_line(folder: Path, arguments: tuple[object, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
