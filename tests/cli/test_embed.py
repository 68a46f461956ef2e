from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from tiny_encoder import TinyEncoder
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.data import read_features

pytestmark = pytest.mark.host


def run(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(autouse=True)
def loaded(monkeypatch):
    """Calls of `fastclip.models.load`, which gives a tiny model."""
    calls = []

    def load(name, pretrained=None, *, device="cpu", precision="fp32"):
        calls.append((name, pretrained, device, precision))
        return TinyEncoder()

    models = ModuleType("fastclip.models")
    models.load = load
    models.templates = lambda name: (f"{name} of a {{}}.", "{}")
    monkeypatch.setitem(sys.modules, "fastclip.models", models)
    monkeypatch.setattr(fastclip, "models", models, raising=False)
    return calls


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (40, 40 + i), colour).save(tmp_path / "photos" / f"{colour}.png")
    return tmp_path


TINY = ("--model", "Tiny", "--pretrained", "seed", "--output", "out")


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)  # coloured in some CI


def test_images_then_texts_then_topk(folder, loaded):
    result = run("embed-images", "photos", *TINY)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(r"out: 3 rows of 16 in 1 shard; [0-9.]+ s\n", result.stdout)
    assert loaded == [("Tiny", "seed", "cpu", "fp32")]
    (folder / "names.txt").write_text("cat\ndog\ncat\n")
    result = run("embed-texts", "names.txt", *TINY[:-1], "texts", "--templates", "imagenet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads((folder / "texts" / "job.json").read_text())["templates"] == [
        *("imagenet of a {}.", "{}")
    ]
    assert read_features(folder / "texts").names == ("cat", "dog", "cat")
    result = run("topk", "out", "texts", "-k", 1, "--format", "json")
    assert [entry["query"] for entry in json.loads(result.stdout)] == [
        *("blue.png", "green.png", "red.png")
    ]
    run("embed-texts", "names.txt", "--model", "Other", "--output", "other")
    result = run("topk", "out", "other", "-k", 1)
    assert "features of different models cannot be compared (Tiny vs Other)" in result.stderr


def test_options_reach_the_model_and_the_job(folder, loaded):
    (folder / "table.csv").write_text("id,file\n1,photos/red.png\n2,photos/blue.png\n")
    options = ("--device", "meta", "--precision", "bf16", "--shard-size", 1, "--batch-size", 1)
    result = run("embed-images", "table.csv", "--column", "file", *TINY, *options, "--workers", 1)
    assert result.exit_code == 0
    assert "out: 2 rows of 16 in 2 shards; " in result.stdout
    assert loaded == [("Tiny", "seed", "meta", "bf16")]
    assert read_features(folder / "out").names == ("photos/red.png", "photos/blue.png")
    (folder / "a.jsonl").write_text('{"id": 1, "name": "cat"}\n')
    prompts = ("--template", "a {}", "--template", "the {}")
    assert (
        run(
            *("embed-texts", "a.jsonl", "--column", "name", *prompts, *TINY[:-1], "texts")
        ).exit_code
        == 0
    )
    assert json.loads((folder / "texts" / "job.json").read_text())["templates"] == [
        *("a {}", "the {}")
    ]


def test_skipped_images_are_listed(folder):
    for i in range(25):
        (folder / "photos" / f"z{i:02d}\x1b[31m.jpg").write_bytes(b"")
    result = run("embed-images", "photos", *TINY)
    assert result.exit_code == 0
    assert result.stdout.startswith("out: 3 rows of 16 in 1 shard; ")
    lines = result.stderr.splitlines()
    assert lines[0] == "25 images skipped, listed in out/unreadable.jsonl:"
    assert lines[1] == "  z00 [31m.jpg: the file is empty"
    assert (len(lines), lines[-1]) == (22, "  and 5 more")
    assert len((folder / "out" / "unreadable.jsonl").read_text().splitlines()) == 25
    result = run("embed-images", "photos", *TINY, "--strict")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == lines
    assert "1 of them from an earlier run" in result.stdout


