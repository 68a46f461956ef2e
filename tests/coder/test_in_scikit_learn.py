"""Labels and types of the estimators, and scikit-learn's tools around them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from fastclip.coder import (
    ClassTexts,
    Coder,
    CoderAdapter,
    CoderClassifier,
    Grid,
    OneClass,
    TipAdapter,
    TipAdapterF,
)


def made_up() -> tuple[Coder, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts of four classes, support images about them and other images, with labels."""
    known = ClassTexts(tuple(OneClass(f"class {i}", attributes=("legs",)) for i in range(4)))
    generator = torch.Generator().manual_seed(0)
    coder = Coder(known, unit(torch.randn(8, 16, generator=generator)))

    def images(labels: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(labels), 16, generator=generator) / 4
        return unit(coder.name_weights()[labels] + noise)

    support, labels = torch.arange(24) % 4, torch.arange(80) % 4
    return coder, images(support), support, images(labels), labels


def unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


CODER, SUPPORT, SUPPORT_LABELS, IMAGES, LABELS = made_up()
X, Y = SUPPORT.double().numpy(), SUPPORT_LABELS.numpy()
NAMES = np.array(CODER.class_names)
WEIGHTS = CODER.name_weights()
SCRAMBLED = ["d", "a", "c", "b"]
"""Labels of the four classes that are not in order."""


def makers() -> dict[str, Any]:
    return {
        "CoderAdapter": lambda: CoderAdapter(CODER, alpha=30, beta=5),
        "TipAdapter": lambda: TipAdapter(WEIGHTS, alpha=30, beta=5),
        "TipAdapterF": lambda: TipAdapterF(WEIGHTS, alpha=30, beta=5, epochs=1),
        "CoderClassifier": lambda: CoderClassifier(CODER, threshold=0.3),
    }


@pytest.mark.parametrize("name", makers())
def test_types_go_out_as_they_came_in(name: str) -> None:
    model = makers()[name]().fit(SUPPORT, SUPPORT_LABELS)
    methods = ("predict", "predict_proba", "decision_function", "class_scores")
    tensors = [getattr(model, method)(IMAGES) for method in methods]
    assert all(isinstance(x, torch.Tensor) for x in tensors)
    score = model.score(IMAGES, LABELS)
    assert model.score(IMAGES.double(), LABELS.int()) == score
    model = makers()[name]().fit(X.tolist(), Y.tolist())
    for given in (IMAGES.numpy(), IMAGES.double().numpy(), IMAGES.tolist()):
        for method, expected in zip(methods, tensors, strict=True):
            found = getattr(model, method)(given)
            assert isinstance(found, np.ndarray)
            assert np.array_equal(found, expected.numpy())
    assert model.score(IMAGES.tolist(), LABELS.tolist()) == score
    weights = np.arange(80)
    right = (tensors[0] == LABELS).numpy()
    found = model.score(IMAGES, LABELS, sample_weight=weights)
    assert found == pytest.approx((right * weights).sum() / weights.sum())
    with pytest.raises(ValueError, match=r"sample_weight: shape \(80,\) is needed, got \(1,\)"):
        model.score(IMAGES, LABELS, sample_weight=[1])
    assert model.predict(np.zeros((0, 16))).shape == (0,)


@pytest.mark.parametrize("name", ["CoderAdapter", "CoderClassifier"])
def test_names_of_classes_as_labels(name: str) -> None:
    """In any order of the classes: labels are sorted, and columns are those of labels."""
    order = [2, 0, 3, 1]
    known = ClassTexts(tuple(OneClass(SCRAMBLED[i]) for i in range(4)))
    coder = Coder(known, WEIGHTS)
    numbers = makers()[name]().set_params(coder=coder).fit(X, Y)
    named = makers()[name]().set_params(coder=coder).fit(X, np.array(SCRAMBLED)[Y])
    assert named.classes_.tolist() == ["a", "b", "c", "d"]
    assert numbers.classes_.tolist() == [0, 1, 2, 3]
    columns = [SCRAMBLED.index(label) for label in "abcd"]
    assert columns != order
    assert np.array_equal(
        named.decision_function(IMAGES), numbers.decision_function(IMAGES)[:, columns]
    )
    assert named.predict(IMAGES).tolist() == [SCRAMBLED[i] for i in numbers.predict(IMAGES)]
    assert named.score(IMAGES, np.array(SCRAMBLED)[LABELS]) == numbers.score(IMAGES, LABELS) > 0.5
    with pytest.raises(ValueError, match="y: 'e' at 1 is no class, known: 'a', 'b', 'c', 'd'"):
        named.score(IMAGES[:2], ["a", "e"])
    with pytest.raises(ValueError, match="y: 2 labels are needed, one per row of X, got 1"):
        named.score(IMAGES[:2], ["a"])
    with pytest.raises(ValueError, match=r"y: numbers of classes are needed, .* got 'a' at 0"):
        numbers.score(IMAGES[:2], ["a", "b"])


