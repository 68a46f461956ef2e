from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.cli import openness as command
from fastclip.data import FeatureMetadata, Features, write_features
from fastclip.data.openness_sets import OpennessSet
from fastclip.data.vocabularies import wordnet_nouns
from fastclip.metrics.openness import adversarial_vocabulary, vocabulary_expansion
from fastclip.models import load as load_model


def run(*arguments):
    return CliRunner().invoke(app, ["openness", *map(str, arguments)])


def unit(rows):
    return torch.nn.functional.normalize(torch.as_tensor(rows, dtype=torch.float32))


@pytest.fixture
def files(tmp_path):
    """Features of images, classes and words, and a table of classes."""
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(6, 16)))
    labels = np.arange(60) % 6
    images = unit(rows.numpy()[labels] + 0.35 * rng.normal(size=(60, 16)))
    words = unit(rows.numpy()[rng.integers(0, 6, 30)] + 0.4 * rng.normal(size=(30, 16)))
    names = ["dog", "wolf", "oak", "elm", "car", "bus"]
    table = tmp_path / "classes.csv"
    table.write_text("name,group\n" + "".join(f"{n},g{i // 2}\n" for i, n in enumerate(names)))
    nouns = ["poodle", "motorcar", "tree", *(f"word {i}" for i in range(27))]
    unit_rows = FeatureMetadata(normalized=True)
    for name, features, texts in (
        ("images", images, [f"val/{names[label]}/{i}.jpg" for i, label in enumerate(labels)]),
        ("classes", rows, names),
        ("words", words, nouns),
    ):
        write_features(tmp_path / f"{name}.safetensors", Features(features, texts, unit_rows))
    return tmp_path, images, torch.from_numpy(labels), rows, words, nouns, table


def test_features(files) -> None:
    folder, images, labels, rows, words, nouns, table = files
    out = folder / "out"
    options = ("--class-features", folder / "classes.safetensors", "-o", out)
    candidates = ("--words", folder / "words.safetensors")
    result = run(folder / "images.safetensors", table, *options, *candidates)
    assert result.exit_code == 0, result.output
    numbers = json.loads((out / "results.json").read_text())
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    assert numbers["acc_s"] == vocabulary_expansion(images, labels, rows, groups).acc_s
    assert f"{100 * numbers['acc_s']:.1f}" in result.output
    found = [word["word"] for word in numbers["adversarial"]["words"]]
    expected = adversarial_vocabulary(images, labels, rows, words[3:], nouns[3:])
    assert found == list(expected.names)  # related to classes: poodle, motorcar, tree

    result = run(folder / "images.safetensors", table, *options, *candidates, "--keep-related")
    assert result.exit_code == 0
    numbers = json.loads((out / "results.json").read_text())
    assert numbers["adversarial"]["candidates"] == 30

    result = run(
        folder / "images.safetensors", table, *options,
        "--permutations", 3, "--protocol", "authors", "--seed", 42,
    )  # fmt: skip
    assert result.exit_code == 0
    numbers = json.loads((out / "results.json").read_text())
    script = vocabulary_expansion(
        images, labels, rows, groups, permutations=3, protocol="authors", seed=42
    )
    assert (numbers["acc_e"], numbers["adversarial"]) == (script.acc_e, None)


def test_pictures_of_a_folder_and_a_second_run(tmp_path, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    for name in ("red", "green", "blue", "white"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 255, (40, 40, 4)).astype(np.uint8)
            pixels[..., 3] = 255
            pixels[:4, :4] = 0  # clear black, which a model sees as white
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    table = tmp_path / "classes.tsv"
    table.write_text("name\tgroup\nred\twarm\nblue\tcold\ngreen\tcold\nwhite\twarm\n")
    model = load_model("tiny")
    monkeypatch.setattr(fastclip.models, "load", lambda *_, **__: model)
    arguments = (
        tmp_path / "images", table, "--model", "tiny",
        "--vocabulary", "a,bb,ccc", "-o", tmp_path / "out", "--template", "a {} thing",
    )  # fmt: skip
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "out/results.json").read_text())
    paths = sorted((tmp_path / "images").glob("*/*.png"))
    names = ["red", "blue", "green", "white"]
    expected = vocabulary_expansion(
        model.encode_image(paths),
        torch.tensor([names.index(path.parent.name) for path in paths]),
        model.encode_text(names, templates=["a {} thing"]),
        torch.tensor([0, 1, 1, 0]),
    )
    assert numbers["acc_s"] == pytest.approx(expected.acc_s, abs=0.1)  # other batches, other bits
    assert numbers["images"] == 12
    assert numbers["adversarial"]["candidates"] == 3
    page = (tmp_path / "out/report.html").read_text()
    shown = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert shown
    for image in shown:
        picture = Image.open(io.BytesIO(base64.b64decode(image)))
        assert picture.getpixel((1, 1)) == (255, 255, 255)

    def fail(*_, **__):
        raise AssertionError("features are there")

    monkeypatch.setattr(model, "encode_image", fail)  # what is finished is not computed again
    assert run(*arguments).exit_code == 0


