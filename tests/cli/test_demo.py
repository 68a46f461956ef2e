from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

import fastclip.report
from fastclip.cli import app
from fastclip.data import load_sample
from fastclip.models.tiny import known_names
from fastclip.report import write_page

run = CliRunner().invoke

CAPTIONS = 2000
VOCABULARIES = {"objects365": "Objects365", "openimages": "Open Images", "coco": "COCO"}


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """What `fastclip demo` prints, the page that it writes, and the results on it."""
    page = tmp_path_factory.mktemp("demo") / "page.html"
    command = ["demo", "--captions", str(CAPTIONS), "--output", str(page)]
    written = []

    def write(path, *results):
        written.append(results)
        write_page(path, *results)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastclip.report, "write_page", write)
        result = run(app, command, env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert [file.name for file in page.parent.iterdir()] == ["page.html"]
    return result.stdout, page.read_text(encoding="utf-8"), written[0]


@pytest.fixture
def demo(run_once):
    return run_once[:2]


def unit(name):
    rows = load_sample(name).features.double().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def expected_recalls():
    scores = unit("coco-images") @ unit("coco-captions").T
    recalls = {}
    for direction, matrix in (("image to text", scores), ("text to image", scores.T)):
        ranks = (matrix > matrix.diagonal()[:, None]).sum(axis=1)
        recalls[direction] = [int((ranks < k).sum()) / 500 for k in (1, 5, 10)]
    return recalls


class Page(HTMLParser):
    """Elements with their attributes, and the text of table cells by row."""

    VOID = ("meta", "input", "wbr", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.rows = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_recall_figures_are_those_of_float64(demo):
    printed, text = demo
    recalls = expected_recalls()
    assert recalls == {
        "image to text": [0.552, 0.808, 0.892],
        "text to image": [0.506, 0.766, 0.862],
    }
    rows = {row[0]: row[1:] for row in Page(text).rows}
    for direction, values in recalls.items():
        figures = [f"{value:.3f}" for value in values]
        assert f"{direction}   {'   '.join(figures)}" in printed
        assert rows[direction] == [
            f"{figure}{round(value * 500)}" for figure, value in zip(figures, values, strict=True)
        ]
        for figure in figures:
            assert f">{figure}</text>" in text  # on the bars


def test_page_is_well_formed_and_loads_nothing(demo):
    _, text = demo
    page = Page(text)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "image")
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                own = tag == "img" and value.startswith("data:image/png;base64,")
                assert own or tag == "a" or value.startswith("#"), (tag, name, value)
            assert "url(" not in (value or "").replace("url(#", ""), value
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_on_the_page(demo):
    printed, text = demo
    shown = [a for tag, a in Page(text).elements if tag == "img"]
    assert len(shown) == 24
    assert f"among {CAPTIONS:,} captions" in text
    rows = [line.split() for line in printed.splitlines() if " of a " in line]
    among = {" ".join(row[:4]): row[4:] for row in rows if len(row) == 8}
    names, captions = among["name of a drawing"], among["caption of a scene"]
    assert (names[0], captions[0]) == (f"{len(known_names())}", f"{CAPTIONS:,}")
    for _, first, fifth, _ in (names, captions):
        assert 0 <= float(first) <= float(fifth) <= 1


def test_page_gallery_holds_four_examples_of_each_outcome(demo):
    _, text = demo
    images = load_sample("coco-images").names
    links = [attributes.get("href", "") for tag, attributes in Page(text).elements if tag == "a"]
    prefix = "https://cocodataset.org/#explore?id="
    shown = [link.removeprefix(prefix) for link in links if link.startswith(prefix)]
    scores = unit("coco-images") @ unit("coco-captions").T
    ranks = [(scores[row] > scores[row, row]).sum() for row in map(images.index, shown)]
    assert len(set(shown)) == 12
    assert [0 if r == 0 else 1 if r < 3 else 2 for r in ranks] == [0] * 4 + [1] * 4 + [2] * 4
    photos = text[text.index(">Images and captions</h2>") :]
    assert photos.count('<li class="right">') == 8


def test_nearest_names_of_all_lvis_classes_are_those_of_float64(demo):
    printed, text = demo
    lvis = load_sample("lvis").names
    rows = [row for row in Page(text).rows if len(row) == 4][-len(lvis) :]
    assert [row[0] for row in rows] == list(lvis)
    for column, (vocabulary, title) in enumerate(VOCABULARIES.items(), 1):
        scores = unit("lvis") @ unit(vocabulary).T
        names = load_sample(vocabulary).names
        for cell, score in zip((row[column] for row in rows), scores, strict=True):
            cosine, name = cell[:5], cell[5:]
            assert abs(float(cosine) - score.max()) < 0.00051
            # two names can have the same feature but for rounding, such as "Bench" twice
            assert name in {names[i] for i in np.flatnonzero(score > score.max() - 1e-6)}
        count = int((scores.max(axis=1) >= 0.95).sum())
        title = {"objects365": "Objects365", "openimages": "Open Images", "coco": "COCO"}[
            vocabulary
        ]
        found = next(line for line in printed.splitlines() if line.split("  ")[1:2] == [title])
        assert found.split()[-2:] == [str(len(names)), str(count)]


def test_printed_selection_spans_equal_names_to_no_counterpart(demo):
    printed, _ = demo
    table = printed[printed.index("evenly spaced") :]
    cells = [
        line.split() for line in table.splitlines() if line.count("0.") + line.count("1.0") >= 3
    ]
    best = [max(float(cell) for cell in row if cell[:2] in ("0.", "1.")) for row in cells]
    assert len(best) == 12
    assert best == sorted(best, reverse=True)
    everything = np.concatenate([unit("lvis") @ unit(name).T for name in VOCABULARIES], axis=1).max(
        axis=1
    )
    assert best[0] == round(float(everything.max()), 3)
    assert best[-1] == round(float(everything.min()), 3)


def test_page_is_the_same_for_the_same_results(run_once, tmp_path):
    _, text, results = run_once
    write_page(tmp_path / "again", *results)
    assert (tmp_path / "again").read_text(encoding="utf-8") == text


def test_a_folder_that_cannot_be_made_is_an_error_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    result = run(app, ["demo", "--output", str(tmp_path / "file" / "page.html")])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == f"error: {tmp_path / 'file'}: is not a folder\n"