@pytest.mark.parametrize("classes", [SCRAMBLED, [7, -1, 3, 0], np.array([2.0, 1.0, 3.0, 0.0])])
def test_labels_of_class_weights(classes: Any) -> None:
    plain = TipAdapter(WEIGHTS, alpha=30, beta=5).fit(X, Y)
    labels = np.asarray(classes)
    model = TipAdapter(WEIGHTS.tolist(), alpha=30, beta=5, classes=classes).fit(X, labels[Y])
    assert model.classes_.tolist() == sorted(labels.tolist())
    assert np.array_equal(model.predict(X), labels[plain.predict(X)])
    columns = labels.argsort()
    assert np.array_equal(model.predict_proba(X), plain.predict_proba(X)[:, columns])
    found = model.tune(IMAGES, labels[LABELS], grid=Grid((1, 30), (1, 9), 3, 3, 1))
    again = plain.tune(IMAGES, LABELS, grid=Grid((1, 30), (1, 9), 3, 3, 1))
    assert found[:3] == again[:3]


@pytest.mark.parametrize(
    ("classes", "y", "message"),
    [
        (None, NAMES[Y], "y: holds names; pass classes=NAMES to the constructor"),
        (["a", "b"], Y, r"classes: 4 labels are needed, got shape \(2,\)"),
        (["a", "b", "a", "c"], Y, "classes: a label occurs twice among 4"),
        (SCRAMBLED, Y, "y: 0 at 0 is no class, known: 'a', 'b', 'c', 'd'"),
        ([0.5, 1, 2, 3], Y, "classes: Unknown label type: continuous"),
        (None, None, "y should be a 1d array"),
        (None, Y + 1, "y: must be from 0 to 3, one of 4 classes, got 4"),
        (None, Y[1:], r"y: shape \(24,\) is needed, got \(23,\)"),
    ],
)
def test_names_what_is_wrong_with_labels(classes: Any, y: Any, message: str) -> None:
    model = TipAdapter(WEIGHTS, classes=classes)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    with pytest.raises(ValueError, match="TipAdapter is not fitted"):
        model.predict(X)


def test_a_fit_that_fails_leaves_nothing_fitted() -> None:
    for model in (TipAdapter(WEIGHTS), CoderClassifier(CODER), CoderAdapter(CODER)):
        model.fit(X, Y)
        with pytest.raises(ValueError, match="y: must be from 0 to 3"):
            model.fit(X, Y + 1)
        with pytest.raises(ValueError, match="is not fitted"):
            model.predict(X)


def test_scores_of_two_classes() -> None:
    model = TipAdapter(WEIGHTS[:2]).fit(X[Y < 2], Y[Y < 2])
    both, one = model.class_scores(X), model.decision_function(X)
    assert both.shape == (24, 2)
    assert np.array_equal(one, both[:, 1] - both[:, 0])


def test_fitted_values() -> None:
    model = TipAdapter(WEIGHTS, alpha=2, beta=3).fit(X, Y)
    assert (model.alpha_, model.beta_) == (2, 3)
    model.set_params(alpha=5)  # of the next fit
    assert model.alpha_ == 2
    found = model.tune(IMAGES, LABELS, grid=Grid((1, 30), (1, 9), 3, 3, 1))
    assert (model.alpha_, model.beta_) == (found.alpha, found.beta)
    assert (model.alpha, model.beta) == (5, 3)
    assert model.fit(X, Y).alpha_ == 5


