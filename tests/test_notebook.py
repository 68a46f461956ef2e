"""Results and progress in notebooks."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

import fastclip
from fastclip.data import FeatureMetadata, Features, HardPositiveItem, find_item_images
from fastclip.data.html import Markup, table
from fastclip.data.vocabularies import ClassList
from fastclip.metrics import HardPositiveReport, hard_positive_scores, retrieval, text_sensitivity
from fastclip.metrics.openness import measure_openness

HOSTILE = '<script>alert("x")</script>&\n\'"'


class Strict(HTMLParser):
    """Fails where an element is not closed in its turn, or could run something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"table", "caption", "thead", "tbody", "tr", "th", "td", "div", "img"}
        assert {name for name, _ in attrs} <= {"colspan", "src", "alt", "title"}
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(html: str | None) -> Strict:
    assert html is not None
    strict = Strict()
    strict.feed(html)
    strict.close()
    assert strict.open == []
    return strict


def text(html: str | None) -> str:
    return " ".join(parsed(html).text)


def test_a_table_escapes_all_but_markup() -> None:
    html = table(HOSTILE, [HOSTILE, 1], [(HOSTILE, Markup('<img src="data:x">'))], total=1)
    strict = parsed(html)
    assert strict.text.count(HOSTILE) == 3
    assert strict.sources == ["data:x"]
    assert "more" not in html


def test_features() -> None:
    metadata = FeatureMetadata("ViT-B-32", "openai", HOSTILE)
    many = Features(torch.eye(25, 9), [HOSTILE, *map(str, range(24))], metadata)
    html = many._repr_html_()
    assert html.count("<tr>") == 1 + 10 + 1
    assert "Features: 25 x 9 float32, ViT-B-32, openai" in html
    assert "... 15 more" in text(html)
    assert HOSTILE in parsed(html).text
    few = Features(torch.ones(2, 3).half())._repr_html_()
    assert "more" not in few
    assert "..." not in few
    assert "<td>1</td><td>1.0000</td>" in few
    parsed(Features(torch.empty(0, 4))._repr_html_())


def test_topk() -> None:
    best = fastclip.topk(torch.eye(12), torch.eye(12), 11)
    html = best._repr_html_()
    assert "TopK: queries: 12, keys of each: 11" in text(html)
    assert html is not None
    assert "<td>3</td><td>3: 1.0000</td><td>0: 0.0000</td>" in html
    assert "... 2 more" in text(html)
    assert len(re.findall("<tr>", html)) == 1 + 10 + 1
    leaf = torch.eye(2, requires_grad=True)
    parsed(fastclip.topk(leaf, torch.eye(2), 1)._repr_html_())
    assert best._replace(values=best.values[0])._repr_html_() is None


def test_retrieval() -> None:
    said = text(retrieval(torch.eye(6), torch.eye(6), ks=(1, 3))._repr_html_())
    for part in ("recall@1", "recall@3", "image to text", "text to image", "1.000", "1.0"):
        assert part in said


@pytest.fixture
def report(tmp_path: Path) -> HardPositiveReport:
    items = tuple(
        HardPositiveItem(f"{i}.png", f"{HOSTILE}{i}", (HOSTILE,), ("not",), f"edit {i % 14}")
        for i in range(15)
    )
    for i in range(15):
        Image.new("RGB", (200, 100), (i, 0, 0)).save(tmp_path / f"{i}.png")
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(15, 8, generator=generator) for _ in range(4)]
    categories = [item.category for item in items]
    scores = hard_positive_scores(*rows, categories=categories, resamples=10)
    texts = text_sensitivity(*rows[1:], categories=categories, resamples=10)
    images = find_item_images(items, tmp_path)
    return HardPositiveReport(items, scores, texts, images, images.image_of_item, {})


def test_hard_positives(report: HardPositiveReport, tmp_path: Path) -> None:
    html = report._repr_html_()
    strict = parsed(html)
    shown = sum(
        len(report.examples(f"{what}_rejected")) for what in ("positive", "caption", "both")
    )
    assert len(strict.sources) == shown > 0
    assert all(source.startswith("data:image/jpeg;base64,") for source in strict.sources)
    assert any(part.startswith(HOSTILE) for part in strict.text)
    assert text(html).count("... 4 more") == 2
    assert text(html).count("all items") == 2
    for file in tmp_path.iterdir():
        file.unlink()
    assert parsed(report._repr_html_()).sources == []  # names in their place
    bare = replace(report, scores=None, texts=None, images=None)
    assert text(bare._repr_html_()) == ""


def test_openness() -> None:
    classes = ClassList(("a", "b", "c"), (0, 0, 1), ("g", "h"), ("a", "b", "c"), (("{}",),) * 2)
    images = Features(torch.eye(3, 4), ["a/1.png", "b/1.png", "c/1.png"])
    unit = torch.nn.functional.normalize
    near = unit(torch.eye(4)[:1] + 0.01 * torch.randn(12, 4), dim=1)
    words = Features(near, [HOSTILE, *(f"word {i}" for i in range(11))])
    keys = unit(torch.eye(3, 4) + 0.1, dim=1)
    found = measure_openness(images, range(3), classes, keys, words, combine=1)
    said = text(found._repr_html_())
    assert "Openness: 3 images, 3 classes in 2 groups" in said
    assert "100.0 %" in said
    assert "... 2 more" in said
    bare = replace(found, adversarial=None)
    assert "Words" not in text(bare._repr_html_())


CELLS = (
    "import torch, fastclip\nfastclip.topk(torch.eye(3), torch.eye(3), 1)",
    "fastclip.data.Features(torch.eye(2), ['<b>', 'dog'])",
    "from fastclip.data.progress import progress\n"
    "with progress('sweeping', 'rows') as report:\n"
    "    report(0, 3)\n"
    "    report(3, 3)\n",
)


@pytest.fixture(scope="module")
def outputs() -> list[list[dict[str, object]]]:
    """What cells give in a kernel of its own, which takes some seconds to start."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import nbformat
    from nbclient import NotebookClient

    made = nbformat.v4
    notebook = made.new_notebook(cells=[made.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells]


def test_a_notebook_shows_tables(outputs: list[list[dict[str, dict[str, str]]]]) -> None:
    (best,), (features,) = outputs[:2]
    assert "TopK: queries: 3, keys of each: 1" in best["data"]["text/html"]
    assert "TopK(values=" in best["data"]["text/plain"]
    assert "<td>&lt;b&gt;</td>" in features["data"]["text/html"]


def test_a_notebook_draws_the_bar(outputs: list[list[dict[str, object]]]) -> None:
    pytest.importorskip("ipywidgets")
    kinds = [output["output_type"] for output in outputs[2]]
    assert "display_data" in kinds
    assert "error" not in kinds
    assert not [output for output in outputs[2] if output.get("name") == "stderr"]
