from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastclip.neighbors import KNeighborsTransformer, NearestNeighbors

sklearn = pytest.importorskip("sklearn")
pytest.importorskip("sklearn.metrics")
brute = pytest.importorskip("sklearn.neighbors")

METRICS = {
    "cosine": "cosine",
    "euclidean": "euclidean",
    "inner_product": lambda a, b: -(a @ b),
}


def theirs(metric: str, **parameters: Any) -> Any:
    return brute.NearestNeighbors(metric=METRICS[metric], algorithm="brute", **parameters)


def rows_for(metric: str, count: int, width: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    if metric == "euclidean":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def without_itself(metric: str, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    distances = sklearn.metrics.pairwise_distances(rows.astype(np.float64), metric=METRICS[metric])
    np.fill_diagonal(distances, np.inf)
    indices = distances.argsort(1, kind="stable")[:, :k]
    return np.take_along_axis(distances, indices, 1), indices


def assert_same(found: Any, expected: Any) -> None:
    """Distances agree, and indices, too, unless what they stand for is as good as equally far."""
    distances, indices = found
    np.testing.assert_allclose(distances, expected[0], atol=2e-6, rtol=2e-6)
    differ = indices != expected[1]
    if differ.any():
        rows = differ.nonzero()[0]
        gaps = np.abs(np.diff(expected[0][rows], axis=1)).min(axis=1)
        assert (gaps < 1e-6).all() or differ[:, -1].sum() == differ.sum()


@pytest.mark.parametrize("metric", METRICS)
@given(
    count=st.integers(3, 40),
    queries=st.integers(0, 6),
    width=st.integers(2, 30),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_equals_brute_force(
    metric: str, count: int, queries: int, width: int, seed: int, data: st.DataObject
) -> None:
    rows, asked = (rows_for(metric, n, width, seed + i) for i, n in enumerate((count, queries)))
    k = data.draw(st.integers(1, count - 1))
    own = NearestNeighbors(n_neighbors=k, metric=metric).fit(rows)
    other = theirs(metric, n_neighbors=k).fit(rows.astype(np.float64))
    assert_same(own.kneighbors(), without_itself(metric, rows, k))
    if metric != "inner_product":  # where scikit-learn drops the best if the row is not its best
        assert_same(own.kneighbors(), other.kneighbors())
    if queries:
        assert_same(own.kneighbors(asked), other.kneighbors(asked.astype(np.float64)))
    assert own.kneighbors(asked)[0].shape == (queries, k)
    expected, _ = other.kneighbors()
    # between two distances, where rounding decides nothing
    all_distances = np.unique(np.concatenate(expected))
    gaps = np.diff(all_distances)
    if len(gaps) and gaps.max() > 1e-4:
        at = int(gaps.argmax())
        radius = float(all_distances[at] + gaps[at] / 2)
        if metric == "inner_product" and radius < 0:
            return  # which scikit-learn does not ask for
        for X in (None, asked) if queries else (None,):
            wide = None if X is None else X.astype(np.float64)
            far, near = own.radius_neighbors(X, radius, sort_results=True)
            far_too, near_too = other.radius_neighbors(wide, radius)
            for a, b, c, d in zip(far, near, far_too, near_too, strict=True):
                assert sorted(b) == sorted(d)
                np.testing.assert_allclose(a, np.sort(c), atol=2e-6, rtol=2e-6)
            mine = own.radius_neighbors_graph(X, radius, mode="distance")
            graph = other.radius_neighbors_graph(wide, radius, mode="distance")
            assert mine.shape == graph.shape
            assert np.array_equal(mine.indptr, graph.indptr)
            assert abs(mine - graph).max() < 1e-5


def test_real_features(real_data: Path) -> None:
    rows = np.load(real_data / "clip_features" / "text_vitb32_lvis.npz")["text_features"]
    assert rows.dtype == np.float16
    own = NearestNeighbors(n_neighbors=10).fit(rows)
    other = theirs("cosine", n_neighbors=10).fit(rows.astype(np.float64))
    assert_same(own.kneighbors(), other.kneighbors())
    found = own.kneighbors_graph()
    assert abs(found - other.kneighbors_graph()).sum() <= 4  # two pairs of ties
    near, expected = (x.radius_neighbors_graph(radius=0.2) for x in (own, other))
    assert (near != expected).nnz <= 2
    assert near.nnz > 5000


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_paired_images_and_texts(real_data: Path, metric: str) -> None:
    paired = np.load(real_data / "clip_features" / "paired_coco500_vitb16.npz")
    images, texts = paired["image_features"], paired["text_features"]
    own = NearestNeighbors(n_neighbors=7, metric=metric).fit(texts)
    other = theirs(metric, n_neighbors=7).fit(texts.astype(np.float64))
    assert_same(own.kneighbors(images), other.kneighbors(images.astype(np.float64)))


def test_of_equally_distant_rows_the_earlier_is_nearer() -> None:
    rows = np.eye(3, dtype=np.float32)[[0, 1, 0, 1, 0]]
    for metric in METRICS:
        distances, indices = NearestNeighbors(n_neighbors=3, metric=metric).fit(rows).kneighbors()
        assert indices.tolist() == [[2, 4, 1], [3, 0, 2], [0, 4, 1], [1, 0, 2], [0, 2, 1]]
        assert (np.diff(distances, axis=1) >= 0).all()


def test_duplicates_that_leave_no_room_for_the_row_itself() -> None:
    rows = np.ones((5, 2), np.float32)
    found = NearestNeighbors(n_neighbors=2).fit(rows).kneighbors(return_distance=False)
    assert found.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    # a row whose inner product with itself is not its largest
    rows = np.array([[1, 0], [9, 0], [8, 0], [7, 0]], np.float32)
    found = NearestNeighbors(n_neighbors=1, metric="inner_product").fit(rows).kneighbors()
    assert found[1].tolist() == [[1], [2], [1], [1]]
    assert found[0].tolist() == [[-9], [-72], [-72], [-63]]


def test_small_euclidean_distances_are_not_rounded_away() -> None:
    angles = np.array([0, 2e-4, 1e-4, 3e-4])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1)
    search = NearestNeighbors(n_neighbors=3, metric="euclidean").fit(rows)
    distances, indices = search.kneighbors(rows[:1], 4)
    assert indices.tolist() == [[0, 2, 1, 3]]
    np.testing.assert_allclose(distances, [[0, 1e-4, 2e-4, 3e-4]], atol=1e-7)
    assert search.radius_neighbors(rows[:1], 1.5e-4)[1][0].tolist() == [0, 2]


def test_equal_rows_have_distance_0() -> None:
    rows = rows_for("cosine", 300, 40, 0)
    rows = np.concatenate([rows, 2 * rows[:5], rows[:1] + 1e-4 * rows[1:2]])
    for metric, scale in (("cosine", 1), ("euclidean", np.linalg.norm(rows, axis=1)[:, None])):
        graph = KNeighborsTransformer(metric=metric, n_neighbors=2).fit_transform(rows / scale)
        assert not graph.diagonal().any()
        assert (graph != 0).sum() == graph.nnz - 306 - 10
        expected = theirs(metric).fit(rows.astype(np.float64) / scale).kneighbors(n_neighbors=2)
        found = NearestNeighbors(n_neighbors=2, metric=metric).fit(rows / scale).kneighbors()
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=2e-7)


def test_rows_of_zeros_are_as_in_scikit_learn() -> None:
    rows = np.array([[0, 0], [1, 0], [0, 1]], np.float64)
    own, other = NearestNeighbors(n_neighbors=3).fit(rows), theirs("cosine").fit(rows)
    assert_same(own.kneighbors(rows), other.kneighbors(rows.copy(), 3))  # `is` makes a difference


def test_radius_takes_what_is_as_far() -> None:
    rows = np.array([[1, 0], [0, 1], [-1, 0], [1, 0]], np.float32)
    search = NearestNeighbors(radius=1).fit(rows)
    assert [x.tolist() for x in search.radius_neighbors(return_distance=False)] == [
        [1, 3],
        [0, 2, 3],
        [1],
        [0, 1],
    ]
    assert search.radius_neighbors_graph(radius=2).nnz == 4 * 3
    assert search.radius_neighbors_graph(rows, radius=0).nnz == 6
    inner = NearestNeighbors(metric="inner_product").fit(rows)
    assert inner.radius_neighbors(radius=-1.0)[0][0].tolist() == [-1]
    assert inner.radius_neighbors_graph(radius=float("inf")).nnz == 4 * 3
    assert inner.radius_neighbors_graph(radius=-float("inf")).nnz == 0


def test_types_go_out_as_they_came_in() -> None:
    rows = torch.randn(9, 4)
    search = NearestNeighbors(n_neighbors=2).fit(rows)
    assert all(isinstance(x, torch.Tensor) for x in search.kneighbors())
    assert all(isinstance(x, torch.Tensor) for x in search.kneighbors(rows.double()))
    assert all(isinstance(x, np.ndarray) for x in search.kneighbors(rows.numpy()))
    lists = NearestNeighbors(n_neighbors=2).fit(rows.tolist())
    assert np.array_equal(lists.kneighbors()[1], search.kneighbors()[1].numpy())
    for dtype in (torch.float16, torch.bfloat16):
        assert search.fit(rows.to(dtype)).kneighbors(rows)[1].shape == (9, 2)
        inner = NearestNeighbors(metric="inner_product").fit(rows.to(dtype))
        assert inner.kneighbors(rows)[1].shape == (9, 5)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows.numpy(), columns=list("abcd"))
    search.fit(frame)
    assert search.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        search.kneighbors(frame[list("dcba")])