def test_a_coder_has_parameters() -> None:
    known = ClassTexts((OneClass("cat"), OneClass("dog")))
    coder = Coder(known, torch.eye(2, 3))
    assert type(coder)(**coder.get_params()).texts == coder.texts
    coder.transform(torch.eye(3))
    coder.set_params(features=torch.eye(3, 5)[1:])
    assert coder.transform(np.eye(5)).tolist() == np.eye(5)[:, 1:3].tolist()
    with pytest.raises(ValueError, match="features: 2 rows are needed, one per text, got 5"):
        coder.set_params(features=torch.eye(5))
    assert coder.features.shape == (2, 5)  # as before
    with pytest.raises(ValueError, match="colour: no such parameter, allowed: texts, features"):
        coder.set_params(colour=1)
    with pytest.raises(ValueError, match=r"X: rows of 5 numbers are needed, got 4"):
        coder.fit(np.eye(4))
    assert repr(coder) == "Coder(2 texts of 2 classes)"


def test_gradients_flow_through_the_representation() -> None:
    rows = torch.randn(2, 16, requires_grad=True)
    CODER.transform(rows).sum().backward()
    torch.testing.assert_close(rows.grad, CODER.features.sum(0).expand(2, 16))


@pytest.mark.parametrize("name", makers())
def test_pickles(name: str) -> None:
    model = makers()[name]().fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_works_without_scikit_learn_and_does_not_ask_for_it() -> None:
    code = """
import sys
for name in ("sklearn", "scipy"):
    sys.modules[name] = None
import numpy as np, torch, fastclip
from fastclip import *
from fastclip.coder import ClassTexts, Coder, CoderAdapter, CoderClassifier, OneClass, TipAdapter
from fastclip.neighbors import KNeighborsTransformer, NearestNeighbors
coder = Coder(ClassTexts((OneClass("cat"), OneClass("dog"))), torch.eye(2))
x = np.eye(2).tolist()
for model in (CoderAdapter(coder), TipAdapter(np.eye(2)), CoderClassifier(coder)):
    try:
        model.predict(x)
        raise SystemExit("fitted")
    except ValueError as error:
        assert "is not fitted, call fit first" in str(error), error
    assert model.fit(x, [0, 1]).predict(x).tolist() == [0, 1]
    assert model.score(x, [0, 1]) == 1.0
    assert type(model)(**model.get_params()).set_params().get_params() == model.get_params()
    for wrong in (np.eye(3), np.eye(2)[0], np.zeros((0, 2))):
        try:
            model.fit(wrong, [0, 1])
            raise SystemExit("fits")
        except ValueError as error:
            assert str(error).startswith("X: "), error
assert coder.fit_transform(x).tolist() == x
search = NearestNeighbors(n_neighbors=1).fit(x)
assert search.kneighbors(x)[1].tolist() == [[0], [1]]
assert [i.tolist() for i in search.radius_neighbors()[1]] == [[1], [0]]
try:
    KNeighborsTransformer(n_neighbors=1).fit_transform(x)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "sparse graphs need SciPy: pip install 'fastclip-kernels[sklearn]'\n"


def test_importing_fastclip_imports_neither_scikit_learn_nor_scipy() -> None:
    code = (
        "import sys, fastclip, fastclip.report, fastclip.data.embedding; "
        "print({'sklearn', 'fastclip.neighbors'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


sklearn = pytest.importorskip("sklearn", minversion="1.6")


@pytest.mark.parametrize("name", makers())
def test_cross_validation(name: str) -> None:
    from sklearn.model_selection import cross_val_predict, cross_val_score

    scores = cross_val_score(makers()[name](), X, Y, cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert scores.mean() > 0.5
    losses = cross_val_score(makers()[name](), X, Y, cv=3, scoring="neg_log_loss")
    assert np.isfinite(losses).all()
    assert cross_val_predict(makers()[name](), X, Y, cv=3, method="predict_proba").shape == (24, 4)


def test_grid_search() -> None:
    """In processes, as people do it: each imports all, which takes most of the time."""
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(
        CoderAdapter(CODER), {"alpha": [1, 30], "beta": [1, 5]}, n_jobs=2, cv=2
    ).fit(X, NAMES[Y])
    assert set(search.best_params_) == {"alpha", "beta"}
    assert search.best_estimator_.alpha_ == search.best_params_["alpha"]
    assert search.best_estimator_.coder.features is CODER.features  # clones share it
    assert search.score(IMAGES.numpy(), NAMES[LABELS]) > 0.5


def test_pipelines() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    scaled = make_pipeline(Normalizer(), CoderAdapter(CODER, alpha=30, beta=5)).fit(3 * X, Y)
    expected = CoderAdapter(CODER, alpha=30, beta=5).fit(X, Y).predict(IMAGES.numpy())
    assert np.array_equal(scaled.predict(5 * IMAGES.numpy()), expected)
    pipeline = make_pipeline(CODER, LogisticRegression(max_iter=1000))
    assert cross_val_score(pipeline, X, Y, cv=2, error_score="raise").mean() > 0.5
    assert pipeline.fit(X, Y)[:-1].get_feature_names_out().tolist() == list(CODER.texts)


def test_ensembles_of_all_classes() -> None:
    """They number the labels themselves: names in order, as those of the coder are."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import BaggingClassifier, VotingClassifier
    from sklearn.linear_model import LogisticRegression

    adapter = CoderAdapter(CODER, alpha=30, beta=5)
    alone = adapter.fit(X, NAMES[Y]).score(IMAGES.numpy(), NAMES[LABELS])
    voting = VotingClassifier(
        [("adapter", adapter), ("texts", CoderClassifier(CODER)), ("lr", LogisticRegression())],
        voting="soft",
    )
    bagging = BaggingClassifier(adapter, n_estimators=3, random_state=0)
    calibrated = CalibratedClassifierCV(adapter, cv=3)
    for ensemble in (voting, bagging, calibrated):
        ensemble.fit(X, NAMES[Y])
        assert ensemble.classes_.tolist() == sorted(NAMES)
        assert ensemble.score(IMAGES.numpy(), NAMES[LABELS]) > alone - 0.2
    labels = np.array(SCRAMBLED)[Y]  # in sorted order, W would be another's
    named = TipAdapter(WEIGHTS, classes=SCRAMBLED)
    with pytest.raises(ValueError, match="is no class, known: 'a', 'b', 'c', 'd'"):
        VotingClassifier([("tip", named)]).fit(X, labels)
    two = Y < 2
    binary = CalibratedClassifierCV(TipAdapter(WEIGHTS[:2], alpha=30, beta=5), cv=2)
    assert binary.fit(X[two], Y[two]).predict_proba(X).shape == (24, 2)