def test_folders_without_pictures_of_the_classes(files) -> None:
    folder, table = files[0], files[-1]
    (folder / "none").mkdir()
    result = run(folder / "none", table, "--model", "tiny", "-o", folder / "out")
    assert (result.exit_code, "none: an empty folder" in result.stderr) == (1, True)
    (folder / "val" / "cow").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(folder / "val" / "cow" / "1.png")
    result = run(folder / "val", table, "--model", "tiny", "-o", folder / "out")
    assert "cow/1.png: is in the folder 'cow', which no class has" in result.stderr


def test_a_protocol_by_name(files, monkeypatch) -> None:
    folder, table = files[0], files[-1]
    from fastclip.data import find_images, openness_sets
    from fastclip.data.vocabularies import read_class_list

    (folder / "set").mkdir()
    for i in range(12):
        Image.new("RGB", (40, 40), (20 * i, 0, 0)).save(folder / f"set/{i:02}.png")
    listed = read_class_list(table)
    asked = {}

    def openness_set(name, root, **options):
        asked.update(name=name, root=root, **options)
        return OpennessSet(find_images(folder / "set"), tuple(i % 6 for i in range(12)), listed)

    monkeypatch.setattr(openness_sets, "openness_set", openness_set)
    model = load_model("tiny")
    monkeypatch.setattr(fastclip.models, "load", lambda *_, **__: model)
    result = run(folder, "living17", "--model", "x", "--ensemble", "-o", folder / "out")
    assert result.exit_code == 0, result.output
    assert asked == {"name": "living17", "root": str(folder), "download": False, "ensemble": True}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("images.safetensors",), 2, "CLASSES"),
        (("images.safetensors", "classes.csv"), 2, "--model"),
        (("images.safetensors", "classes.csv", "--permutations", "0"), 2, "'all' or a number"),
        (("images.safetensors", "classes.csv", "--ensemble"), 2, "own classes give each prompt"),
        (("images.safetensors", "cifar100", "--ensemble", "--template", "a {}"), 2, "with --templ"),
        (("scenes", "--ensemble"), 2, "is not known for scenes"),
        (("none.safetensors", "classes.csv"), 1, "no such file or folder"),
        (("images.safetensors", "none.csv"), 1, "none.csv: no such file"),
        (
            ("images.safetensors", "classes.csv", "--class-features", "words.safetensors"),
            1,
            "words.safetensors: 6 rows are needed, got 30",
        ),
    ],
)
def test_errors(files, monkeypatch, arguments, code, message) -> None:
    monkeypatch.chdir(files[0])
    result = run(*arguments, "-o", "out")
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_says_what_is_wrong_before_the_model_is_loaded(files, monkeypatch) -> None:
    folder, table = files[0], files[-1]
    table.write_text(table.read_text() + "rock,g3\n")
    result = run(folder / "images.safetensors", table, "--model", "none", "-o", folder / "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: images.safetensors: no image is of the group 'g3'\n"
    names = [f"c{i}" for i in range(30)]
    table.write_text("name,group\n" + "".join(f"{n},{n}\n" for n in names))
    rows = Features(torch.eye(31, 30) + 0.1, [f"{n}/1.jpg" for n in [*names, "c0"]])
    write_features(folder / "rows.safetensors", rows)
    result = run(folder / "rows.safetensors", table, "--model", "none", "-o", folder / "out")
    assert "'all' is possible with up to 24 groups" in result.stderr
    result = run(
        folder / "rows.safetensors", table, "--class-features", folder / "rows.safetensors",
        "--permutations", "2", "-o", folder / "out",
    )  # fmt: skip
    assert "30 rows are needed, got 31" in result.stderr


def test_classes_of_one_name_are_a_warning(files) -> None:
    folder, *_, table = files
    text = "name,group,folder\n" + "".join(
        f"{'dog' if n == 'oak' else n},g{i // 2},{n}\n"
        for i, n in enumerate(["dog", "wolf", "oak", "elm", "car", "bus"])
    )
    table.write_text(text)
    result = run(
        folder / "images.safetensors", table, "--class-features", folder / "classes.safetensors",
        "-o", folder / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("warning: class_names: 1 names belong to several classes (dog)")


def test_wordnet_is_asked_for_by_name(files) -> None:
    asked = command._asked(
        str(files[0] / "images.safetensors"), str(files[-1]), "wordnet", (), False, False
    )
    assert asked.words == wordnet_nouns()


def test_scenes(tmp_path) -> None:
    result = run("scenes", "-o", tmp_path / "out", "--scenes", 240, "--vocabulary", 900)
    assert result.exit_code == 0, result.output
    numbers = json.loads((tmp_path / "out/results.json").read_text())
    # The effects of the paper, on drawings that the model has not seen.
    assert numbers["acc_full"] < numbers["acc_s"] < numbers["acc_c"]
    assert numbers["acc_e"] < numbers["acc_c"]
    together = numbers["adversarial"]["together"]
    assert len(together["words"]) == 3
    assert together["accuracy"][-1] < together["accuracy_with_random_words"] - 0.03
    accuracy = numbers["by_vocabulary_size"]["accuracy"]
    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[-1] < numbers["acc_full"] - 0.1
    assert (tmp_path / "out/report.html").stat().st_size > 50_000
