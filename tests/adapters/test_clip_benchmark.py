"""Against the formulas of CLIP_benchmark, and against itself where it is installed."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastclip.adapters.clip_benchmark import (
    evaluate_classification,
    evaluate_retrieval,
    load_model,
    register,
)

WIDTH = 12


class Table:
    """A model whose images are rows already, and whose texts are numbers of rows."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.texts = torch.randn(400, WIDTH, generator=self.generator)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.texts[tokens]


class Loader(list):  # type: ignore[type-arg]
    """Batches, with the classes of their data set."""

    def __init__(self, batches: list[Any], classes: list[str]) -> None:
        super().__init__(batches)
        self.dataset = SimpleNamespace(classes=classes)


def tokenize(texts: list[str]) -> torch.Tensor:
    return torch.tensor([int(text.split()[-1]) for text in texts])


def pairs() -> tuple[Table, Loader]:
    """30 images in three batches, with one to four texts each."""
    model = Table()
    counts = torch.randint(1, 5, (30,), generator=model.generator).tolist()
    batches, row = [], 0
    for begin in range(0, 30, 11):
        images, captions = [], []
        for count in counts[begin : begin + 11]:
            noise = torch.randn(WIDTH, generator=model.generator)
            images.append(model.texts[row : row + count].mean(0) + 0.7 * noise)
            captions.append([f"text {i}" for i in range(row, row + count)])
            row += count
        batches.append((torch.stack(images), captions))
    return model, Loader(batches, [])


def classes(count: int, several: bool = False) -> tuple[Table, Loader, list[str]]:
    """40 images in two batches; their class is a number, or several of five."""
    model = Table()
    batches = []
    for _ in range(2):
        labels = torch.randint(count - 1, (20,), generator=model.generator)  # none of the last
        noise = torch.randn(20, WIDTH, generator=model.generator)
        target = labels
        if several:
            target = (torch.rand(20, count, generator=model.generator) < 0.3).int()
            target[:, -1] = 0
        batches.append((model.texts[labels] + noise, target))
    names = [str(i) for i in range(count)]
    return model, Loader(batches, names), names


TEMPLATES = ["a {c}", "the {c}"]


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


def test_retrieval_by_the_matrix() -> None:
    model, loader = pairs()
    found = evaluate_retrieval(model, loader, tokenize, "cpu", amp=False, recall_k_list=[1, 5, 500])
    images = unit(torch.cat([batch for batch, _ in loader]))
    owner = [i for i, own in enumerate(own for _, batch in loader for own in batch) for _ in own]
    scores = unit(model.texts[: len(owner)]) @ images.T
    match = torch.tensor(owner)[:, None] == torch.arange(30)
    for k in (1, 5, 500):
        for name, x, y in (("image", scores, match), ("text", scores.T, match.T)):
            best = x.topk(min(k, x.shape[1]), dim=1).indices
            recall = y.gather(1, best).any(1).double().mean()
            assert found[f"{name}_retrieval_recall@{k}"] == pytest.approx(float(recall))
    assert len(found) == 6


@pytest.mark.parametrize("count", [3, 8])
def test_classification_by_the_matrix(count: int, tmp_path: Path) -> None:
    model, loader, names = classes(count)
    file = str(tmp_path / "classes.pt")
    found = evaluate_classification(
        model, loader, tokenize, names, TEMPLATES, "cpu", amp=False, save_clf=file
    )
    images = unit(torch.cat([batch for batch, _ in loader]))
    truth = torch.cat([target for _, target in loader])
    logits = images @ unit(model.texts[:count]).T
    right = logits.argmax(1) == truth
    assert found["acc1"] == pytest.approx(float(right.double().mean()))
    fifth = logits.topk(min(5, count)).indices == truth[:, None]
    if count < 5:
        assert math.isnan(found["acc5"])
    else:
        assert found["acc5"] == pytest.approx(float(fifth.any(1).double().mean()))
    recalls = [float(right[truth == c].double().mean()) for c in truth.unique()]
    assert found["mean_per_class_recall"] == pytest.approx(sum(recalls) / len(recalls))
    again = evaluate_classification(
        model, loader, tokenize, names, {}, "cpu", amp=False, load_clfs=[file, file]
    )
    assert again == pytest.approx(found, nan_ok=True)
    of_each = {name: [f"x {name}"] for name in names}
    by_name = evaluate_classification(model, loader, tokenize, names, of_each, "cpu", amp=False)
    assert by_name == pytest.approx(found, nan_ok=True)


def test_several_classes(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchmetrics")
    model, loader, names = classes(5, several=True)
    found = evaluate_classification(
        model, loader, tokenize, names, TEMPLATES, "cpu", amp=False, verbose=True
    )
    logits = unit(torch.cat([batch for batch, _ in loader])) @ unit(model.texts[:5]).T
    truth = torch.cat([target for _, target in loader])
    precisions = []
    for c in range(5):
        shown = truth[logits[:, c].argsort(descending=True), c].double()
        precision = shown.cumsum(0) / torch.arange(1, 41)
        precisions.append(float((precision * shown).sum() / shown.sum().clamp(min=1)))
    assert found == pytest.approx({"mean_average_precision": sum(precisions) / 5})
    assert precisions[-1] == 0
    assert capsys.readouterr().out.count("AveragePrecision: ") == 5


def test_model_of_fastclip() -> None:
    from PIL import Image

    module, transform, tokenizer = load_model("tiny", "", "cache", "cpu")
    image = transform(Image.new("RGB", (40, 30), "red"))[None]
    found = evaluate_retrieval(module, [(image, [["a red square"]])], tokenizer, "cpu")
    assert found == {"image_retrieval_recall@5": 1.0, "text_retrieval_recall@5": 1.0}


def test_beside_clip_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("clip_benchmark.models")
    from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval

    # Its own asks for a float of an array of one number, which NumPy 2.4 refuses.
    monkeypatch.setattr(zeroshot_classification, "accuracy", accuracy)
    tasks = (
        (zeroshot_retrieval, (*pairs(), tokenize, "cpu", False, [1, 5])),
        (zeroshot_classification, (*_asked(6), "cpu", False)),
        (zeroshot_classification, (*_asked(3), "cpu", False)),
        (zeroshot_classification, (*_asked(5, several=True), "cpu", False)),
    )
    theirs = [task.evaluate(*arguments) for task, arguments in tasks]
    for module in (zeroshot_retrieval, zeroshot_classification):
        monkeypatch.setattr(module, "evaluate", module.evaluate)
    monkeypatch.setattr(models, "MODEL_TYPES", list(models.MODEL_TYPES))
    monkeypatch.setattr(models, "TYPE2FUNC", dict(models.TYPE2FUNC))
    register()
    register()
    assert models.MODEL_TYPES.count("fastclip") == 1
    assert models.load_clip("fastclip", "tiny", "", "", "cpu")[0].visual is not None
    for (task, arguments), expected in zip(tasks, theirs, strict=True):
        found = task.evaluate(*arguments)
        assert list(found) == list(expected)
        assert found == pytest.approx(expected, nan_ok=True)


def accuracy(
    output: torch.Tensor, target: torch.Tensor, topk: tuple[int, ...] = (1,)
) -> list[float]:
    found = output.topk(max(topk)).indices == target[:, None]
    return [float(found[:, :k].any(1).double().mean()) for k in topk]


def _asked(count: int, several: bool = False) -> tuple[Any, ...]:
    model, loader, names = classes(count, several)
    return model, loader, tokenize, names, TEMPLATES


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "clip_benchmark", None)
    with pytest.raises(ImportError, match="pip install clip-benchmark"):
        register()
