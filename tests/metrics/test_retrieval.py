from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import DTYPES

import fastclip
from fastclip.metrics import RankSummary, Retrieval, retrieval

KS = (1, 2, 5, 30)


def summary(ranks: list[int], ks: tuple[int, ...] = KS) -> RankSummary:
    """What open_clip's get_clip_metrics reports of ranks from 0."""
    return RankSummary(
        {k: float(np.mean(np.array(ranks) < k)) for k in ks},
        int(np.floor(np.median(ranks))) + 1,
        pytest.approx(np.mean(ranks) + 1, rel=1e-14),
    )


def dense(images, texts, image_of_text: list[int], captions: str) -> Retrieval:
    """The full matrix, sorted: equal scores in the order of their indices."""
    scores = reference.similarity(images, texts).astype(np.float64)
    text_order = np.argsort(-scores, axis=1, kind="stable").tolist()
    image_order = np.argsort(-scores.T, axis=1, kind="stable").tolist()
    places = [text_order[image].index(text) for text, image in enumerate(image_of_text)]
    if captions == "best":
        best = [len(texts)] * len(images)
        for image, place in zip(image_of_text, places, strict=True):
            best[image] = min(best[image], place)
        places = best
    to_image = [image_order[text].index(image) for text, image in enumerate(image_of_text)]
    return Retrieval(summary(places), summary(to_image))


@given(data=st.data())
def test_equals_the_dense_ranks(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count, extra = data.draw(st.integers(1, 25)), data.draw(st.integers(0, 60))
    image_of_text = rng.permutation([*range(count), *rng.integers(0, count, extra)])
    ties = data.draw(st.booleans())
    width = data.draw(st.integers(1, 4 if ties else 40))

    def rows(rows: int) -> torch.Tensor:
        values = rng.integers(-1, 2, (rows, width)) if ties else rng.standard_normal((rows, width))
        return torch.from_numpy(values).to(data.draw(st.sampled_from(DTYPES)))

    images, texts = rows(count), rows(len(image_of_text))
    for captions in ("best", "each"):
        found = retrieval(images, texts, image_of_text, ks=KS, captions=captions)
        assert found == dense(images, texts, image_of_text.tolist(), captions)


def test_many_captions_on_every_instruction_set(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("fastclip.metrics.retrieval"), "_PAIRS", 64)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(-2, 3, (150, 20), generator=generator).float()
    texts = torch.randint(-2, 3, (700, 20), generator=generator).float()
    image_of_text = torch.cat([torch.arange(150), torch.zeros(200), torch.arange(350) % 40]).int()
    for captions in ("best", "each"):
        found = retrieval(images, texts, image_of_text, ks=KS, captions=captions)
        assert found == dense(images, texts, image_of_text.tolist(), captions)


@pytest.mark.parametrize("captions", ["best", "each"])
def test_shipped_features(captions: str) -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    texts = fastclip.data.load_sample("coco-captions").normalized().features
    found = retrieval(images, texts, captions=captions)
    assert found.image_to_text.recall == {1: 0.552, 5: 0.808, 10: 0.892}
    assert found.text_to_image.recall == {1: 0.506, 5: 0.766, 10: 0.862}
    scores = images.double() @ texts.double().T
    for direction, matrix in zip(found, (scores, scores.T), strict=True):
        ranks = (matrix > matrix.diagonal()[:, None]).sum(1).tolist()
        assert direction == summary(ranks, (1, 5, 10))


def test_two_definitions_for_several_captions() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # Image 0 has the texts that it ranks first and last; image 1 the one that it ranks first.
    texts = torch.tensor([[1.0, 0.0], [0.1, 2.0], [0.0, 0.9]])
    found = retrieval(images, texts, torch.tensor([0, 1, 0]), ks=(2, 1))
    assert found.image_to_text == RankSummary({2: 1.0, 1: 1.0}, 1, 1.0)
    assert list(found.image_to_text.recall) == [2, 1]
    found = retrieval(images, texts, torch.tensor([0, 1, 0]), ks=(2, 1), captions="each")
    assert found.image_to_text == RankSummary({2: 2 / 3, 1: 2 / 3}, 1, pytest.approx(5 / 3))


def test_equal_scores_go_to_the_lower_index() -> None:
    same = torch.ones(4, 3)
    assert retrieval(same, same, ks=(1, 3)) == Retrieval(
        *[RankSummary({1: 0.25, 3: 0.75}, 2, 2.5)] * 2
    )


def test_inputs_of_other_kinds() -> None:
    images, texts = torch.randn(3, 8), torch.randn(5, 8)
    of_text = [0, 1, 2, 0, 1]
    expected = retrieval(images, texts, torch.tensor(of_text))
    assert retrieval(images.numpy(), texts.numpy(), np.array(of_text, np.uint16)) == expected
    assert retrieval(images.requires_grad_(), texts, torch.tensor(of_text).int()) == expected
    assert retrieval(images.T.clone().T, texts.T.clone().T, torch.tensor(of_text)) == expected


IMAGES, TEXTS, OF_TEXT = torch.randn(3, 8), torch.randn(5, 8), torch.tensor([0, 1, 2, 0, 1])


def without(row: int) -> torch.Tensor:
    return IMAGES.index_fill(0, torch.tensor([row]), float("nan"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((IMAGES, TEXTS), ValueError, "image_of_text: needed, since 3 images have 5 texts"),
        ((IMAGES, TEXTS, OF_TEXT[:4]), ValueError, r"image_of_text: shape \(5,\) is needed"),
        ((IMAGES, TEXTS, OF_TEXT.float()), TypeError, "image_of_text: integers are needed"),
        ((IMAGES, TEXTS, OF_TEXT.tolist()), TypeError, "image_of_text: .* got list"),
        ((IMAGES, TEXTS, OF_TEXT + 1), ValueError, "image_of_text: .* 3 images, got 3 at 2"),
        ((IMAGES, TEXTS, OF_TEXT - 1), ValueError, "image_of_text: .* got -1 at 0"),
        ((IMAGES, TEXTS, OF_TEXT % 2), ValueError, "image_of_text: every image .*, 2 has none"),
        ((IMAGES[:0], TEXTS), ValueError, "image_features: at least one row"),
        ((IMAGES, TEXTS[:0], OF_TEXT[:0]), ValueError, "every image needs a text, 0 has none"),
        ((IMAGES, TEXTS[:, :7], OF_TEXT), ValueError, "text_features: .* got 7 and 8"),
        ((IMAGES[0], TEXTS), ValueError, "image_features: 2 dimensions"),
        ((IMAGES, TEXTS.double()), TypeError, "text_features: float32"),
        ((without(2), TEXTS, OF_TEXT), ValueError, "image_features: row 2 holds NaN"),
        ((without(2).T.clone().T, TEXTS, OF_TEXT), ValueError, "image_features: row 2 holds NaN"),
        ((IMAGES, without(1)), ValueError, "text_features: row 1 holds NaN"),
    ],
)
def test_names_the_wrong_argument(
    arguments: tuple[object, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        retrieval(*arguments)


def test_refuses_ks_and_captions() -> None:
    with pytest.raises(ValueError, match="ks: is 0, allowed: 1 or more"):
        retrieval(IMAGES, IMAGES, ks=(1, 0))
    with pytest.raises(TypeError, match="float"):
        retrieval(IMAGES, IMAGES, ks=(1.5,))
    with pytest.raises(ValueError, match="captions: is 'any', allowed: best, each"):
        retrieval(IMAGES, IMAGES, captions="any")