def test_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(16)])
    model = TipAdapter(WEIGHTS, classes=NAMES).fit(frame, pandas.Series(NAMES[Y]))
    assert model.feature_names_in_.tolist() == list(frame)
    assert model.predict(frame).dtype.kind == "U"
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[frame.columns[::-1]])
    coder = sklearn.base.clone(CODER).set_output(transform="pandas")
    found = coder.fit_transform(frame)
    assert list(found) == list(CODER.texts)
    assert np.array_equal(found.to_numpy(), CODER.transform(X))
    assert isinstance(CODER.transform(X), np.ndarray)  # the clone's output alone
    assert isinstance(coder.transform(frame), pandas.DataFrame)
    assert not hasattr(sklearn.base.clone(coder), "feature_names_in_")


def test_clones_forget_what_was_fitted() -> None:
    model = TipAdapter(WEIGHTS, alpha=2).fit(X, Y)
    fresh = sklearn.base.clone(model)
    assert torch.equal(fresh.class_weights, WEIGHTS)
    with pytest.raises(sklearn.exceptions.NotFittedError, match="TipAdapter is not fitted"):
        fresh.predict(X)
    assert sklearn.base.is_classifier(model)
    assert model._repr_html_()
    shown = repr(CoderAdapter(CODER, affinity="cosine"))
    assert shown == "CoderAdapter(affinity='cosine', coder=Coder(8 texts of 4 classes))"


@pytest.mark.parametrize("name", makers())
def test_refuses_sparse_and_malformed_rows(name: str) -> None:
    from scipy.sparse import csr_array

    def fit(rows: Any) -> None:
        makers()[name]().fit(rows, Y[: rows.shape[0]])

    for call in (fit, makers()[name]().fit(X, Y).predict):
        with pytest.raises(TypeError, match=r"[Ss]parse"):
            call(csr_array(X))
        with pytest.raises(ValueError, match="X: row 0 holds NaN"):
            call(np.full((24, 16), np.nan))
        with pytest.raises(ValueError, match="X: rows of unit length are needed, row 0"):
            call(2 * X)
        with pytest.raises(ValueError, match="Complex data not supported"):
            call(X + 0j)
        with pytest.raises(ValueError, match="16"):
            call(X[:, 1:])
