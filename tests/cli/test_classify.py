from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from named_pictures import NAMES, write_pictures
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app

pytestmark = pytest.mark.host
VOCABULARY = ("--vocabulary", ",".join(NAMES), "--templates", "none")


def run(*arguments: object):
    return CliRunner().invoke(app, ["classify", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_pictures(folder / "pictures")
    return folder / "pictures"


@pytest.fixture
def pictures(made, tmp_path, monkeypatch) -> Path:
    """In the current folder, by the name of ``pictures``."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, tmp_path / "pictures"))


def test_folders_of_classes_need_no_option(pictures):
    result = run("pictures")
    assert result.exit_code == 0, result.stderr
    lines = [re.split(r"  +", line.strip()) for line in result.stdout.splitlines()]
    assert lines[0] == ["image", "right name", "name", "probability", "next"]
    assert [line[0].split("/")[0].replace("_", " ") for line in lines[2:8]] == list(NAMES)
    assert [line[1] for line in lines[2:8]] == list(NAMES)
    found = fastclip.classify(pictures, NAMES)
    assert [line[2] for line in lines[2:8]] == [NAMES[i] for i in found.indices[:, 0]]
    assert [len(line[4].split(", ")) for line in lines[2:8]] == [4] * 6
    right = f"accuracy: top-1 {100 * found.accuracy():.1f} %, top-5 100.0 %"
    assert lines[8][0] == f"{right}; images with a right name, from their folders: 6"
    assert "the model is tiny" in result.stderr


def test_every_form_holds_the_same_answers(pictures, tmp_path):
    (pictures / "broken.jpg").write_text("no image")
    outputs = [f"new/deeper/names.{ending}" for ending in ("csv", "json", "parquet", "html")]
    result = run("pictures", *VOCABULARY, "-k", 3, *(a for path in outputs for a in ("-o", path)))
    assert result.exit_code == 0, result.stderr
    found = fastclip.classify(pictures, NAMES, k=3, templates=("{}",))
    names = [[NAMES[i] for i in row] for row in found.indices.tolist()]

    with open(outputs[0], encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["image", "rank", "name", "cosine", "probability", "label"]
    table = pq.read_table(outputs[2]).to_pylist()
    content = json.loads(Path(outputs[1]).read_text("utf-8"))
    listed = [one for image in content["images"] for one in image["names"]]
    for rows in (lines, table, listed):
        assert [one["name"] for one in rows] == [name for row in names for name in row]
        assert [float(one["probability"]) for one in rows] == pytest.approx(
            found.probabilities.ravel().tolist(), rel=1e-6
        )
    assert [one["label"] for one in table[::3]] == list(NAMES)
    assert content["accuracy"] == {"top_1": 1.0, "top_3": 1.0}
    assert content["skipped"][0]["image"] == "broken.jpg"
    assert content["confusions"] == []

    page = Path(outputs[3]).read_text("utf-8")
    assert page.count("data:image/jpeg;base64") == 6
    assert "100.0 % of 6 labelled images are named right" in page
    assert page.count('class="right"') == 6
    assert not re.search(r'(src|href)="(?!data:)', page)  # loads nothing
    assert "broken.jpg: not an image" in " ".join(page.split())


def test_names_from_files_are_shown_as_they_are_and_do_no_harm(pictures):
    names = ["größe 大きさ", "[bold]no markup[/bold]", "<b>no tag</b>", "a\x1b[31m"]
    Path("names.txt").write_text("\n".join(names), "utf-8")
    (pictures / "star" / "star.png").rename(pictures / "star" / "[red]\x1b[31m <i>.png")
    result = run("pictures", "--vocabulary", "names.txt", "-o", "p.html", "-o", "p.csv")
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert "[bold]no markup[/bold]" in result.stdout
    assert "star/[red] [31m <i>.png" in result.stdout
    assert "accuracy" not in result.stdout
    page = Path("p.html").read_text("utf-8")
    assert "&lt;b&gt;no tag" in page
    assert "<b>no tag" not in page
    with open("p.csv", encoding="utf-8", newline="") as file:
        assert {line["name"] for line in csv.DictReader(file)} == set(names)


def test_several_sources_and_rows(pictures):
    sources = ("pictures/star", "pictures/horse/horse.png", "pictures/b*/*.png")
    result = run(*sources, *VOCABULARY, "--rows", 2, "--format", "table")
    assert "2 more images; --rows sets how many are shown" in result.stderr
    assert result.stdout.count(".png") == 2
    assert "images with a right name, from their folders: 4" in result.stdout


@pytest.mark.parametrize("form", ["json", "csv"])
def test_printed_forms_are_those_of_files(pictures, form):
    printed = run("pictures", *VOCABULARY, "--format", form).stdout
    assert run("pictures", *VOCABULARY, "-o", f"n.{form}").exit_code == 0
    assert printed == Path(f"n.{form}").read_text("utf-8")


def test_labels_from_files(pictures):
    Path("lines.txt").write_text("\n".join(["star", *NAMES[1:]]))
    Path("table.csv").write_text("image,class\nbanana/banana.png,Star\nhorse/horse.png,horse\n")
    for file, right, known in (("lines.txt", "83.3", 6), ("table.csv", "50.0", 2)):
        result = run("pictures", *VOCABULARY, "--labels", file)
        expected = f"accuracy: top-1 {right} %, top-5 "
        assert expected in result.stdout, result.stderr
        assert f"with a right name, from {file}: {known}\n" in result.stdout
        assert re.search(r"\n  star +banana +1\n", result.stdout)
    assert "accuracy" not in run("pictures", *VOCABULARY, "--labels", "none").stdout


def test_the_same_question_again_is_answered_from_the_cache(pictures, monkeypatch):
    first = run("pictures", *VOCABULARY, "--cache", "kept/here")
    monkeypatch.setattr(fastclip.models.Model, "encode_image", None)
    monkeypatch.setattr(fastclip.models.Model, "encode_text", None)
    again = run("pictures", *VOCABULARY, "--cache", "kept/here")
    assert (again.exit_code, again.stdout) == (0, first.stdout)


def test_skipped_images(pictures):
    Path("bad").mkdir()
    Path("bad/a.jpg").write_text("no image")
    result = run("bad", *VOCABULARY)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("error: bad: none of the 1 images can be read\n")
    assert "1 image skipped:\n  a.jpg: not an image" in result.stderr
    for strict, status in (((), 0), (("--strict",), 1)):
        result = run("bad", "pictures", *VOCABULARY, *strict)
        assert result.exit_code == status
        assert "horse" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "Missing argument 'IMAGES'"),
        (("gone", *VOCABULARY), 1, "gone: no such file or folder"),
        (("empty", *VOCABULARY), 1, "empty: no images in it"),
        (("pictures/horse",), 2, "is needed where the images are not in several folders"),
        (("pictures", "--vocabulary", "wordnt"), 1, "did you mean 'wordnet'?"),
        (("pictures", "-k", 7), 2, "is 7, allowed: 1 to 6, the number of names"),
        (("pictures", "-k", 0), 2, "is 0, allowed: 1 to 6"),
        (("pictures", "-o", "a.xlsx"), 1, "a.xlsx: ends in '.xlsx', allowed: .csv, .json"),
        (("pictures", "-o", "empty"), 1, "empty: is not a regular file"),
        (("pictures", "--labels", "gone.txt"), 1, "gone.txt: no such file, allowed: a file"),
        (("pictures", "--labels", "fodlers"), 1, "did you mean 'folders'?"),
        (("pictures", "--labels", "two.txt"), 1, "two.txt: 2 lines, allowed: one for each of 6"),
        (("pictures", "--labels", "six.txt"), 1, "'hrose' is no name of the vocabulary; did"),
        (("pictures", "--labels", "other.csv"), 1, "other.csv: has the class of 'x.png' and"),
        (("pictures", "--template", "{}", "--templates", "none"), 2, "not together with"),
        (("pictures", "--template", "a thing"), 1, "one {} is needed"),
        (("pictures", "--model", "tinny"), 1, "did you mean 'tiny'"),
    ],
)
def test_errors(arguments, status, message, pictures):
    Path("empty").mkdir()
    Path("two.txt").write_text("horse\nstar")
    Path("six.txt").write_text("\n".join(["hrose", *NAMES[:5]]))
    Path("other.csv").write_text("image,class\nx.png,horse\n")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, ""), result.output
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", result.stderr).split())
    assert message in text
    assert sorted(path.name for path in Path().iterdir()) == [
        "empty", "other.csv", "pictures", "six.txt", "two.txt"
    ]  # fmt: skip


def test_an_interruption_leaves_no_output_and_a_cache_that_resumes(pictures, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    arguments = ("pictures", *VOCABULARY, "-o", "n.csv", "--cache", "kept")
    with monkeypatch.context() as patched:
        patched.setattr(fastclip.models.Model, "encode_text", interrupted)
        result = run(*arguments)
    assert (result.exit_code, result.stdout) == (130, "")
    assert not Path("n.csv").exists()
    monkeypatch.setattr(fastclip.models.Model, "encode_image", None)  # done before
    assert run(*arguments).exit_code == 0
    assert Path("n.csv").exists()