def test_fitted_rows_are_copied() -> None:
    rows = np.eye(4, dtype=np.float32)
    search = NearestNeighbors(n_neighbors=1, metric="inner_product").fit(rows)
    rows[:] = 0
    assert search.kneighbors(np.eye(4), return_distance=False).tolist() == [[0], [1], [2], [3]]


def test_pickles_clones_and_sets_parameters() -> None:
    rows = rows_for("cosine", 20, 5, 0)
    search = NearestNeighbors(n_neighbors=3, n_jobs=-1, algorithm="kd_tree").fit(rows)
    again = pickle.loads(pickle.dumps(search))
    assert np.array_equal(again.kneighbors()[1], search.kneighbors()[1])
    fresh = sklearn.base.clone(search)
    assert fresh.get_params() == search.get_params()
    with pytest.raises(sklearn.exceptions.NotFittedError, match="NearestNeighbors is not fitted"):
        fresh.kneighbors()
    search.set_params(metric="inner_product")  # of the next fit
    assert np.array_equal(again.kneighbors()[1], search.kneighbors()[1])
    assert not np.array_equal(again.kneighbors()[1], search.fit(rows).kneighbors()[1])


def sparse_rows() -> Any:
    return pytest.importorskip("scipy.sparse").eye_array(4).tocsr()


