from __future__ import annotations

import numpy as np
import openness_by_steps as by_steps
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fastclip
from fastclip.metrics.openness import _exact, vocabulary_expansion


def world(seed, sizes, images, *, low=-2, high=3, width=6):
    """Classes in groups of ``sizes``, images of each group; small whole numbers make ties."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rng.shuffle(groups)
    labels = np.concatenate(
        [rng.choice(np.flatnonzero(groups == g), n) for g, n in enumerate(images)]
    )
    classes = rng.integers(low, high, (len(groups), width)).astype(np.float32)
    pictures = classes[labels] + rng.integers(-2, 3, (len(labels), width)).astype(np.float32)
    return pictures, labels, classes, groups


def scores_of(pictures, classes):
    return pictures.astype(np.float64) @ classes.T.astype(np.float64)


@st.composite
def worlds(draw, *, equal):
    count = draw(st.integers(2, 5))
    sizes = [draw(st.integers(1, 4)) for _ in range(count)]
    images = (
        [draw(st.integers(1, 7))] * count
        if equal
        else [draw(st.integers(1, 9)) for _ in range(count)]
    )
    return world(draw(st.integers(0, 2**32 - 1)), sizes, images)


def check_all(pictures, labels, classes, groups):
    pooled, conditional = by_steps.every_order(scores_of(pictures, classes), labels, groups)
    found = vocabulary_expansion(pictures, labels, classes, groups)
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(found.acc_c, pooled[:, 0, 0].mean(), **close)
    np.testing.assert_allclose(found.group_acc_c, pooled[:, 0, 0], **close)
    np.testing.assert_allclose(found.acc_full, pooled[0, 0, -1], **close)
    np.testing.assert_allclose(found.acc_e, pooled.mean(), **close)
    np.testing.assert_allclose(found.acc_s, conditional[:, :, 1:].mean(), **close)
    np.testing.assert_allclose(found.delta_e, pooled.mean() - found.acc_c, **close)
    np.testing.assert_allclose(found.group_acc_e, pooled.mean((1, 2)), **close)
    np.testing.assert_allclose(found.group_acc_s, conditional[:, :, 1:].mean((1, 2)), **close)
    for curve, table in ((found.extensibility, pooled), (found.stability, conditional)):
        np.testing.assert_allclose(curve.by_group, table.mean(1), **close)
        np.testing.assert_allclose(curve.mean, table.mean((0, 1)), **close)
        # A variance is a difference: of its root, half of the digits are left.
        np.testing.assert_allclose(curve.std, table.std((0, 1)), rtol=0, atol=1e-7)
    assert found.standard_error_e == found.standard_error_s == 0
    return found


@given(worlds(equal=False))
def test_all_orders_are_those_of_brute_force(case) -> None:
    check_all(*case)


@given(worlds(equal=True))
def test_equal_groups_are_those_of_brute_force_and_keep_the_identity(case) -> None:
    found = check_all(*case)
    groups = case[3]
    labels = case[1]
    images = np.bincount(labels, minlength=len(groups))
    count = groups.max() + 1
    if len(set(images[images > 0].tolist())) == 1:  # then class means are pooled means
        identity = (found.acc_c + (count - 1) * found.acc_s) / count
        assert found.acc_e == pytest.approx(identity, abs=1e-12)
    assert found.acc_full <= found.acc_e + 1e-12


def test_six_groups_are_those_of_brute_force() -> None:
    check_all(*world(0, [3, 1, 2, 4, 2, 3], [5, 9, 4, 12, 1, 7]))


def test_closed_form_and_unions_agree_on_many_groups() -> None:
    pictures, labels, classes, groups = world(1, [4] * 13, [20] * 13, width=10)
    found = vocabulary_expansion(pictures, labels, classes, groups)
    from fastclip.metrics._inputs import as_inputs
    from fastclip.metrics.openness._outcomes import outcomes

    inputs = as_inputs(pictures, labels, classes)
    outcome = outcomes(inputs, torch.from_numpy(groups), None)
    unions = _exact.extensibility_of_unions(_exact.union_accuracy(outcome), _exact.popcounts(13))
    np.testing.assert_allclose(found.extensibility.by_group, unions, rtol=0, atol=1e-13)
    assert 0 < found.acc_full < found.acc_s < found.acc_e < found.acc_c < 1


def test_more_groups_than_unions_can_be_counted_for() -> None:
    pictures, labels, classes, groups = world(2, [2] * 70, [6] * 70, width=24)
    found = vocabulary_expansion(pictures, labels, classes, groups)
    drawn = vocabulary_expansion(pictures, labels, classes, groups, permutations=40, seed=1)
    assert found.extensibility.std.isnan().all()
    np.testing.assert_allclose(drawn.stability.std, found.stability.std, atol=0.005)
    assert drawn.acc_e == pytest.approx(found.acc_e, abs=5 * drawn.standard_error_e)
    assert drawn.acc_s == pytest.approx(found.acc_s, abs=5 * drawn.standard_error_s)
    with pytest.raises(ValueError, match="permutations: 'all' is possible with up to 24 groups"):
        vocabulary_expansion(pictures[1:], labels[1:], classes, groups)


def test_drawn_orders_converge_within_their_standard_errors() -> None:
    case = world(3, [3, 2, 4, 3, 2], [30, 10, 25, 14, 8], width=8)
    exact = vocabulary_expansion(*case)
    errors = []
    for orders in (20, 2000):
        drawn = vocabulary_expansion(*case, permutations=orders)
        assert drawn.acc_e == pytest.approx(exact.acc_e, abs=5 * drawn.standard_error_e)
        assert drawn.acc_s == pytest.approx(exact.acc_s, abs=5 * drawn.standard_error_s)
        assert drawn.acc_c == exact.acc_c
        assert drawn.acc_full == exact.acc_full
        errors.append(drawn.standard_error_e)
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.5)
    np.testing.assert_allclose(drawn.extensibility.std, exact.extensibility.std, atol=0.01)
    np.testing.assert_allclose(drawn.stability.mean, exact.stability.mean, atol=0.01)
    assert np.isnan(vocabulary_expansion(*case, permutations=1).standard_error_e)


@given(worlds(equal=False), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_authors_protocol_is_the_script(case, trials, seed) -> None:
    pictures, labels, classes, groups = case
    expected = by_steps.script(scores_of(pictures, classes), labels, groups, trials, seed)
    found = vocabulary_expansion(*case, permutations=trials, seed=seed, protocol="authors")
    np.testing.assert_allclose((found.acc_c, found.acc_e, found.acc_s), expected, atol=1e-12)


def test_the_script_differs_by_its_variable_alone() -> None:
    pictures, labels, classes, groups = world(4, [3] * 6, [11] * 6)
    pictures = pictures + np.random.default_rng(0).normal(size=pictures.shape).astype(np.float32)
    case = (pictures, labels, classes, groups)
    ours, script = (
        vocabulary_expansion(*case, permutations=3, seed=42, protocol=protocol)
        for protocol in ("exact", "authors")
    )
    bug = (3 - 1) / 3 * (ours.acc_c - ours.acc_full) / 6
    assert bug > 0
    assert script.acc_e == pytest.approx(ours.acc_e - bug, abs=1e-12)
    assert script.acc_s == pytest.approx(ours.acc_s, abs=1e-12)


@given(worlds(equal=False), st.integers(1, 3))
@settings(max_examples=20)
def test_several_prompts(case, prompts) -> None:
    pictures, labels, classes, groups = case
    rng = np.random.default_rng(len(labels))
    several = rng.integers(-2, 3, (len(classes), prompts, classes.shape[1])).astype(np.float32)
    several[:, 0, 0] += 5  # no zero row
    best = (
        (pictures.astype(np.float64) @ several.reshape(-1, several.shape[2]).T)
        .reshape(len(pictures), len(classes), prompts)
        .max(2)
    )
    pooled, conditional = by_steps.every_order(best, labels, groups)
    found = vocabulary_expansion(pictures, labels, several, groups, prompts="max")
    assert found.acc_e == pytest.approx(pooled.mean(), abs=1e-12)
    assert found.acc_s == pytest.approx(conditional[:, :, 1:].mean(), abs=1e-12)

    unit = several / np.linalg.norm(several.astype(np.float64), axis=2, keepdims=True)
    mean = unit.mean(1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    found = vocabulary_expansion(pictures, labels, several, groups, prompts="mean")
    same = vocabulary_expansion(pictures, labels, mean.astype(np.float32), groups)
    assert found.acc_e == pytest.approx(same.acc_e, abs=1e-12)


def test_classes_of_one_name_do_not_compete() -> None:
    pictures, labels, classes, groups = world(5, [3, 2, 3, 2], [9, 8, 12, 7], width=4)
    names = [f"class {c}" for c in range(10)]
    twins = [np.flatnonzero(groups == g)[0] for g in range(3)]
    for c in twins:
        names[c] = "twin"
    scores = scores_of(pictures, classes)
    for c in twins:  # out of the competition for each other's images
        for other in twins:
            if other != c:
                scores[np.ix_(labels == c, [other])] = -1e9
    pooled, conditional = by_steps.every_order(scores, labels, groups)
    with pytest.warns(UserWarning, match=r"1 names belong to several classes \(twin\)"):
        found = vocabulary_expansion(pictures, labels, classes, groups, class_names=names)
    plain_found = vocabulary_expansion(pictures, labels, classes, groups)
    assert found.acc_e == pytest.approx(pooled.mean(), abs=1e-12)
    assert found.acc_s == pytest.approx(conditional[:, :, 1:].mean(), abs=1e-12)
    assert found.acc_s > plain_found.acc_s
    with (
        pytest.warns(UserWarning, match="twin"),
        pytest.raises(ValueError, match="protocol: 'authors' needs classes of different names"),
    ):
        vocabulary_expansion(
            pictures, labels, classes, groups, class_names=names, permutations=2, protocol="authors"
        )


def test_classes_in_no_group_are_left_out() -> None:
    pictures, labels, classes, groups = world(6, [3, 2, 3], [9, 8, 12])
    expected = vocabulary_expansion(pictures, labels, classes, groups)
    more = np.concatenate([classes[:4], 9 * classes[:1], classes[4:]])
    found = vocabulary_expansion(pictures, labels + (labels >= 4), more, np.insert(groups, 4, -1))
    assert (found.acc_c, found.acc_e, found.acc_s) == (
        expected.acc_c,
        expected.acc_e,
        expected.acc_s,
    )


def test_real_features() -> None:
    images = fastclip.data.load_sample("coco-images").normalized().features
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    # 500 classes of one image each, in 20 groups.
    groups = torch.arange(500) % 20
    found = vocabulary_expansion(images, torch.arange(500), captions, groups)
    assert found.acc_full == 0.552  # recall at 1
    assert found.acc_e == pytest.approx((found.acc_c + 19 * found.acc_s) / 20, abs=1e-12)
    assert 0.552 < found.acc_s < found.acc_e < found.acc_c
    assert (found.stability.mean.diff() <= 1e-12).all()


GOOD = world(7, [2, 2], [3, 3])


def changed(**arguments):
    names = ("image_features", "labels", "class_features", "groups")
    return {**dict(zip(names, GOOD, strict=True)), **arguments}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"groups": np.array([0, 0, 0, 0])}, ValueError, "groups: at least two groups"),
        ({"groups": np.array([0, 0, 2, 2])}, ValueError, "groups: group 1 has no class"),
        ({"groups": np.array([0, 1, -2, 1])}, ValueError, "groups: must be at least -1"),
        ({"groups": np.array([0, 1, 1])}, ValueError, r"groups: shape \(4,\) is needed"),
        ({"labels": np.full(6, 4)}, ValueError, "labels: must be from 0 to 3"),
        ({"labels": np.full(6, GOOD[1][0])}, ValueError, "labels: every group needs an image"),
        ({"labels": torch.zeros(6)}, TypeError, "labels: integers"),
        ({"image_features": GOOD[0][:0]}, ValueError, "image_features: at least one row"),
        ({"image_features": GOOD[0] * np.nan}, ValueError, "image_features: row 0 holds NaN"),
        ({"class_features": GOOD[2][:, :5]}, ValueError, "class_features: .* got 5 and 6"),
        (
            {"class_features": np.full_like(GOOD[2], np.inf)},
            ValueError,
            "class_features: row",
        ),
        ({"class_features": GOOD[2][:, None][:, :0]}, ValueError, "at least one prompt"),
        ({"permutations": 0}, ValueError, "permutations: is 0, allowed: 1 or more"),
        ({"permutations": "some"}, ValueError, "permutations: must be 'all' or a number"),
        ({"permutations": 1.5}, TypeError, "float"),
        ({"protocol": "theirs"}, ValueError, "protocol: is 'theirs', allowed: exact, authors"),
        ({"protocol": "authors"}, ValueError, "permutations: must be a number with protocol"),
        ({"prompts": "sum"}, ValueError, "prompts: is 'sum', allowed: max, mean"),
        ({"seed": -1}, ValueError, "seed: must be from 0"),
        ({"class_names": ["a"]}, ValueError, "class_names: 4 are needed, one per row, got 1"),
        ({"class_names": "abcd"}, TypeError, "class_names: a sequence of str"),
    ],
)
def test_names_the_wrong_argument(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        vocabulary_expansion(**changed(**arguments))


def test_images_of_classes_outside_every_group() -> None:
    groups = np.where(np.arange(4) == GOOD[1][2], -1, GOOD[3])
    first = int(np.flatnonzero(GOOD[1] == GOOD[1][2])[0])
    with pytest.raises(ValueError, match=f"labels: .* image {first} is class {GOOD[1][2]}"):
        vocabulary_expansion(**changed(groups=groups))
