from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fastclip
from fastclip.metrics import hard_positive_scores, text_sensitivity

FRACTIONS = (
    *("original_accuracy", "augmented_accuracy", "brittleness", "positive_rejected"),
    *("caption_rejected", "both_rejected", "ties"),
)


def independent(s, p, n) -> dict[str, float]:
    """The definitions, item by item, from three lists of scores."""
    cells = dict.fromkeys(FRACTIONS, 0)
    for a, b, c in zip(s, p, n, strict=True):
        cells["original_accuracy"] += a > c
        cells["augmented_accuracy"] += min(a, b) > c
        cells["positive_rejected"] += a > c > b
        cells["caption_rejected"] += b > c > a
        cells["both_rejected"] += c > max(a, b)
        cells["ties"] += c in (a, b)
    cells["brittleness"] = cells["positive_rejected"] + cells["caption_rejected"]
    return {name: float(count) / len(s) for name, count in cells.items()}


def check(found: Any, s, p, n) -> None:
    for name, value in independent(s, p, n).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-12), name
    assert found.score_change == pytest.approx(np.mean(np.abs(np.subtract(s, p))), abs=1e-9)


@given(data=st.data())
def test_equals_the_definitions(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    items, images = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 12))
    ties = data.draw(st.booleans())
    width = data.draw(st.integers(1, 3 if ties else 30))

    def rows(count: int) -> torch.Tensor:
        some = rng.integers(-1, 2, (count, width)) if ties else rng.standard_normal((count, width))
        return torch.from_numpy(some.astype(np.float32))

    pictures, table = rows(images), rows(50)
    of_item = rng.integers(images, size=items)
    captions = rng.integers(50, size=items)
    several = [
        [rng.integers(50, size=rng.integers(1, 4)).tolist() for _ in range(items)] for _ in range(2)
    ]
    scores = reference.similarity(pictures, table)
    s = scores[of_item, captions].tolist()
    p = [min(scores[i, own]) for i, own in zip(of_item, several[0], strict=True)]
    n = [max(scores[i, own]) for i, own in zip(of_item, several[1], strict=True)]
    found = hard_positive_scores(
        pictures, captions, *several, text_features=table, image_of_item=of_item, resamples=5
    )
    check(found, s, p, n)
    assert reference.same_bits(found.caption_scores, np.array(s, np.float32))
    assert reference.same_bits(found.positive_scores, np.array(p, np.float32))
    assert reference.same_bits(found.negative_scores, np.array(n, np.float32))
    as_features = hard_positive_scores(
        pictures,
        table[captions],
        *([table[own] for own in texts] for texts in several),
        image_of_item=of_item,
        resamples=5,
    )
    assert {name: getattr(as_features, name) for name in FRACTIONS} == {
        name: getattr(found, name) for name in FRACTIONS
    }
    # The cells are all there is, with ties or without.
    cells = ("augmented_accuracy", "positive_rejected", "caption_rejected", "both_rejected", "ties")
    assert sum(getattr(found, name) for name in cells) == pytest.approx(1)
    if found.ties == 0:
        beats = np.mean(np.array(p) > np.array(n))
        assert found.original_accuracy + beats == pytest.approx(
            2 * found.augmented_accuracy + found.brittleness
        )
        assert found.original_accuracy - found.augmented_accuracy == pytest.approx(
            found.positive_rejected
        )
    least = found.original_accuracy - found.augmented_accuracy - found.ties
    assert found.brittleness >= least - 1e-12  # rounding of the differences


