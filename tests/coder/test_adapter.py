from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import authors
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up import cone, few_shot, made_up_coder
from PIL import Image

import fastclip
from fastclip.coder import (
    METHODS,
    ClassTexts,
    Coder,
    CoderAdapter,
    CoderClassifier,
    Grid,
    OneClass,
    TipAdapter,
    TipAdapterF,
    authors_few_shot,
    draw_shots,
    few_shot_curve,
    support_features,
)

KINDS = ("attribute", "sentence", "analogous", "name")


def parts_of_the_authors(adapter: CoderAdapter, support, images):
    """Zero-shot logits and raw affinities, by the representations themselves."""
    coder = adapter.coder
    texts = coder.features[coder.prompts.of_kinds(KINDS)].numpy()
    keys, queries = (authors.representation(x.numpy(), texts) for x in (support, images))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    zero_shot = 100 * images.double().numpy() @ coder.name_weights().double().numpy().T
    return zero_shot, queries @ keys.T


@given(seed=st.integers(0, 2**31), shots=st.integers(1, 4), beta=st.floats(0.1, 100))
def test_logits_equal_the_authors(seed: int, shots: int, beta: float) -> None:
    coder, generator = made_up_coder(5, 24, seed)
    support, support_labels, images, _ = few_shot(coder, generator, shots, 12)
    onehot = np.eye(5)[support_labels.numpy()]
    adapter = CoderAdapter(coder, alpha=1.5, beta=beta).fit(support, support_labels)
    zero_shot, affinity = parts_of_the_authors(adapter, support, images)
    expected = authors.adapter_logits(zero_shot, authors.stretched(affinity), onehot, 1.5, beta)
    found = adapter.class_scores(images)
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-4)
    raw = adapter.set_params(affinity="cosine").fit(support, support_labels)
    expected = authors.adapter_logits(zero_shot, affinity, onehot, 1.5, beta)
    np.testing.assert_allclose(raw.class_scores(images).numpy(), expected, rtol=2e-5, atol=2e-4)


@given(seed=st.integers(0, 2**31), rounds=st.integers(1, 3))
def test_search_equals_the_authors(seed: int, rounds: int) -> None:
    coder, generator = made_up_coder(6, 16, seed)
    support, support_labels, images, labels = few_shot(coder, generator, 3, 60, noise=2.0)
    adapter = CoderAdapter(coder).fit(support, support_labels)
    zero_shot, affinity = parts_of_the_authors(adapter, support, images)
    steps = (12, 7)
    alpha, beta, accuracy = authors.search(
        zero_shot,
        authors.stretched(affinity),
        np.eye(6)[support_labels.numpy()],
        labels.numpy(),
        (0.1, 60.0),
        (0.1, 9.0),
        steps,
        rounds,
    )
    found = adapter.tune(images, labels, grid=Grid((0.1, 60.0), (0.1, 9.0), *steps, rounds=rounds))
    assert (found.alpha, found.beta, found.accuracy) == (alpha, beta, accuracy)
    assert (adapter.alpha_, adapter.beta_) == (alpha, beta)
    assert (adapter.alpha, adapter.beta) == (1.0, 1.0)
    assert len(found.rounds) == rounds


@pytest.mark.parametrize("kind", [CoderAdapter, TipAdapter, TipAdapterF])
def test_search_counts_what_predict_gets_right(kind: type) -> None:
    coder, generator = made_up_coder(6, 16, 5)
    support, support_labels, images, labels = few_shot(coder, generator, 2, 200, noise=2.0)
    keep = torch.ones(12, dtype=torch.bool)
    keep[[3, 8, 9]] = False  # unequal shots, and a class without any
    first = coder if kind is CoderAdapter else coder.name_weights()
    adapter = kind(first).fit(support[keep], support_labels[keep])
    grid = Grid((0.5, 30), (0.5, 40), 4, 5, 1)
    (tried,) = adapter.tune(images, labels, grid=grid, split="test").rounds
    for i, beta in enumerate(tried.betas.tolist()):
        for j, alpha in enumerate(tried.alphas.tolist()):
            adapter.alpha_, adapter.beta_ = alpha, beta
            right = adapter.score(images, labels)
            assert abs(right * 200 - int(tried.right[i, j])) <= 1  # float32 against float64
    assert len(tried.right.unique()) > 3


def test_equal_scores_go_to_the_lower_class() -> None:
    weights = torch.eye(3)[[0, 0, 1]]
    adapter = TipAdapter(weights).fit(torch.eye(3)[[2, 2]], torch.tensor([0, 1]))
    images = torch.eye(3)[[0, 0]]
    found = adapter.tune(images, torch.tensor([0, 1]), grid=Grid((1, 2), (1, 2), 2, 2, 1))
    assert found.rounds[0].right.unique().tolist() == [1]
    assert adapter.predict(images).tolist() == [0, 0]


