from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import small
import torch
from PIL import Image
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.data import find_item_images, read_hard_positives
from fastclip.report import measure_hard_positives

pytestmark = pytest.mark.host
COLOURS = ("red", "green", "blue", "white", "black", "yellow", "purple", "orange")


def run(*arguments: object):
    return CliRunner().invoke(app, ["hard-positives", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "images").mkdir()
    lines = ["image,caption,hard_positive,hard_negative,category"]
    for i, colour in enumerate(COLOURS):
        Image.new("RGB", (40, 30 + i), colour).save(tmp_path / "images" / f"{i}.png")
        kind = "walls" if i % 2 else "doors"
        lines += [f"{i},a {colour} wall,the {colour} wall,a {colour} cat,{kind}"]
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    small.save(tmp_path / "model", small.VIT)
    return tmp_path


MODEL = ("--model", "model", "--resamples", 20)


def test_figures_are_those_of_the_models_features(folder):
    result = run("own.csv", *MODEL, "--images", "images", "--format", "json", "-o", "page.html")
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    model = fastclip.models.load("model")
    items = read_hard_positives("own.csv").items
    images = model.encode_image([f"images/{item.image}.png" for item in items]).double()
    texts = [[i.caption for i in items], *([getattr(i, f"hard_{w}s")[0] for i in items]
             for w in ("positive", "negative"))]  # fmt: skip
    s, p, n = ((images * model.encode_text(t).double()).sum(1) for t in texts)
    assert figures["images"]["original_accuracy"] == (s > n).double().mean().item()
    brittle = ((s > n) & (n > p)) | ((p > n) & (n > s))
    assert figures["images"]["brittleness"] == brittle.double().mean().item()
    walls = (p > n)[1::2] & (s > n)[1::2]
    assert figures["images"]["categories"]["walls"]["augmented_accuracy"] == walls.double().mean()
    assert list(figures["texts"]["categories"]) == ["doors", "walls"]
    page = (folder / "page.html").read_text()
    wrong = int(((n > s) | (n > p)).sum())
    assert page.count("data:image/jpeg;base64,") == min(wrong, page.count("<article"))
    assert (wrong > 0) == ("<article" in page)
    assert f"{figures['images']['macro']['brittleness']:.3f}" in page


def test_table_texts_alone_and_edits(folder):
    result = run("own.csv", *MODEL)
    assert result.exit_code == 0
    assert "negative nearer" in result.stdout
    assert "augmented" not in result.stdout
    result = run("own.csv", *MODEL, "--images", "images", "--by", "edit")
    assert result.exit_code == 0
    assert "augmented" in result.stdout
    assert "other" in result.stdout  # no edit is frequent here
    (folder / "negatives.csv").write_text("image,caption,hard_negative\n1,a wall,a door\n")
    result = run("negatives.csv", *MODEL, "--images", "images")
    assert result.exit_code == 0
    assert "negative nearer" not in result.stdout


def test_goes_on_from_the_cache(folder, monkeypatch):
    arguments = ("own.csv", *MODEL, "--images", "images", "--cache", "kept", "--format", "json")
    first = run(*arguments)
    calls = []
    monkeypatch.setattr(fastclip.models.Model, "encode_image", lambda *a, **k: calls.append(a))
    assert run(*arguments).stdout == first.stdout
    assert calls == []


def test_bad_input(folder):
    with open("own.csv", "a") as file:
        file.write("77,a wall,the wall,a cat,doors\n3, ,the wall,a cat,doors\n")
    result = run("own.csv", *MODEL, "--images", "images")
    assert result.exit_code == 1
    assert "own.csv: line 11: caption is blank" in result.stderr
    skip = ("--invalid", "skip")
    result = run("own.csv", *MODEL, "--images", "images", *skip)
    assert result.exit_code == 1
    assert "images: 1 images are missing: 77: no such file" in result.stderr
    (folder / "images" / "2.png").write_bytes(b"no image")
    result = run("own.csv", *MODEL, "--images", "images", *skip, "--missing", "skip",
                 "--format", "json")  # fmt: skip
    assert result.exit_code == 0
    assert json.loads(result.stdout)["images"]["items"] == 7
    for told in ("1 invalid entries skipped", "1 missing images skipped", "1 unreadable images"):
        assert told in result.stderr
    (folder / "images" / "77.png").write_bytes(b"no image")
    result = run("own.csv", *MODEL, "--images", "images", *skip)
    assert result.exit_code == 1
    assert "error: images: 2 images cannot be read" in result.stderr


def test_files_of_hard_captions_are_scored_as_far_as_they_are_complete(folder):
    captions = ["a red wall and a blue door", "a large black cat", "walls", "two dogs on a sofa"]
    Path("captions.txt").write_text("\n".join(captions))
    assert (
        CliRunner().invoke(app, ["hard-captions", "captions.txt", "-o", "a.jsonl"]).exit_code == 0
    )
    items = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    whole = [item for item in items if item["hard_positives"] and item["hard_negatives"]]
    assert 1 <= len(whole) < len(items)
    Path("whole.jsonl").write_text("".join(json.dumps(item) + "\n" for item in whole))
    as_json = (*MODEL, "--format", "json")
    found, expected = run("a.jsonl", *as_json), run("whole.jsonl", *as_json)
    assert found.exit_code == expected.exit_code == 0, found.stderr
    assert found.stdout == expected.stdout
    assert expected.stderr == ""
    negatives = sum(not item["hard_negatives"] for item in items)
    said = f"a.jsonl: {len(whole)} of 4 items are scored, {negatives} have no hard negative"
    assert found.stderr.startswith(said)
    assert found.stderr.endswith("; --incomplete raise makes this an error\n")
    refused = run("a.jsonl", *as_json, "--incomplete", "raise")
    assert refused.exit_code == 1
    assert said in refused.stderr
    assert "--incomplete skip scores the others" in refused.stderr


def test_items_of_which_none_can_be_scored(folder):
    Path("a.jsonl").write_text('{"caption": "a", "hard_positive": "b"}\n')
    result = run("a.jsonl", *MODEL)
    assert result.exit_code == 1
    assert "a.jsonl: items: none of 1 has a hard negative" in result.stderr


def test_examples_are_the_furthest_from_right(folder):
    items = read_hard_positives("own.csv").items
    images = find_item_images(items, "images")
    report = measure_hard_positives(
        items, fastclip.models.load("model"), folder / "kept", images=images, resamples=0
    )
    scores = report.scores
    margin = torch.minimum(scores.caption_scores, scores.positive_scores) - scores.negative_scores
    both = (scores.negative_scores > scores.caption_scores) & (
        scores.negative_scores > scores.positive_scores
    )
    expected = [i for i in margin.argsort().tolist() if both[i]][:4]
    assert report.examples("both_rejected") == expected


def test_texts_that_differ_only_after_the_context(folder):
    model = fastclip.models.load("model")
    length = model.tokenizer([""]).shape[1]
    shared = " ".join(["wall"] * length)
    lines = ["caption,hard_positive,hard_negative"]
    lines += ["a wall,the wall,a door", f"{shared} red,{shared},{shared} blue"]
    lines += [f"red {shared},crimson {shared},blue {shared}"]  # cut, but different before
    (folder / "long.csv").write_text("\n".join(lines) + "\n")
    items = read_hard_positives("long.csv").items
    message = f"items: 1 of 3 have .* after the model's context of {length} tokens.* 'wall wall"
    with pytest.warns(UserWarning, match=message):
        measure_hard_positives(items, model, folder / "features")
    result = run("long.csv", *MODEL)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: items: 1 of 3 have a caption that differs")
    assert result.stderr.count("\n") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure_hard_positives(items[::2], model, folder / "others")
