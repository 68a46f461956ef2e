from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fastclip
import fastclip.coder
from fastclip.cli import app
from fastclip.coder import (
    ClassTexts,
    Coder,
    CoderClassifier,
    Grid,
    OneClass,
    confusable_pairs,
    generate_texts,
    support_features,
)
from fastclip.data import Features, write_features

NAMES = ("cat", "dog", "zebra")


def run(*arguments: object):
    return CliRunner().invoke(app, ["coder", *map(str, arguments)])


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES), "utf-8")
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Features about the names of classes, their labels, and texts."""
    known = ClassTexts(
        (
            OneClass("cat", ("whiskers", "pointed ears"), synonyms=("kitten",)),
            OneClass("dog", ("a wagging tail",), ("A dog is a pet.",), ("wolf",)),
            OneClass("zebra", ("black and white stripes",), analogous=("horse",)),
        ),
        {(a, b): (f"what {a} has",) for a in NAMES for b in NAMES if a != b},
    )
    known.save(tmp_path / "texts.json")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % 3
    rows = fastclip.models.load("tiny").encode_text([f"a photo of {name}" for name in NAMES])
    noise = torch.randn(30, rows.shape[1], generator=generator) / rows.shape[1] ** 0.5
    images = Features(rows[labels] + noise, [f"{i}.png" for i in range(30)]).normalized()
    write_features(tmp_path / "images.safetensors", images)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES[i] for i in labels.tolist()), "utf-8")
    return tmp_path / "images.safetensors", tmp_path / "labels.txt", tmp_path / "texts.json"


def test_texts_of_wordnet(names: Path, tmp_path: Path) -> None:
    result = run("texts", names, "-o", tmp_path / "texts.json", "--model", "tiny")
    assert result.exit_code == 0, result.stderr
    known = ClassTexts.load(tmp_path / "texts.json")
    assert known.names == NAMES
    assert ("cat", "dog") in known.one_to_one
    assert "no synonyms of 1 of 3 classes: zebra" in result.stderr
    assert "texts of 3 classes" in result.stdout


class Answering(BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        content = json.dumps({"phrases": [f"thing {self.asked}"]})
        body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[list[object]]:
    """The options that name an endpoint that has not been asked yet."""
    Answering.asked = 0
    server = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    yield ["--source", url, "--chat-model", "m", "--requests-per-minute", 60000]
    server.shutdown()


def test_texts_of_an_endpoint_are_paid_for_once(
    endpoint: list[object], names: Path, tmp_path: Path
) -> None:
    names.write_text("cat\n", "utf-8")
    arguments = ["texts", names, "-o", tmp_path / "t.json", "--pairs", "none", *endpoint]
    result = CliRunner().invoke(app, ["coder", *map(str, arguments)], input="n\n")
    assert result.exit_code == 1
    assert "3 requests, about" in result.stderr
    assert Answering.asked == 0
    assert run(*arguments, "--yes", "--workers", 2).exit_code == 0
    assert Answering.asked == 3
    first = (tmp_path / "t.json").read_bytes()
    assert run(*arguments, "--yes").exit_code == 0
    assert Answering.asked == 3
    assert (tmp_path / "t.json").read_bytes() == first


def test_texts_of_confusable_pairs(names: Path, tmp_path: Path) -> None:
    model = fastclip.models.load("tiny")
    names.write_text("cat\ndog\nzebra\nairplane\n", "utf-8")
    cat, dog = model.encode_text(["a photo of cat", "a photo of dog"])
    shares = torch.linspace(1.5, 2, 9)[:, None]  # doubtful as worded for pets
    images = Features(shares * cat + (1 - shares) * dog, list(map(str, range(9)))).normalized()
    write_features(tmp_path / "images.safetensors", images)
    arguments = ["--model", "tiny", "--pairs", "confusable", "--candidates", 2, "--threshold", 0.9]
    arguments += ["--images", tmp_path / "images.safetensors", "--templates", "pets"]
    result = run("texts", names, "-o", tmp_path / "texts.json", *arguments)
    assert result.exit_code == 0, result.stderr
    known = generate_texts(["cat", "dog", "zebra", "airplane"], model=model, pairs=[])
    classifier = CoderClassifier(candidates=2, threshold=0.9)
    pairs = confusable_pairs(classifier.fit(Coder(known, model, templates="pets")), images.features)
    assert set(pairs) == {("cat", "dog"), ("dog", "cat")}
    assert confusable_pairs(classifier.fit(Coder(known, model)), images.features) == []
    found = ClassTexts.load(tmp_path / "texts.json")
    assert found.classes == known.classes
    assert set(found.one_to_one) == set(pairs)


def test_confusable_pairs_of_an_endpoint_ask_nothing_twice(
    endpoint: list[object], labelled: tuple[Path, Path, Path], names: Path, tmp_path: Path
) -> None:
    arguments = ["texts", names, "-o", tmp_path / "t.json", *endpoint, "--model", "tiny"]
    arguments += ["--pairs", "confusable", "--images", labelled[0]]
    result = run(*arguments, "--candidates", 2, "--threshold", 1, "--yes")
    assert result.exit_code == 0, result.stderr
    pairs = ClassTexts.load(tmp_path / "t.json").one_to_one
    assert len(pairs) >= 2
    assert Answering.asked == 3 * 3 + len(pairs)
    first, second = result.stderr.splitlines()[:2]
    assert first.startswith("9 requests")
    assert second.startswith(f"{9 + len(pairs)} requests")


def test_texts_by_protocol(names: Path, tmp_path: Path) -> None:
    names.write_text("dog\nwolf\n", "utf-8")
    found = {}
    for protocol in ("honest", "authors", "six-requests"):
        output = tmp_path / f"{protocol}.json"
        result = run("texts", names, "-o", output, "--pairs", "none", "--protocol", protocol)
        assert result.exit_code == 0, result.stderr
        found[protocol] = ClassTexts.load(output).classes
    expected = generate_texts(["dog", "wolf"], pairs=[], protocol=["six-requests"])
    assert found["authors"] == found["six-requests"] == expected.classes != found["honest"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--pairs", "confusable", "--images", "x"], "needs --model and --images"),
        (["--pairs", "confusable", "--model", "tiny"], "needs --model and --images"),
        (["--images", "x"], "needs --pairs confusable"),
        (["--protocol", "theirs"], "is 'theirs', allowed: 'honest', 'authors'"),
        (["--templates", "cars"], "templates: is 'cars'"),
        (["--protocol", "raw-names,theirs"], "holds 'theirs', allowed: none-synonyms"),
        (["--protocol", "best-of-two-tests"], "'best-of-two-tests', which needs support images"),
    ],
)
def test_texts_names_what_is_wrong(
    names: Path, tmp_path: Path, change: list[str], message: str
) -> None:
    result = run("texts", names, "-o", tmp_path / "t.json", *change)
    assert result.exit_code != 0
    assert message in result.stderr


def test_classify(labelled: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, labels, texts = labelled
    out = tmp_path / "out"
    result = run("classify", images, texts, "--labels", labels, "-o", out, "--threshold", 1)
    assert result.exit_code == 0, result.stderr
    found = json.loads((out / "results.json").read_text("utf-8"))
    assert (found["images"], found["classes"]) == (30, 3)
    assert found["accuracy"]["names"] > 0.6
    assert [row["texts"] for row in found["density"]] == [0, 1, 2, 3]
    with open(out / "decisions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"{i}.png" for i in range(30)]
    assert sum(int(row["reranked"]) for row in rows) == found["reranked"] > 0
    right = sum(row["class"] == NAMES[i % 3] for i, row in enumerate(rows)) / 30
    assert right == pytest.approx(found["accuracy"]["and reranking"])
    page = (out / "report.html").read_text("utf-8")
    assert "What each kind of text adds" in page
    assert "<svg" in page
    unlabelled = run("classify", images, texts, "-o", out)
    assert unlabelled.exit_code == 0
    assert "What each kind of text adds" not in (out / "report.html").read_text("utf-8")
    theirs = run("classify", images, texts, "--labels", labels, "-o", out, "--protocol", "authors")
    assert theirs.exit_code == 0
    some = ["--protocol", "none-synonyms,raw-names"]
    for truth in ([], ["--labels", labels]):
        result = run("classify", images, texts, "-o", out, *some, *truth)
        assert result.exit_code == 0, result.stderr
    assert "a photo of None" in (out / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("photos", None, "photos: an empty folder, allowed: one with .npy or .parquet files"),
        ("a.csv", "id,path\n1,a.jpg\n", "a.csv: holds several columns (id, path): name one"),
        ("a.csv", "path;id\na.jpg;1\n", "a.csv: line 1: 'path;id' is one column, but looks like"),
        ("a.tar", "", "a.tar: empty file, allowed: a whole tar file, not compressed"),
        ("*.jpg", None, "*.jpg: no images in it, allowed: at least one"),
        ("absent", None, "absent: no such file or folder, nor a sample"),
    ],
)
def test_images_that_are_none(
    labelled: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str | None,
    message: str,
) -> None:
    """The error is that of the reader that what is there is for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    if content is not None:
        (tmp_path / name).write_text(content)
    result = run("classify", name, labelled[2], "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"error: {message}" in result.stderr


def test_classify_pictures(tmp_path: Path, labelled: tuple[Path, Path, Path]) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for colour in ("red", "blue"):
        Image.new("RGB", (80, 60), colour).save(tmp_path / "photos" / f"{colour}.png")
    result = run("classify", tmp_path / "photos", labelled[2], "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "out" / "decisions.csv").read_text("utf-8")
    assert [line.split(",")[0] for line in text.splitlines()[1:]] == ["blue.png", "red.png"]


def test_few_shot(labelled: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, labels, texts = labelled
    arguments = ["few-shot", images, labels, texts, "-o", tmp_path / "out", "--seeds", 1]
    result = run(*arguments, "--shots", "1,2")
    assert result.exit_code == 0, result.stderr
    points = json.loads((tmp_path / "out" / "few-shot.json").read_text("utf-8"))
    assert len(points) == 2 * 5
    assert {point["test_images"] for point in points} == {30 - 3 * 4}
    assert {point["augmentations"] for point in points} == {0}
    assert "Tip-Adapter-F" in result.stdout
    assert (tmp_path / "out" / "few-shot.png").read_bytes().startswith(b"\x89PNG")
    result = run(*arguments)  # the usual numbers, as far as 10 images a class allow
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("left out: 8, 16 shots; shots: 8 need more than 12 images")
    points = json.loads((tmp_path / "out" / "few-shot.json").read_text("utf-8"))
    assert {point["shots"] for point in points} == {1, 2, 4}


def test_few_shot_checks_labels_before_any_work(
    labelled: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels, texts = labelled
    arguments = ["few-shot", images, labels, texts, "-o", tmp_path / "out"]
    monkeypatch.setattr(fastclip.models, "load", None)  # an error, were it called
    result = run(*arguments, "--shots", "16")
    assert result.exit_code == 1
    expected = "shots: 16 need more than 20 images of each class with those of the validation, "
    assert f"{expected}'cat' has 10, allowed: up to 5" in result.stderr
    labels.write_text("\n".join(["cat", "dog"] * 15), "utf-8")
    result = run(*arguments)
    assert result.exit_code == 1
    assert "'zebra' has 0, which are too few for any number" in result.stderr
    for lines in (29, 31):
        labels.write_text("\n".join(["cat"] * lines), "utf-8")
        result = run(*arguments)
        assert result.exit_code == 1
        assert f"labels.txt: {lines} lines, allowed: one for each of 30" in result.stderr


def test_few_shot_uses_equal_images_once(labelled: tuple[Path, Path, Path], tmp_path: Path) -> None:
    images, labels, texts = labelled
    arguments = [texts, "-o", tmp_path / "out", "--seeds", 2, "--shots", "1,2"]
    assert run("few-shot", images, labels, *arguments).exit_code == 0
    expected = (tmp_path / "out" / "few-shot.json").read_bytes()
    once = fastclip.data.read_features(images)
    twice = torch.cat([once.features, once.features[:7], once.features[:1]])
    write_features(images, Features(twice).normalized())
    lines = labels.read_text("utf-8").splitlines()
    labels.write_text("\n".join([*lines, *lines[:7], "zebra"]), "utf-8")
    result = run("few-shot", images, labels, *arguments)
    assert result.exit_code == 0, result.stderr
    assert "warning: 8 of 38 images are left out: their features are those of" in result.stderr
    assert (tmp_path / "out" / "few-shot.json").read_bytes() == expected


def test_few_shot_averages_over_augmentations(
    labelled: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(0)
    for i in range(9):
        pixels = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{i}.png")
    (photos / "3a.png").write_bytes(b"no image")  # has no row
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(NAMES * 3), "utf-8")
    real, seen = fastclip.coder.few_shot_curve, []

    def curve(*args: Any, embed_support: Any, **options: Any) -> Any:
        seen.append(embed_support(torch.tensor([1, 8])))
        small = Grid((1, 20), (1, 20), 3, 3, 1)
        return real(*args, embed_support=embed_support, grid=small, **options)

    monkeypatch.setattr(fastclip.coder, "few_shot_curve", curve)
    arguments = ["few-shot", photos, labels, labelled[2], "-o", tmp_path / "out", "--shots", 1]
    result = run(*arguments, "--seeds", 2, "--augmentations", 2)
    assert result.exit_code == 0, result.stderr
    points = json.loads((tmp_path / "out" / "few-shot.json").read_text("utf-8"))
    assert [point["augmentations"] for point in points] == [2] * 2 * 5
    model = fastclip.models.load("tiny")
    expected = [
        support_features(model, [photos / name], augmentations=2, seed=place)
        for name, place in (("1.png", 1), ("8.png", 9))
    ]
    torch.testing.assert_close(seen[0], torch.cat(expected))
    labels.write_text("\n".join([*NAMES, "cat", "zebra", *NAMES[1:], *NAMES]), "utf-8")
    result = run(
        *arguments, "--seeds", 1, "--augmentations", 2
    )  # a line for 3a.png, too, which changes nothing
    assert result.exit_code == 0, result.stderr
    again = json.loads((tmp_path / "out" / "few-shot.json").read_text("utf-8"))
    assert again == points[:5]
    result = run("few-shot", *labelled, "-o", tmp_path / "out", "--augmentations", 2)
    assert result.exit_code == 2
    assert "needs images, got features" in result.stderr


def test_help_fits_a_hundred_columns() -> None:
    for command in ((), ("texts",), ("classify",), ("few-shot",)):
        result = CliRunner(env={"COLUMNS": "100"}).invoke(app, ["coder", *command, "--help"])
        assert result.exit_code == 0
        assert "…" not in result.stdout
        assert max(map(len, result.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--protocol", "authors"], "needs --labels"),
        (["--protocol", "labels-choose,raw-names"], "needs --labels"),
        (["--protocol", "theirs"], "is 'theirs', allowed: 'honest', 'authors'"),
        (["--labels", "LABELS"], "line 1: 'tiger' is no class of the texts"),
        (["--templates", "cars"], "templates: is 'cars'"),
    ],
)
def test_names_what_is_wrong(
    labelled: tuple[Path, Path, Path], tmp_path: Path, change: list[str], message: str
) -> None:
    (tmp_path / "other.txt").write_text("tiger\n", "utf-8")
    change = [str(tmp_path / "other.txt") if part == "LABELS" else part for part in change]
    result = run("classify", labelled[0], labelled[2], "-o", tmp_path / "out", *change)
    assert result.exit_code != 0
    assert message in result.stderr
    labelled[1].write_text("cat\n", "utf-8")
    result = run("classify", *labelled[::2], "--labels", labelled[1], "-o", tmp_path / "out")
    assert "1 lines, allowed: one for each of 30" in result.stderr