def test_one_support_image_stretches_to_one() -> None:
    coder, generator = made_up_coder(3, 8, 0)
    images = cone(4, 8, generator)
    adapter = CoderAdapter(coder, alpha=2.0, beta=5.0).fit(images[:1], torch.tensor([1]))
    cache = adapter.class_scores(images) - 100 * images @ coder.name_weights().T
    torch.testing.assert_close(cache, torch.tensor([[0.0, 2.0, 0.0]] * 4), atol=1e-4, rtol=0)


def test_centring_and_weights() -> None:
    coder, generator = made_up_coder(5, 12, 7)
    support, support_labels, images, _ = few_shot(coder, generator, 2, 8)
    adapter = CoderAdapter(coder, beta=3.0, centre=True, weighting="class", affinity="cosine")
    found = adapter.fit(support, support_labels).class_scores(images)
    rows = coder.prompts.of_kinds(KINDS)
    weights = coder.weights("class")[rows].sqrt().numpy()

    def phi(x: torch.Tensor) -> np.ndarray:
        full = authors.representation(x.numpy(), coder.features[rows].numpy()) * weights
        return full / np.linalg.norm(full, axis=1, keepdims=True)

    mean = phi(support).mean(0)
    keys, queries = phi(support) - mean, phi(images) - mean
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    zero_shot = 100 * images.double().numpy() @ coder.name_weights().double().numpy().T
    onehot = np.eye(5)[support_labels.numpy()]
    expected = authors.adapter_logits(zero_shot, queries @ keys.T, onehot, 1.0, 3.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=2e-4)


def test_refuses_to_score_what_it_was_tuned_on() -> None:
    coder, generator = made_up_coder(4, 8, 0)
    support, support_labels, images, labels = few_shot(coder, generator, 2, 20)
    adapter = CoderAdapter(coder).fit(support, support_labels)
    small = Grid((1, 2), (1, 2), 2, 2, 1)
    adapter.tune(images[:10], labels[:10], grid=small)
    with pytest.raises(ValueError, match="chosen on 3 of these 13 images; tune on others"):
        adapter.score(images[7:], labels[7:])
    assert 0 <= adapter.score(images[10:], labels[10:]) <= 1
    with pytest.raises(ValueError, match="split: is 'train', allowed: validation, test"):
        adapter.tune(images, labels, split="train")
    adapter.tune(images[:10], labels[:10], grid=small, split="test")
    assert 0 <= adapter.score(images, labels) <= 1


def test_training_the_keys_fits_the_support_images() -> None:
    coder, generator = made_up_coder(6, 16, 5)
    support, labels, *_ = few_shot(coder, generator, 4, 1, noise=2.0)
    plain = TipAdapter(coder.name_weights(), alpha=5, beta=5).fit(support, labels)
    trained = TipAdapterF(
        coder.name_weights(), alpha=5, beta=5, epochs=60, learning_rate=0.01, batch_size=7
    ).fit(support, labels)

    def loss(model: TipAdapter) -> float:
        logits = model.class_scores(support)
        return float(torch.nn.functional.cross_entropy(logits, labels))

    assert loss(trained) < loss(plain) / 2
    again = TipAdapterF(**trained.get_params()).fit(support, labels)
    assert torch.equal(again.class_scores(support), trained.class_scores(support))
    untrained = trained.set_params(epochs=0).fit(support, labels)
    assert torch.equal(untrained.class_scores(support), plain.class_scores(support))


def test_draws_of_more_shots_hold_those_of_fewer() -> None:
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(1))
    few, more = draw_shots(labels, 2, seed=4).reshape(3, 2), draw_shots(labels, 9, seed=4)
    assert torch.equal(more.reshape(3, 9)[:, :2], few)
    assert labels[more].tolist() == [0] * 9 + [1] * 9 + [2] * 9
    assert len(more.unique()) == 27
    with pytest.raises(ValueError, match=r"shots: from 1 to .* is allowed, got 0"):
        draw_shots(labels, 0)
    for wrong in (labels.float() + 0.5, labels > 0, labels - 5, labels.tolist()):
        with pytest.raises((TypeError, ValueError), match=r"^labels: "):
            draw_shots(wrong, 1)
    with pytest.raises(TypeError, match=r"^shots: an integer is needed, got float"):
        draw_shots(labels, 1.5)


CODER = made_up_coder(4, 6, 0)[0]