def test_damaged_shards_are_reported(folder):
    run("embed-images", "photos", *TINY, "--shard-size", 2)
    os.truncate(folder / "out" / "img_emb" / "img_emb_00000.npy", 10)
    result = run("embed-images", "photos", *TINY, "--shard-size", 2)
    assert result.stderr == "out/img_emb/img_emb_00000.npy: shard was damaged, computed again\n"
    assert "3 rows of 16 in 2 shards, 1 of them from an earlier run" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed-images", "absent"), "absent: no such file or folder"),
        (("embed-images", "photos", "--column", "x"), "photos: column is 'x', allowed for .csv"),
        (("embed-texts", "absent.txt"), "absent.txt: no such file or folder"),
        (("embed-texts", "photos"), "photos: not a file of texts, allowed: .txt"),
        (("embed-images", "photos", "-o", "photos/red.png/out"), "photos/red.png: is not a folder"),
        (("embed-images", "photos", "-o", "photos/red.png"), "photos/red.png: is not a folder"),
    ],
)
def test_errors_come_before_the_model_is_loaded(folder, loaded, arguments, message):
    result = run(*arguments, "--model", "Tiny", *(() if "-o" in arguments else ("-o", "out")))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert loaded == []


def test_missing_parents_of_the_output_are_made(folder):
    result = run("embed-images", "photos", "--model", "Tiny", "-o", "new/deeper/out")
    assert result.exit_code == 0, result.stderr
    assert len(read_features("new/deeper/out")) == len(list(Path("photos").glob("*.png")))


def test_changed_options_are_one_line(folder):
    run("embed-images", "photos", *TINY)
    result = run("embed-images", "photos", *TINY, "--shard-size", 2)
    assert result.exit_code == 1
    assert "out: was begun with other inputs: shard_size was 10000, is 2. " in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed-images", "photos", "--output", "out"), "--model"),
        (("embed-images", "photos", "--model", "Tiny"), "--output"),
        (("embed-images", "photos", *TINY, "--batch-size", 0), "--batch-size"),
        (("embed-images", "photos", *TINY, "--precision", "fp8"), "fp8"),
        (
            ("embed-texts", "a.txt", *TINY, "--template", "{}", "--templates", "imagenet"),
            "not together with --template",
        ),
    ],
)
def test_usage_errors_exit_2(folder, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in plain(result.stderr)


def test_bar_on_a_terminal(folder):
    """With the rate, and without a trace in the end."""
    code = "import sys; from test_embed_terminal import main; main()"
    (folder / "test_embed_terminal.py").write_text(
        "import sys, time, fastclip\n"
        "from types import ModuleType\n"
        "from tiny_encoder import TinyEncoder\n"
        "from fastclip.cli import app\n"
        "class Slow(TinyEncoder):\n"
        "    def encode_image(self, images, *, batch_size):\n"
        "        time.sleep(0.2)\n"
        "        return super().encode_image(images, batch_size=batch_size)\n"
        "def main():\n"
        "    models = sys.modules['fastclip.models'] = ModuleType('fastclip.models')\n"
        "    models.load = lambda *arguments, **options: Slow()\n"
        "    fastclip.models = models\n"
        "    app(prog_name='fastclip')\n"
    )
    terminal, stderr = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, "embed-images", "photos", *TINY, "--batch-size", "1"],
        env={**os.environ, "PYTHONPATH": ":".join(["", str(folder), *sys.path]), "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=stderr,
    )
    os.close(stderr)
    shown = io.BytesIO()
    try:
        while part := os.read(terminal, 4096):
            shown.write(part)
    except OSError:  # the other end is closed
        pass
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.startswith(b"out: 3 rows")
    assert b"embedding" in shown.getvalue()
    assert re.search(rb"[0-9.]+ images/s", shown.getvalue())
    os.close(terminal)
