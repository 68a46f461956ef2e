from __future__ import annotations

import authors
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up import class_texts, cone, made_up_coder, unit

from fastclip.coder import ClassTexts, Coder, CoderClassifier, OneClass
from fastclip.coder.prompts import KINDS


def counts_of(coder: Coder) -> list[tuple[int, int]]:
    """Of each class, texts that are averaged and that compete."""
    result = []
    for index in range(len(coder.class_names)):
        kinds = coder.prompts.kind_of[coder.prompts.class_of == index].tolist()
        competing = sum(KINDS[kind] in ("name", "synonym") for kind in kinds)
        result.append((len(kinds) - competing, competing))
    return result


def pairs_of(coder: Coder) -> dict[tuple[int, int], np.ndarray]:
    pairs = coder.prompts.pair_of.numpy()
    rows = coder.pair_features.numpy()
    return {(int(a), int(b)): rows[(pairs == (a, b)).all(1)] for a, b in np.unique(pairs, axis=0)}


def some_texts(pairs: dict[tuple[int, int], np.ndarray], candidates: list[int]) -> bool:
    """Without texts in both directions on any pair, there is nothing to rerank by."""
    return any((a, b) in pairs and (b, a) in pairs for a in candidates for b in candidates)


# With one dimension, candidates tie everywhere but for rounding.
@given(seed=st.integers(0, 2**31), classes=st.integers(1, 12), width=st.integers(2, 40))
def test_equals_the_authors_scripts(seed: int, classes: int, width: int) -> None:
    coder, generator = made_up_coder(classes, width, seed)
    images = cone(30, width, generator)
    labels = torch.randint(classes, (30,), generator=generator)
    phi = authors.representation(images.numpy(), coder.features.numpy())
    expected = authors.class_scores(phi, counts_of(coder))
    found = CoderClassifier().fit(coder).class_scores(images)
    np.testing.assert_allclose(found.numpy(), expected, atol=3e-5)

    # From here on float32 scores are the truth: which images are near-ties is not the question.
    scores = found.numpy().astype(np.float64)
    count = min(5, classes)
    if count < 2:
        return
    pairs = pairs_of(coder)
    for protocol, truth in (("honest", None), ("authors", labels)):
        classifier = CoderClassifier(threshold=0.05, protocol=protocol).fit(coder)
        decided = classifier.decide(images, truth)
        known = None if truth is None else truth.numpy()
        classes_, chosen = authors.rerank(images.numpy(), scores, pairs, 0.05, known, count)
        # margins of two candidates, or a gap and the threshold, may agree but for rounding
        margins = decided.margins.nan_to_num(0).sort(1, descending=True).values
        clear = ~decided.reranked | (margins[:, 0] - margins[:, 1] > 1e-6)
        clear = clear & ((decided.gaps - 0.05).abs() > 1e-6)
        chosen &= [some_texts(pairs, row) for row in decided.candidates.tolist()]
        assert np.array_equal(decided.reranked[clear].numpy(), chosen[clear.numpy()])
        assert np.array_equal(decided.classes[clear].numpy(), classes_[clear.numpy()])
        assert clear.double().mean() > 0.5


def test_labels_that_choose_change_no_accuracy() -> None:
    coder, generator = made_up_coder(9, 16, 3)
    images = cone(400, 16, generator)
    labels = torch.randint(9, (400,), generator=generator)
    honest = CoderClassifier(threshold=0.5).fit(coder).decide(images)
    theirs = CoderClassifier(threshold=0.5, protocol={"labels-choose"}).fit(coder)
    leaky = theirs.decide(images, labels)
    assert honest.reranked.sum() > leaky.reranked.sum() > 0
    assert not torch.equal(honest.classes, leaky.classes)
    assert (honest.classes == labels).sum() == (leaky.classes == labels).sum()
    assert (honest.first_stage != honest.classes).any()


def test_more_images_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    coder, generator = made_up_coder(6, 8, 1)
    images = cone(100, 8, generator)
    classifier = CoderClassifier(threshold=1.0).fit(coder)
    whole = classifier.decide(images)
    monkeypatch.setattr("fastclip.coder.classifier._ROWS", 7)
    monkeypatch.setattr("fastclip.coder.classifier._PAIRS", 80)
    for part, expected in zip(classifier.decide(images), whole, strict=True):
        # sums of float32 products differ with the size of a batch
        torch.testing.assert_close(part, expected, atol=1e-6, rtol=0, equal_nan=True)
    assert whole.reranked.sum() > 60
    assert classifier.predict(images[:0]).shape == (0,)