@pytest.mark.parametrize(
    ("make", "labels", "message"),
    [
        (lambda: CoderAdapter(CODER, affinity="near"), [0], "affinity: is 'near'"),
        (lambda: CoderAdapter(CODER, beta=float("nan")), [0], "beta: a finite float32"),
        (lambda: CoderAdapter(CODER), [4], "y: must be from 0 to 3, one of 4 classes"),
        (lambda: CoderAdapter(CODER, torch.ones(4, 6)), [0], "class_weights: rows of unit"),
        (lambda: TipAdapter(torch.eye(5)), [0], "X: rows of 5 numbers"),
    ],
)
def test_names_the_wrong_argument(make, labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().fit(torch.eye(6)[:1], torch.tensor(labels))
    with pytest.raises(ValueError, match="CoderAdapter is not fitted"):
        CoderAdapter(CODER).predict(torch.eye(6))
    fitted = CoderAdapter(CODER).fit(torch.eye(6)[:1], torch.tensor([0]))
    with pytest.raises(ValueError, match=r"grid\.beta: 0 < low < high is needed"):
        fitted.tune(torch.eye(6), torch.zeros(6).long(), grid=Grid(beta=(0, 1)))


def test_curve_asks_test_images_once() -> None:
    coder, generator = made_up_coder(4, 16, 5)
    _, _, images, labels = few_shot(coder, generator, 1, 120, noise=2.0)
    points = few_shot_curve(
        coder, images, labels, shots=(2, 1), seeds=(0, 1), grid=Grid((1, 20), (1, 20), 3, 3, 1)
    )
    assert len(points) == 2 * 2 * len(METHODS)
    assert {point.test_images for point in points} == {120 - 4 * 4}
    assert [point.shots for point in points[: 2 * len(METHODS)]] == [1] * 5 + [2] * 5
    with pytest.raises(ValueError, match="methods: holds 'mine', allowed: CODER-Adapter"):
        few_shot_curve(coder, images, labels, methods=["mine"])
    with pytest.raises(ValueError, match="shots: 90 need more than 94 images of each class"):
        few_shot_curve(coder, images, labels, shots=[90])


@pytest.mark.parametrize("label", [-1, 4])
def test_curve_names_labels_without_a_class(label: int) -> None:
    coder, generator = made_up_coder(4, 16, 5)
    _, _, images, labels = few_shot(coder, generator, 1, 120, noise=2.0)
    labels[7] = label
    with pytest.raises(ValueError, match=f"labels: must be from 0 to 3, .* got {label} at 7"):
        few_shot_curve(coder, images, labels, shots=[1])


def test_the_authors_take_the_larger_of_two_tests() -> None:
    coder, generator = made_up_coder(4, 16, 5)
    _, _, images, labels = few_shot(coder, generator, 1, 120, noise=2.0)
    options: dict[str, Any] = {"shots": (1,), "seeds": range(4), "methods": ["CODER-Adapter"]}
    options["grid"] = Grid((100, 200), (1000, 2000), 2, 2, 1)  # without good pairs
    once = few_shot_curve(coder, images, labels, **options)
    twice = few_shot_curve(
        coder, images, labels, **options, initial=(0.5, 2.0), protocol=["best-of-two-tests"]
    )
    for one, both in zip(once, twice, strict=True):
        assert (both.alpha, both.beta) in ((0.5, 2.0), (one.alpha, one.beta))
        assert both.accuracy >= one.accuracy
    assert any(both.accuracy > one.accuracy for one, both in zip(once, twice, strict=True))
    with pytest.raises(ValueError, match="class_weights: are needed for 'template-weights'"):
        few_shot_curve(coder, images, labels, protocol="authors")
    with pytest.raises(ValueError, match=r"initial: is None, allowed: \(alpha, beta\) with"):
        few_shot_curve(coder, images, labels, protocol=["best-of-two-tests"])
    with pytest.raises(ValueError, match=r"initial: is \(1, 1\), allowed"):
        few_shot_curve(coder, images, labels, initial=(1, 1))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_adds_to_the_class_weights(method: str) -> None:
    coder, generator = made_up_coder(4, 16, 5)
    labels = torch.arange(120) % 4
    noise = torch.randn(120, 16, generator=generator) / 100
    images = torch.nn.functional.normalize(coder.name_weights()[labels] + noise, dim=1)
    options: dict[str, Any] = {"shots": (1,), "seeds": (0,), "methods": [method]}
    options["grid"] = Grid((1, 2), (1e-6, 2e-6), 2, 2, 1)  # the class weights alone decide
    wrong = coder.name_weights().roll(1, 0)  # each class has another one's
    (right,) = few_shot_curve(coder, images, labels, **options)
    (none,) = few_shot_curve(coder, images, labels, class_weights=wrong, **options)
    assert right.accuracy > 0.5 > none.accuracy


def test_settings_of_the_authors() -> None:
    found = authors_few_shot("Pets")
    assert (found.alpha, found.beta, found.augmentations) == (1, 26, 10)
    assert len(authors_few_shot("ImageNet").templates) == 7
    with pytest.raises(ValueError, match="name: is 'MNIST', allowed: Caltech101, DTD"):
        authors_few_shot("MNIST")


def test_curve_with_other_features_of_support_images() -> None:
    coder, generator = made_up_coder(4, 16, 5)
    _, _, images, labels = few_shot(coder, generator, 1, 120, noise=2.0)
    other = torch.nn.functional.normalize(images + torch.randn(images.shape) / 4, dim=1)
    grid, asked = Grid((1, 20), (1, 20), 3, 3, 1), []

    def embed(rows: torch.Tensor) -> torch.Tensor:
        asked.append(rows)
        return other[rows]

    points = few_shot_curve(
        coder,
        images,
        labels,
        shots=(1, 2),
        seeds=(0, 1),
        methods=["Tip-Adapter"],
        grid=grid,
        embed_support=embed,
    )
    draws = {seed: draw_shots(labels, 4, seed=seed).reshape(-1, 4) for seed in (0, 1)}
    assert len(asked) == 1
    assert set(asked[0].tolist()) == {
        int(i) for drawn in draws.values() for i in drawn[:, :2].ravel()
    }
    for point in points:
        drawn = draws[point.seed]
        support, validation = drawn[:, : point.shots].ravel(), drawn[:, 4 - point.shots :].ravel()
        model = TipAdapter(coder.name_weights()).fit(other[support], labels[support])
        model.tune(images[validation], labels[validation], grid=grid)
        test = torch.ones(len(images), dtype=torch.bool)
        test[drawn.ravel()] = False
        assert point.accuracy == model.score(images[test], labels[test])
        assert (point.alpha, point.beta) == (model.alpha_, model.beta_)
    with pytest.raises(ValueError, match=r"embed_support: \d+ rows are needed, got 120"):
        few_shot_curve(coder, images, labels, shots=[1], embed_support=lambda rows: other)


def test_support_features_average_augmented_copies() -> None:
    model = fastclip.models.load("tiny")
    pictures = [Image.new("RGB", (90, 60), "red"), Image.linear_gradient("L")]
    found = support_features(model, pictures, augmentations=3, seed=1)
    assert found.shape == (2, model.dim)
    assert torch.equal(found, support_features(model, pictures, augmentations=3, seed=1))
    assert not torch.equal(found[1], support_features(model, pictures, augmentations=3)[1])
    one_by_one = support_features(model, pictures, augmentations=3, seed=1, batch_size=1)
    torch.testing.assert_close(found, one_by_one)
    # every crop of one colour is that colour
    torch.testing.assert_close(found[0], model.encode_image(pictures)[0], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="augmentations: is 0, allowed: 1 or more"):
        support_features(model, pictures, augmentations=0)
    with pytest.raises(ValueError, match="batch_size: is 0, allowed: 1 or more"):
        support_features(model, pictures, batch_size=0)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_peak_memory_does_not_grow_with_the_number_of_texts() -> None:
    """What the images' cosines with all texts would need is ten times what is allowed."""
    classes, width, images = 50, 32, 4000
    phrases = tuple(f"{i}" for i in range(400))
    known = ClassTexts(
        tuple(OneClass(f"c{i}", phrases, synonyms=(f"s{i}",)) for i in range(classes))
    )
    prompts = known.prompts()
    generator = torch.Generator().manual_seed(0)
    coder = Coder(prompts, cone(len(prompts.texts), width, generator))
    assert len(prompts.texts) * images * 4 > 320e6
    rows = cone(images, width, generator)
    labels = torch.arange(images) % classes
    grid = Grid(beta_steps=2, alpha_steps=2, rounds=1)

    def work() -> None:
        CoderClassifier().fit(coder).decide(rows)
        adapter = CoderAdapter(coder).fit(rows[:100], labels[:100])
        adapter.tune(rows[:500], labels[:500], grid=grid)
        adapter.score(rows[500:], labels[500:])

    work()  # what libraries keep for good does not count
    assert extra_memory(work) < 32e6


def extra_memory(call: Callable[[], None]) -> int:
    """Return by how many bytes this process is larger during a call than before."""

    def resident(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def test_memory_does_not_grow_with_the_number_of_texts() -> None:
    coder, generator = made_up_coder(5, 16, 5)  # about 50 texts
    support, support_labels, *_ = few_shot(coder, generator, 2, 8)
    adapter = CoderAdapter(coder).fit(support, support_labels)
    held = [x for x in vars(adapter).values() if isinstance(x, torch.Tensor)]
    assert max(x.numel() for x in held) <= 16 * 16
    classifier = CoderClassifier(kinds=("name", "attribute")).fit(coder)
    held = [x for x in vars(classifier).values() if isinstance(x, torch.Tensor)]
    assert max(x.numel() for x in held) <= 5 * 16
