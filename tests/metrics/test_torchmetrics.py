"""What users of torchmetrics do with a metric, done with each of ours."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from typing import Any

import pytest
import torch

pytest.importorskip("torchmetrics")

from metric_cases import Case, assert_scores, cases
from torchmetrics import MetricCollection, MetricTracker, classification, retrieval
from torchmetrics.wrappers import Running

import fastclip
from fastclip import metrics

CASES = cases()
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
silent = pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")


def updated(case: Case, metric: Any = None, batches: slice = slice(None)) -> Any:
    metric = case.make() if metric is None else metric
    for batch in case.batches[batches]:
        metric.update(**batch)
    return metric


def same(found: Any, other: Any) -> bool:
    return found.keys() == other.keys() and all(
        torch.equal(found[name].nan_to_num(-9), other[name].nan_to_num(-9)) for name in found
    )


@each
def test_parts_are_the_whole(case: Case) -> None:
    metric = updated(case)
    first = metric.compute()
    assert_scores(first, case)
    assert metric.compute() is first
    metric.reset()
    assert metric.update_count == 0
    assert_scores(updated(case, metric).compute(), case)  # of the next epoch
    assert metric.full_state_update is False
    assert metric.is_differentiable is False


def test_which_way_is_better() -> None:
    ways = {name: case.make().higher_is_better for name, case in CASES.items()}
    mixed = {"maps", "masks", "hard positives"}  # IoU, but also what is missing or too much
    assert ways == {name: None if name in mixed else True for name in ways}


@each
@silent
def test_nothing_to_score(case: Case) -> None:
    with pytest.raises(ValueError, match=r": .*(needed: |needs an image)"):
        case.make().compute()


@each
def test_forward_scores_the_batch(case: Case) -> None:
    metric = case.make()
    for batch in case.batches:
        alone = case.make()
        alone.update(**batch)
        alone._scores_a_batch = True  # so that it is NaN where nothing counts
        assert same(metric(**batch), alone.compute())
    assert_scores(metric.compute(), case)


@each
def test_an_error_leaves_the_state(case: Case) -> None:
    metric = updated(case, batches=slice(3))
    wrong = dict(case.batches[3])
    name = list(wrong)[1]
    wrong[name] = wrong[name][:, None]
    for call in (metric.forward, metric.update):
        with pytest.raises((TypeError, ValueError)):
            call(**wrong)
    assert_scores(updated(case, metric, slice(3, None)).compute(), case)


@each
def test_inference_mode(case: Case) -> None:
    """States that are made there take updates outside of it, and the other way round."""
    metric = case.make()
    with torch.inference_mode():
        metric.reset()
        updated(case, metric, slice(2))
    metric(**case.batches[2])
    with torch.inference_mode():
        assert_scores(updated(case, metric, slice(3, None)).compute(), case)


@each
def test_what_a_caller_does_with_arguments(case: Case) -> None:
    """Nothing of them is kept: neither their memory nor their gradient."""
    metric = case.make(compute_on_cpu=True)
    for i, batch in enumerate(case.batches):
        given = {
            name: x.clone().requires_grad_() if x.is_floating_point() else x.clone()
            for name, x in batch.items()
        }
        (metric if i % 2 else metric.update)(**given)
        for x in given.values():
            x.detach().zero_()
    for state in metric.metric_state.values():
        assert not any(x.requires_grad for x in (state if isinstance(state, list) else [state]))
    assert_scores(metric.compute(), case)


def test_features_of_several_dtypes() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(12, 8, generator=generator)
    texts = images + torch.randn(12, 8, generator=generator)
    given = [
        (images[:4].half(), texts[:4]),
        (images[4:8].bfloat16(), texts[4:8].half()),
        (images[8:].numpy(), texts[8:].T.contiguous().T),
        (images[:0], texts[:0]),
    ]
    metric = metrics.RetrievalRecall((1, 2))
    for batch in given:
        metric.update(*batch)
    wide = [
        torch.cat([torch.as_tensor(x).float() for x in part]) for part in zip(*given, strict=True)
    ]
    expected = metrics.retrieval(*wide, ks=iter((1, 2)))
    for way, summary in expected._asdict().items():
        assert [float(metric.compute()[f"{way}_R@{k}"]) for k in (1, 2)] == list(
            summary.recall.values()
        )
    for wrong, message in (
        ((images[:, :4], texts[:, :4]), "image_features: rows must be as long as those of updates"),
        ((images, texts[:, :4]), "text_features: rows must be as long as those of image_features"),
        ((images * torch.nan, texts), "image_features: row 0 holds NaN or infinity"),
        ((images, texts, torch.zeros(12).long()), "image_of_text: every image needs a text, 1 has"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(*wrong)
    assert len(metric.image_rows) == 4


def test_errors_of_openness() -> None:
    rows = torch.eye(3)
    metric = metrics.Openness(torch.tensor([0, 1, -1]))
    for arguments, message in (
        ((rows, torch.arange(3), rows), "labels: every image must be of a class in a group"),
        (
            (rows[:2], torch.arange(2), rows[:2]),
            "class_features: 3 classes are needed, as many as have",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(*arguments)
    metric.update(rows[:1], torch.tensor([0]), rows)
    with pytest.raises(ValueError, match="every group needs an image, group 1 has none"):
        metric.compute()
    for groups, options, message in (
        (torch.tensor([0, 0]), {}, "groups: at least two groups are needed, got 1"),
        (torch.tensor([0, 2]), {}, "groups: group 1 has no class"),
        (torch.tensor([0, 1]), {"permutations": 0}, "permutations: is 0"),
        (torch.tensor([0, 1]), {"seed": -1}, "seed: must be from 0"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.Openness(groups, **options)


@each
def test_copies(case: Case) -> None:
    metric = updated(case, batches=slice(2))
    for other in (metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        assert_scores(updated(case, other, slice(2, None)).compute(), case)
    assert metric.update_count == 2
    metric.persistent(True)
    loaded = case.make()
    loaded.load_state_dict(metric.state_dict())
    assert_scores(updated(case, loaded, slice(2, None)).compute(), case)


@each
def test_merge_state(case: Case) -> None:
    """Metrics of parts, in any order, some of them empty."""
    first, last = updated(case, batches=slice(2)), updated(case, batches=slice(2, None))
    last.merge_state(first)  # the data of the argument comes first
    assert_scores(last.compute(), case)
    last.merge_state(case.make())
    assert_scores(last.compute(), case)
    empty = case.make()
    empty.merge_state(last.metric_state)
    assert_scores(empty.compute(), case)
    assert empty.update_called


@each
def test_merge_after_compute(case: Case) -> None:
    metric = updated(case, batches=slice(3, None))
    metric._scores_a_batch = True
    metric.compute()
    metric.merge_state(updated(case, batches=slice(3)))
    assert_scores(metric.compute(), case)


def test_merge_refuses_other_configurations() -> None:
    ranking = metrics.MeanAveragePrecision
    recall = [metrics.RetrievalRecall() for _ in range(2)]
    for metric, d in zip(recall, (2, 3), strict=True):
        metric.update(torch.eye(d), torch.eye(d))
    openness = [metrics.Openness(torch.tensor(groups)) for groups in ([0, 1], [1, 0])]
    for one, other, message in (
        (metrics.SegmentationScorer(2), metrics.SegmentationScorer(3), "class_pixels differs"),
        (*recall, r"image_rows differs: \[\[1\.0, 0\.0, 0\.0\]\], here \[\[1\.0, 0\.0\]\]"),
        (*openness, r"class_groups differs: \[1, 0\], here \[0, 1\]"),
        (ranking(2, bins=3), ranking(2, bins=3, low=0.0), "bin_range differs"),
        (metrics.TagScorer(), metrics.HardPositives(), "Expected incoming state to be an instance"),
    ):
        with pytest.raises(ValueError, match=message):
            one.merge_state(other)


@each
def test_precision_of_a_module_around(case: Case) -> None:
    """Counts, sums and features keep their dtypes, whatever the module is turned into."""
    module = torch.nn.ModuleDict({"metric": case.make()})
    updated(case, module["metric"], slice(2))
    module.half().to(torch.bfloat16).to("cpu").double()
    module["metric"].half().set_dtype(torch.float16)
    assert_scores(updated(case, module["metric"], slice(2, None)).compute(), case)


@each
def test_devices(case: Case) -> None:
    """All states and results move, with those that `reset` puts in their place."""
    metric = updated(case)
    found = metric.compute()
    kinds = {name: [x.dtype for x in metric._as_list(s)] for name, s in metric.metric_state.items()}
    metric.to("meta")
    for name, state in metric.metric_state.items():
        assert [x.dtype for x in metric._as_list(state)] == kinds[name]
        assert {x.device.type for x in metric._as_list(state)} == {"meta"}
    assert {x.device.type for x in metric.compute().values()} == {"meta"}
    assert type(metric.compute()) is type(found)
    metric.reset()
    assert metric.device.type == "meta"
    tensors = [state for state in metric.metric_state.values() if isinstance(state, torch.Tensor)]
    assert all(x.device.type == "meta" for x in tensors)


@pytest.mark.parametrize("groups", [True, False])
def test_collections(groups: bool) -> None:
    for case in CASES.values():
        collection = MetricCollection(
            {"one": case.make(), "two": case.make()}, compute_groups=groups
        )
        for batch in case.batches[:2]:
            collection.update(**batch)
        for batch in case.batches[2:]:
            collection(**batch)
        found = collection.compute()
        for name in ("one", "two"):
            own = {key.removeprefix(f"{name}_"): x for key, x in found.items() if name in key}
            assert_scores(own, case)
        collection.reset()
        assert collection["one"].update_count == 0


def test_groups_of_a_collection_are_told_apart() -> None:
    """Two that agree about the first batch, but not about the second."""
    scores = torch.tensor([[0.9, 0.0]]), torch.tensor([[0.0, 0.45], [0.4, 0.0]])
    shown = torch.tensor([[True, False]]), torch.tensor([[True, False], [False, True]])
    options = {"wide": {"low": -1.0}, "narrow": {"low": 0.5}}
    ranking = MetricCollection(
        {n: metrics.MeanAveragePrecision(2, bins=2, **kw) for n, kw in options.items()}
    )
    classes = torch.eye(3)
    images = torch.eye(3), torch.tensor([[0.1, 0.9, 0.0]])
    groups = {"one": [0, 1, 1], "two": [0, 0, 1]}
    openness = MetricCollection(
        {name: metrics.Openness(torch.tensor(ids)) for name, ids in groups.items()}
    )
    for pair in zip(scores, shown, strict=True):
        ranking.update(*pair)
    for image in images:
        openness.update(image, torch.arange(len(image)), classes)
    for collection in (ranking, openness):
        found = collection.compute()
        for name, metric in collection.items(copy_state=False):
            alone = metric.clone()
            alone.reset()
            batches = (
                zip(scores, shown, strict=True)
                if collection is ranking
                else ((image, torch.arange(len(image)), classes) for image in images)
            )
            for batch in batches:
                alone.update(*batch)
            for key, value in alone.compute().items():
                assert torch.equal(found[f"{name}_{key}"], value), (name, key)


@each
def test_running(case: Case) -> None:
    """The last batches alone, whose states the wrapper keeps while the metric is reset."""
    running = Running(updated(case, batches=slice(0)), window=3)
    updated(case, running)
    assert same(running.compute(), updated(case, batches=slice(-3, None)).compute())


def test_wrappers_of_torchmetrics() -> None:
    case = CASES["retrieval best"]
    tracker = MetricTracker(case.make())
    for last in (2, 5):
        tracker.increment()
        updated(case, tracker, slice(last))
    for name, values in tracker.compute_all().items():
        assert values[1] == case.expected[name]
    metric = updated(CASES["maps"])
    assert float((metric * 1).metric_a.compute().mean_iou) > 0
    figure, _ = updated(CASES["hard positives"]).plot()
    figure.clear()


def test_values_of_torchmetrics_retrieval() -> None:
    """Its recall is ours where a query has one match, its hit rate where it may have several."""
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(n, 6, generator=generator) for n in (20, 50))
    of_text = torch.cat([torch.arange(20), torch.randint(20, (30,), generator=generator)])
    metric = metrics.RetrievalRecall((1, 4))
    for rows in torch.arange(20).split(7):
        own = (of_text >= rows[0]) & (of_text <= rows[-1])
        metric.update(images[rows], texts[own], of_text[own] - rows[0])
    found = metric.compute()
    scores, match = images @ texts.T, of_text == torch.arange(20)[:, None]
    for k in (1, 4):
        for kind, way, x, y in (
            (retrieval.RetrievalHitRate, "image_to_text", scores, match),
            (retrieval.RetrievalRecall, "text_to_image", scores.T, match.T),
        ):
            query = torch.arange(len(x))[:, None].expand_as(x)
            theirs = kind(top_k=k)(x.flatten(), y.flatten(), indexes=query.flatten())
            torch.testing.assert_close(found[f"{way}_R@{k}"].float(), theirs)


def test_values_of_torchmetrics_classification() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(60, 5, generator=generator)
    present = torch.rand(60, 5, generator=generator) < 0.3
    for bins in (None, 9):
        theirs = classification.MultilabelAveragePrecision(5, average=None, thresholds=bins)
        own = metrics.MeanAveragePrecision(5, bins=bins, low=0.0)
        for part in torch.arange(60).split(11):
            theirs.update(scores[part], present[part].int())
            own.update(scores[part], present[part])
        torch.testing.assert_close(own.compute().of_tags, theirs.compute())
    tags = metrics.TagScorer()
    tags.update(scores > 0.5, present)
    for name, kind in (
        ("precision", classification.BinaryPrecision),
        ("recall", classification.BinaryRecall),
        ("f1", classification.BinaryF1Score),
        ("accuracy", classification.BinaryAccuracy),
    ):
        theirs = kind()((scores > 0.5).int().flatten(), present.int().flatten())
        torch.testing.assert_close(tags.compute()[name].float(), theirs)


@each
def test_a_gather_of_ones_own(case: Case) -> None:
    """As torchmetrics' tests have it: two ranks with the same data."""
    metric = case.make(dist_sync_fn=lambda x, group: [x, x], distributed_available_fn=lambda: True)
    updated(case, metric)
    metric.sync(dist_sync_fn=metric.dist_sync_fn)
    for name, state in metric.metric_state.items():
        alone = getattr(updated(case), name)
        if isinstance(alone, list):
            assert torch.equal(state, torch.cat([*alone, *alone]))
        elif name not in metric._constants:
            assert torch.equal(state, 2 * alone)
    metric.unsync()
    assert_scores(updated(case).compute(), case)


def test_without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """That importing fastclip does not import it is tested in test_process.py."""
    assert {"TagScorer", "retrieval"} <= set(dir(metrics))
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    for name in ("", "._metric", ".tagging"):
        monkeypatch.delitem(sys.modules, f"fastclip.metrics{name}")
    monkeypatch.setattr(fastclip, "metrics", metrics)  # to be so after the import, too
    again = importlib.import_module("fastclip.metrics")
    assert "retrieval" in again.__all__
    assert not {"TagScorer", "Openness"} & {*again.__all__, *dir(again)}
    with pytest.raises(ImportError, match=r"pip install 'fastclip-kernels\[metrics\]'"):
        again.TagScorer  # noqa: B018
    with pytest.raises(AttributeError, match=r"module 'fastclip\.metrics' has no attribute 'tag'"):
        again.tag  # noqa: B018