def test_silent_rerank_keeps_the_first_stage() -> None:
    coder, generator = made_up_coder(6, 8, 1)
    images = cone(50, 8, generator)
    classifier = CoderClassifier(threshold=1.0, protocol={"silent-rerank"}).fit(coder)
    found = classifier.decide(images)
    assert torch.equal(found.classes, found.first_stage)
    assert not found.reranked.any()
    assert torch.equal(found.first_stage, classifier.set_params(rerank=False).predict(images))


def test_of_equal_classes_the_first_wins() -> None:
    known = ClassTexts((OneClass("a"), OneClass("b"), OneClass("c")))
    coder = Coder(known, unit(torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])))
    found = CoderClassifier(threshold=1.0).fit(coder).decide(unit(torch.ones(1, 2)))
    assert found.candidates.tolist() == [[0, 1, 2]]
    assert found.classes.tolist() == [0]


def test_pairs_known_in_one_direction_do_not_count() -> None:
    known = ClassTexts((OneClass("a"), OneClass("b")), {("a", "b"): ("x",)})
    prompts = known.prompts()
    coder = Coder(prompts, torch.eye(2), torch.eye(2)[[1] * len(prompts.pair_texts)])
    found = CoderClassifier(threshold=1.0).fit(coder).decide(torch.eye(2))
    assert found.classes.tolist() == [0, 1]
    assert not found.reranked.any()


def test_kinds() -> None:
    coder, generator = made_up_coder(5, 8, 2)
    images = cone(10, 8, generator)
    only_names = CoderClassifier(kinds=("name",)).fit(coder).class_scores(images)
    torch.testing.assert_close(only_names, 100 * images @ coder.name_weights().T)


def test_conventions_of_scikit_learn() -> None:
    classifier = CoderClassifier(threshold=0.3)
    assert type(classifier)(**classifier.get_params()).get_params() == classifier.get_params()
    with pytest.raises(ValueError, match="colour"):
        classifier.set_params(colour=1)
    with pytest.raises(ValueError, match="CoderClassifier is not fitted"):
        classifier.predict(torch.eye(2))
    coder, generator = made_up_coder(4, 6, 0)
    assert classifier.fit(coder) is classifier
    assert classifier.classes_.tolist() == [0, 1, 2, 3]
    probabilities = classifier.predict_proba(cone(3, 6, generator))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))


CODER = made_up_coder(4, 6, 0)[0]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kinds": ("attribute",)}, "kinds: must hold 'name'"),
        ({"kinds": ("colour",)}, "kinds: holds 'colour', allowed: attribute"),
        ({"threshold": 1.5}, "threshold: from 0 to 1 is allowed, got 1.5"),
        ({"candidates": 1}, "candidates: at least 2 are needed, got 1"),
        ({"protocol": "their"}, "protocol: is 'their', allowed: 'honest'"),
        ({"protocol": {"bug"}}, "protocol: holds 'bug', allowed: none-synonyms"),
    ],
)
def test_names_the_wrong_parameter(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoderClassifier(**parameters).fit(CODER)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.ones(2, 6), None, "X: rows of unit length .* row 0 has length 2.449"),
        (torch.eye(5), None, "X: rows of 6 numbers are needed, got 5"),
        (torch.eye(6) * torch.nan, None, "X: row 0 holds NaN"),
        (torch.eye(6), torch.zeros(6).long(), "labels: not allowed with protocol 'honest'"),
    ],
)
def test_names_the_wrong_input(images: torch.Tensor, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoderClassifier().fit(CODER).predict(images, labels)
    with pytest.raises(ValueError, match="labels: needed with protocol 'authors'"):
        CoderClassifier(protocol="authors").fit(CODER).predict(torch.eye(6))


def test_texts_of_the_authors_synonyms() -> None:
    known = class_texts(3, 5)
    theirs = known.prompts(protocol="authors").texts
    synonyms = sum(bool(one.synonyms) for one in known.classes)
    assert theirs.count("a photo of None") >= synonyms > 0
    assert not any("None" in text for text in known.prompts().texts)
