from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from fastclip.data import Features
from fastclip.data.vocabularies import ClassList
from fastclip.metrics import alignment, uniformity
from fastclip.metrics.openness import (
    accuracy_by_size,
    adversarial_vocabulary,
    vocabulary_expansion,
)
from fastclip.report import measure_openness, write_openness


def unit(rows):
    return torch.nn.functional.normalize(torch.as_tensor(rows, dtype=torch.float32))


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    groups = (0, 0, 0, 1, 1, 2, 2, 2)
    rows = unit(rng.normal(size=(8, 12)))
    labels = np.concatenate([np.arange(8), rng.integers(0, 8, 52)])
    images = unit(rows.numpy()[labels] + 0.4 * rng.normal(size=(60, 12)))
    words = unit(rows.numpy()[rng.integers(0, 8, 40)] + 0.4 * rng.normal(size=(40, 12)))
    classes = ClassList(
        names=tuple(f"class {i}" for i in range(8)),
        groups=groups,
        group_names=("first <b>", "second", "third"),
        folders=tuple(map(str, range(8))),
        templates=(("{}",),) * 3,
    )
    named = Features(images, [f"{label}/{i}.png" for i, label in enumerate(labels)])
    return named, labels.tolist(), classes, rows, Features(words, [f"word_{i}" for i in range(40)])


def test_the_report_holds_what_the_metrics_return(world) -> None:
    images, labels, classes, rows, words = world
    found = measure_openness(*world, exclude=["WORD 3", "word_5"], combine=2, top=7)
    inputs = images.features, torch.tensor(labels), rows
    groups = torch.tensor(classes.groups)
    expansion = vocabulary_expansion(*inputs, groups)
    assert (found.expansion.acc_e, found.expansion.acc_s) == (expansion.acc_e, expansion.acc_s)
    kept = [i for i in range(40) if i not in (3, 5)]
    names = [words.names[i] for i in kept]
    worst = adversarial_vocabulary(*inputs, words.features[kept], names, combine=2, top=7)
    assert found.adversarial.names == worst.names
    assert found.adversarial.combined_accuracy == worst.combined_accuracy
    assert found.sizes == (2, 5, 8, 10, 20, 46)
    by_size = accuracy_by_size(*inputs, words.features[kept], found.sizes)
    assert torch.equal(found.size_accuracy, by_size)
    random = accuracy_by_size(*inputs, words.features[kept], [10])
    assert found.random_accuracy == float(random[0]) > worst.combined_accuracy[-1]
    assert found.space["alignment"] == alignment(*inputs)
    assert found.space["uniformity of texts"] == uniformity(rows)
    assert int(found.histograms.true.sum()) == 60


def test_files(world, tmp_path) -> None:
    found = measure_openness(*world)
    asked = []

    def picture(name):
        asked.append(name)
        return Image.new("RGBA", (300, 200), (0, 0, 0, 0))

    write_openness(tmp_path, found, title="Made <up>", picture=picture)
    names = {"report.html", "results.json", "expansion.png", "vocabulary.png", "similarity.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in ("expansion", "vocabulary", "similarity"):
        assert Image.open(tmp_path / f"{name}.png").size[0] == 960

    numbers = json.loads((tmp_path / "results.json").read_text())
    assert numbers["acc_e"] == found.expansion.acc_e
    assert numbers["groups"][1]["acc_s"] == float(found.expansion.group_acc_s[1])
    assert numbers["curves"]["stability"]["mean"] == found.expansion.stability.mean.tolist()
    assert numbers["adversarial"]["words"][0]["word"] == found.adversarial.names[0]
    assert np.array(numbers["similarity"]["steps"]).shape == (3, 200)

    page = (tmp_path / "report.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#|https://arxiv)', page)
    assert "<up>" not in page
    assert "first &lt;b&gt;" in page
    assert f"{100 * found.expansion.acc_c:.1f}" in page
    taken = {found.images[i] for images in found.adversarial.images for i in images.tolist()}
    assert asked
    assert set(asked) <= taken
    uri = re.search(r'src="data:image/png;base64,([^"]+)"', page).group(1)
    small = Image.open(io.BytesIO(base64.b64decode(uri)))
    assert (small.size, small.getpixel((5, 5))) == ((96, 64), (255, 255, 255))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_openness(tmp_path, found, title="Made <up>", picture=picture)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_without_words_and_with_drawn_orders(world, tmp_path) -> None:
    found = measure_openness(*world[:4], permutations=1)
    assert (found.adversarial, found.random_accuracy, found.words) == (None, None, 0)
    assert found.sizes == (2, 5, 8)
    write_openness(tmp_path, found, title="No words")
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert numbers["adversarial"] is None
    assert numbers["standard_error_e"] is None
    assert "Words that take" not in (tmp_path / "report.html").read_text()


def test_words_need_names(world) -> None:
    images, labels, classes, rows, words = world
    with pytest.raises(ValueError, match="words: names are needed"):
        measure_openness(images, labels, classes, rows, Features(words.features))
    with pytest.raises(ValueError, match="exclude: leaves no word"):
        measure_openness(*world, exclude=words.names)