def triples(count: int, width: int = 16, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(F.normalize(torch.randn(4, count, width, generator=generator), dim=2))


def test_random_scores_are_at_chance() -> None:
    found = hard_positive_scores(*triples(6000), confidence=0.999)
    assert found.chance == {
        "original_accuracy": 1 / 2,
        "augmented_accuracy": pytest.approx(1 / 3),
        "brittleness": pytest.approx(1 / 3),
    }
    for name, value in found.chance.items():
        low, high = found.intervals[name]
        assert low < value < high
        assert high - low < 0.05


def test_chance_with_several_of_each() -> None:
    """Against a simulation: 2 hard positives and 3 hard negatives of independent scores."""
    scores = np.random.default_rng(0).random((6, 200_000))
    s, p, n = scores[0], scores[1:3].min(0), scores[3:].max(0)
    images, texts = torch.randn(1, 4), torch.randn(6, 4)
    found = hard_positive_scores(
        images, [0], [[1, 2]], [[3, 4, 5]], text_features=texts, image_of_item=torch.tensor([0])
    )
    simulated = {
        "original_accuracy": s > n,
        "augmented_accuracy": np.minimum(s, p) > n,
        "brittleness": ((s > n) & (n > p)) | ((p > n) & (n > s)),
    }
    for name, outcomes in simulated.items():
        assert found.chance[name] == pytest.approx(outcomes.mean(), abs=0.004)


def test_the_caption_as_its_own_positive() -> None:
    images, captions, _, negatives = triples(500)
    found = hard_positive_scores(images, captions, captions, negatives)
    assert found.augmented_accuracy == found.original_accuracy
    assert found.brittleness == found.score_change == 0


def test_all_texts_equal_is_neither_right_nor_brittle() -> None:
    images, captions, *_ = triples(10)
    found = hard_positive_scores(images, captions, captions, captions)
    assert (found.original_accuracy, found.brittleness, found.ties) == (0, 0, 1)


def test_categories_and_their_unweighted_mean() -> None:
    rows = triples(100)
    names = ["a"] * 30 + ["b"] * 70
    found = hard_positive_scores(*rows, categories=names)
    parts = [hard_positive_scores(*(x[k] for x in rows)) for k in (slice(30), slice(30, 100))]
    assert list(found.categories) == ["a", "b"]
    for part, own in zip(parts, found.categories.values(), strict=True):
        assert (part.items, part.brittleness) == (own.items, own.brittleness)
    mean = (parts[0].augmented_accuracy + parts[1].augmented_accuracy) / 2
    assert found.macro.augmented_accuracy == pytest.approx(mean)
    assert found.augmented_accuracy != pytest.approx(mean)
    low, high = found.macro.intervals["augmented_accuracy"]
    assert low < mean < high


def test_intervals_know_that_items_of_an_image_go_together() -> None:
    """200 copies of each of 50 items tell no more than the 50 do."""
    rows = triples(50)
    alone = hard_positive_scores(*rows)
    of_item = torch.arange(50).repeat(200)
    many = hard_positive_scores(
        rows[0], *(x[of_item] for x in rows[1:]), image_of_item=of_item, seed=1
    )

    def width(found: Any) -> float:
        low, high = found.intervals["original_accuracy"]
        return high - low

    assert many.original_accuracy == alone.original_accuracy
    assert width(many) == pytest.approx(width(alone), rel=0.2)
    p = alone.original_accuracy
    assert width(alone) == pytest.approx(2 * 1.96 * math.sqrt(p * (1 - p) / 50), rel=0.2)
    nothing = hard_positive_scores(*rows, resamples=0)
    assert all(map(math.isnan, nothing.intervals["original_accuracy"]))


def test_without_hard_positives() -> None:
    images, captions, _, negatives = triples(40)
    found = hard_positive_scores(images, captions, None, negatives)
    expected = hard_positive_scores(*triples(40))
    assert found.original_accuracy == expected.original_accuracy
    assert math.isnan(found.augmented_accuracy)
    assert math.isnan(found.chance["brittleness"])
    assert found.intervals["original_accuracy"] == expected.intervals["original_accuracy"]


def test_text_sensitivity() -> None:
    _, captions, positives, negatives = triples(300)
    found = text_sensitivity(captions, positives, negatives, categories=["x", "y"] * 150)
    p = (captions.double() * positives.double()).sum(1)
    n = (captions.double() * negatives.double()).sum(1)
    assert found.positive_score == pytest.approx(p.mean().item(), abs=1e-6)
    assert found.negative_score == pytest.approx(n.mean().item(), abs=1e-6)
    assert found.negative_nearer == (n > p).double().mean().item()
    assert found.categories["y"].negative_nearer == (n > p)[1::2].double().mean().item()
    assert text_sensitivity(captions, captions, negatives).negative_nearer == 0
    equal = text_sensitivity(captions, negatives, negatives)
    assert (equal.negative_nearer, equal.ties) == (0, 1)
    by_index = text_sensitivity(
        torch.arange(300),
        [[300 + i] for i in range(300)],
        np.arange(600, 900),
        text_features=torch.cat([captions, positives, negatives]),
    )
    assert by_index.negative_nearer == found.negative_nearer


def test_real_triples(real_data: Path) -> None:
    """The published captions, scored by random features of each different text and image."""
    entries, kinds = [], []
    for kind in ("relations", "attributes"):
        path = real_data / "hard_positives" / f"replace_{kind}.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            entries += [json.loads(line) for line in file]
        kinds += [kind] * (len(entries) - len(kinds))
    roles = ("caption", "hard_positive", "hard_negative")
    texts = {text: i for i, text in enumerate({e[role]: 0 for e in entries for role in roles})}
    places = {image: i for i, image in enumerate({e["image_id"]: 0 for e in entries})}
    generator = torch.Generator().manual_seed(0)
    table = F.normalize(torch.randn(len(texts), 64, generator=generator), dim=1)
    images = F.normalize(torch.randn(len(places), 64, generator=generator), dim=1)
    indices = [np.array([texts[e[role]] for e in entries]) for role in roles]
    of_item = np.array([places[e["image_id"]] for e in entries])
    found = hard_positive_scores(
        images,
        *indices,
        text_features=table,
        image_of_item=of_item,
        categories=kinds,
        confidence=0.999,
    )
    exact = [
        np.einsum("nd,nd->n", images.numpy()[of_item].astype(float), table.numpy()[i])
        for i in indices
    ]
    check(found, *(scores.astype(np.float32).astype(float) for scores in exact))
    # Texts that equal the negative: in 15 relations the caption, in one attribute the positive.
    equal = [e["hard_negative"] in (e["caption"], e["hard_positive"]) for e in entries]
    assert found.ties * len(entries) == pytest.approx(sum(equal))
    for name, value in found.chance.items():
        low, high = found.intervals[name]
        assert low < value < high, name


@pytest.mark.host
def test_scores_of_a_model() -> None:
    """The small model on scenes, against NumPy."""
    scenes = fastclip.data.scenes
    try:
        model = fastclip.models.load("tiny")
    except FileNotFoundError as error:
        pytest.skip(f"the small model is not here: {error}")
    drawings = scenes.load_drawings()
    maker = scenes.SceneMaker(drawings, 1)
    made = [maker.scene(index, "pair") for index in range(60)]
    pixels, _ = scenes.compose(drawings, made, 64)
    pictures = [Image.fromarray((x.permute(1, 2, 0) * 255).byte().numpy()) for x in pixels]
    images = model.encode_image(pictures)
    found = [scenes.relation_swap(drawings, scene) for scene in made]
    texts = [
        model.encode_text([getattr(c, role) for c in found])
        for role in ("true", "equivalent", "negative")
    ]
    exact = [np.einsum("nd,nd->n", *(x.double().numpy() for x in (images, t))) for t in texts]
    scores = hard_positive_scores(images, *texts)
    check(scores, *(x.astype(np.float32).astype(float) for x in exact))
    assert scores.score_change > 0


IMAGES, TEXTS = torch.randn(3, 8), torch.randn(3, 8)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((IMAGES[:2], TEXTS, TEXTS, TEXTS), {}, ValueError, "image_of_item: needed, since 2"),
        ((IMAGES, TEXTS, TEXTS[:2], TEXTS), {}, ValueError, "hard_positives: one entry .* got 2"),
        ((IMAGES, TEXTS, TEXTS, TEXTS[:, :7]), {}, ValueError, "hard_negatives: rows .* image_f"),
        ((IMAGES, TEXTS, TEXTS, TEXTS * math.nan), {}, ValueError, "hard_negatives: row 0 holds"),
        ((IMAGES * math.inf, *[TEXTS] * 3), {}, ValueError, "image_features: row 0 holds"),
        ((IMAGES, TEXTS, TEXTS, None), {}, TypeError, "hard_negatives: .* got None"),
        ((IMAGES, TEXTS[:0], TEXTS, TEXTS), {}, ValueError, "captions: at least one row"),
        ((IMAGES, [0, 1, 2], [[0], [], [1]], [0, 1, 2]), {"text_features": TEXTS}, ValueError,
         "hard_positives: each item needs at least one, item 1"),
        ((IMAGES, [0, 1, 3], [0, 1, 2], [0, 1, 2]), {"text_features": TEXTS}, ValueError,
         "captions: must be from 0 to 2"),
        ((IMAGES, *[TEXTS] * 3), {"categories": ["a"]}, ValueError, "categories: 3 names"),
        ((IMAGES, *[TEXTS] * 3), {"confidence": 1}, ValueError, "confidence: must be between"),
        ((IMAGES, *[TEXTS] * 3), {"resamples": -1}, ValueError, "resamples: is -1, allowed: 0"),
    ],
)  # fmt: skip
def test_names_the_wrong_argument(arguments, options, error, message) -> None:
    with pytest.raises(error, match=message):
        hard_positive_scores(*arguments, **options)
