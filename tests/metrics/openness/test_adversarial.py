from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fastclip
from fastclip.metrics.openness import adversarial, adversarial_vocabulary


def dense(pictures, classes):
    return pictures.astype(np.float64) @ classes.astype(np.float64).T


def right_with(scores, labels, extra):
    """Images that are right with some words after the classes, as ``argmax`` has it."""
    return np.concatenate([scores, extra], axis=1).argmax(1) == labels


def world(seed, images, classes, words, width=5):
    rng = np.random.default_rng(seed)
    class_rows = rng.integers(-2, 3, (classes, width)).astype(np.float32)
    labels = rng.integers(0, classes, images)
    pictures = class_rows[labels] + rng.integers(-1, 2, (images, width)).astype(np.float32)
    word_rows = rng.integers(-2, 3, (words, width)).astype(np.float32)
    names = [f"word {rng.integers(0, words)}" for _ in range(words)]  # some of them twice
    return pictures, labels, class_rows, word_rows, names


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 6), st.integers(1, 25),
    st.integers(0, 4), st.sampled_from([3, 512]),
)  # fmt: skip
def test_ranking_is_that_of_the_loop_over_words(seed, images, classes, words, combine, block):
    case = world(seed, images, classes, words)
    pictures, labels, class_rows, word_rows, names = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adversarial, "_WORDS", block)
        found = adversarial_vocabulary(*case, top=words, combine=combine)
    scores, extra = dense(pictures, class_rows), dense(pictures, word_rows)
    before = scores.argmax(1) == labels
    assert found.accuracy_without == before.mean()
    by_word = [right_with(scores, labels, extra[:, [w]]) for w in range(words)]
    order = sorted(range(words), key=lambda w: (by_word[w].mean(), names[w]))
    assert found.names == tuple(names[w] for w in order)
    assert found.indices.tolist() == order
    assert found.accuracy.tolist() == [by_word[w].mean() for w in order]
    for w, taken in zip(order, found.images, strict=True):
        assert taken.tolist() == np.flatnonzero(before & ~by_word[w]).tolist()

    chosen: list[int] = []
    for name, accuracy in zip(found.combined_names, found.combined_accuracy, strict=True):
        with_each = {
            w: right_with(scores, labels, extra[:, [*chosen, w]]).mean()
            for w in range(words)
            if w not in chosen
        }
        worst = min(with_each, key=lambda w: (with_each[w], names[w]))
        assert (name, accuracy) == (names[worst], with_each[worst])
        chosen.append(worst)
    assert len(chosen) == min(combine, words)


def test_excluded_words_and_packed_candidates() -> None:
    pictures, labels, classes, words, names = world(0, 40, 5, 30)
    names = [f"Noun_{i}" for i in range(30)]
    found = adversarial_vocabulary(pictures, labels, classes, words, names, top=4)
    packed = fastclip.pack(torch.from_numpy(words))
    again = adversarial_vocabulary(pictures, labels, classes, packed, names, top=4)
    assert again.names == found.names
    assert again.combined_accuracy == found.combined_accuracy
    worst = found.names[0]
    without = adversarial_vocabulary(
        pictures, labels, classes, words, names, top=3, exclude=[worst.lower().replace("_", " ")]
    )
    assert without.names == found.names[1:]
    assert worst not in without.combined_names


def test_several_prompts() -> None:
    pictures, labels, classes, words, names = world(1, 40, 5, 30)
    rng = np.random.default_rng(0)
    several = classes[:, None] + rng.integers(-1, 2, (5, 3, 5)).astype(np.float32)
    found = adversarial_vocabulary(pictures, labels, several, words, names, top=30)
    scores = np.einsum("nd,cpd->ncp", pictures, several).max(2).astype(np.float64)
    extra = dense(pictures, words)
    expected = [right_with(scores, labels, extra[:, [w]]).mean() for w in found.indices]
    assert found.accuracy.tolist() == expected == sorted(expected)


def test_real_captions_with_the_words_of_other_models_left_aside() -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized()
    classes, words = captions.features[:100], captions.features[100:]
    found = adversarial_vocabulary(
        images[:100], torch.arange(100), classes, words, captions.names[100:], top=5
    )
    assert found.accuracy_without > found.accuracy[0] >= found.combined_accuracy[-1]
    for name in found.combined_names:
        assert name in captions.names


def test_no_image_is_right() -> None:
    found = adversarial_vocabulary(
        -np.eye(3, dtype=np.float32), np.array([0, 0, 1]), np.eye(3, dtype=np.float32),
        np.ones((2, 3), np.float32), ["b", "a"],
    )  # fmt: skip
    assert (found.accuracy_without, found.names) == (1 / 3, ("a", "b"))
    found = adversarial_vocabulary(
        -np.eye(2, dtype=np.float32), np.array([0, 1]), np.eye(2, dtype=np.float32),
        np.ones((2, 2), np.float32), ["b", "a"],
    )  # fmt: skip
    assert found.combined_names == ("a", "b")
    assert found.combined_accuracy == (0.0, 0.0)


def test_names_the_wrong_argument() -> None:
    case = world(2, 5, 3, 4)
    for arguments, message in (
        ({"top": 0}, "top: is 0, allowed: 1 or more"),
        ({"combine": -1}, "combine: is -1, allowed: 0 or more"),
        ({"exclude": set(case[4])}, "exclude: leaves no candidate"),
    ):
        with pytest.raises(ValueError, match=message):
            adversarial_vocabulary(*case, **arguments)
    with pytest.raises(ValueError, match="candidate_names: 4 are needed, one per row, got 3"):
        adversarial_vocabulary(*case[:4], case[4][:3])
    with pytest.raises(ValueError, match="candidate_features: rows must be as long"):
        adversarial_vocabulary(*case[:3], case[3][:, :4], case[4])
    with pytest.raises(ValueError, match="candidate_features: row 0 holds NaN"):
        adversarial_vocabulary(*case[:3], np.full_like(case[3], np.nan), case[4])
    with pytest.raises(ValueError, match="candidate_features: at least one row"):
        adversarial_vocabulary(*case[:3], case[3][:0], [])