@pytest.mark.parametrize(
    ("parameters", "rows", "error", "message"),
    [
        ({"metric": "manhattan"}, np.eye(4), ValueError, "metric: is 'manhattan', allowed: cosine"),
        ({"algorithm": "tree"}, np.eye(4), ValueError, "algorithm: is 'tree', allowed: auto"),
        ({"metric": "euclidean"}, 2 * np.eye(4), ValueError, "row 0 has length 2; scale them with"),
        ({"n_neighbors": 1}, np.eye(4, 5), ValueError, "X has 4 features, but Nearest"),
        ({"n_neighbors": 4}, np.eye(4), ValueError, "n_neighbors: must be from 1 to 3, the rows"),
        ({"n_neighbors": 0}, np.eye(4), ValueError, "n_neighbors: must be from 1 to 3, .* got 0"),
        ({"n_neighbors": 2.0}, np.eye(4), TypeError, "n_neighbors: an integer is needed"),
        ({}, np.eye(4) * np.nan, ValueError, "X: row 0 holds NaN"),
        ({}, np.full((2, 4), 1e39), ValueError, "X: row 0 holds NaN or infinity"),
        ({}, np.eye(0, 4), ValueError, r"0 sample\(s\)"),
        ({}, torch.eye(0, 4), ValueError, "X: at least 1 row is needed"),
        ({}, torch.eye(4).bool(), TypeError, "X: float32, .* is allowed, got bool"),
        ({}, np.ma.masked_array(np.eye(4), np.eye(4)), TypeError, "X: a masked array"),
        ({}, sparse_rows(), TypeError, "[Ss]parse"),
        ({}, np.arange(4.0), ValueError, "Expected 2D array, got 1D"),
        ({}, torch.arange(4.0), ValueError, r"X: 2 dimensions \[rows, d\] are needed"),
        ({}, np.eye(1), ValueError, "n_neighbors: must be from 1 to 0"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_names_what_is_wrong(
    parameters: dict[str, Any], rows: Any, error: type[Exception], message: str
) -> None:
    def ask() -> None:
        search = NearestNeighbors(**parameters).fit(rows)
        search.kneighbors()
        search.kneighbors(np.eye(4), n_neighbors=1)

    with pytest.raises(error, match=message):
        ask()


def test_names_what_is_wrong_with_radius_and_mode() -> None:
    search = NearestNeighbors().fit(np.eye(4))
    with pytest.raises(ValueError, match="radius: 0 or more is allowed with metric 'cosine'"):
        search.radius_neighbors(radius=-1)
    with pytest.raises(ValueError, match="mode: is 'graph', allowed: connectivity, distance"):
        search.kneighbors_graph(n_neighbors=1, mode="graph")
    with pytest.raises(ValueError, match="mode: is 'graph', allowed: connectivity, distance"):
        KNeighborsTransformer(mode="graph").fit(np.eye(4))
    with pytest.raises(ValueError, match="n_neighbors: must be from 1 to 3 with 4 rows fitted"):
        KNeighborsTransformer(n_neighbors=4).fit_transform(np.eye(4))
    with pytest.raises(ValueError, match="X: rows of 4 numbers are needed, got 3"):
        search.kneighbors(torch.eye(3))


@pytest.mark.parametrize("mode", ["distance", "connectivity"])
def test_transformer_is_that_of_scikit_learn(mode: str) -> None:
    rows, asked = rows_for("cosine", 30, 6, 0), rows_for("cosine", 8, 6, 1)
    own = KNeighborsTransformer(mode=mode, n_neighbors=4)
    other = brute.KNeighborsTransformer(mode=mode, n_neighbors=4, metric="cosine")
    for mine, graph in (
        (own.fit_transform(rows), other.fit_transform(rows)),
        (own.transform(asked), other.transform(asked)),
    ):
        assert mine.shape == graph.shape
        assert mine.nnz == graph.nnz
        assert abs(mine - graph).max() < 1e-6
    assert own.get_feature_names_out().tolist() == [f"kneighborstransformer{i}" for i in range(30)]


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Rows about five directions, and which."""
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 5
    rows = np.eye(5, 16)[labels] + 0.05 * rng.standard_normal((100, 16))
    return rows.astype(np.float32), labels


def assert_same_clusters(found: np.ndarray, labels: np.ndarray) -> None:
    assert sklearn.metrics.adjusted_rand_score(labels, found) == 1


def test_pipelines_of_clusters() -> None:
    from sklearn.cluster import DBSCAN, HDBSCAN
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    rows, labels = clusters()
    graph = NearestNeighbors(radius=0.3).fit(rows).radius_neighbors_graph(mode="distance")
    assert_same_clusters(DBSCAN(0.3, metric="precomputed").fit_predict(graph), labels)
    expected = DBSCAN(0.3, metric="cosine", algorithm="brute").fit(rows)
    assert np.array_equal(DBSCAN(0.3, metric="precomputed").fit_predict(graph), expected.labels_)
    dbscan = make_pipeline(KNeighborsTransformer(n_neighbors=15), DBSCAN(0.3, metric="precomputed"))
    assert_same_clusters(dbscan.fit_predict(rows), labels)
    hdbscan = make_pipeline(
        KNeighborsTransformer(n_neighbors=30),
        FunctionTransformer(lambda graph: graph.maximum(graph.T), accept_sparse=True),
        HDBSCAN(metric="precomputed", copy=True),
    )
    assert_same_clusters(hdbscan.fit_predict(rows), labels)


def test_pipeline_of_tsne() -> None:
    from sklearn.manifold import TSNE
    from sklearn.pipeline import make_pipeline

    rows, labels = clusters()
    pipeline = make_pipeline(
        KNeighborsTransformer(n_neighbors=31),
        TSNE(metric="precomputed", init="random", perplexity=10, max_iter=250, random_state=0),
    )
    placed = pipeline.fit_transform(rows)
    indices = brute.NearestNeighbors(n_neighbors=5).fit(placed).kneighbors(return_distance=False)
    assert (labels[indices] == labels[:, None]).mean() > 0.95
