"""scikit-learn's estimators of neighbours, on exact search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, SupportsIndex

import numpy as np
import torch

from fastclip._estimator import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    as_given,
    check_fitted,
    rows_of,
    speaks_tensors,
)
from fastclip.data.checks import check_choice
from fastclip.engine.checks import Array, as_integer, as_threshold, check_finite
from fastclip.engine.packing import pack
from fastclip.neighbors._distances import METRICS, refined, score_below, unit_rows, with_lengths
from fastclip.neighbors._sparse import scipy_sparse
from fastclip.ops import pairs_above, topk

if TYPE_CHECKING:
    from typing_extensions import Self

Metric = Literal["cosine", "inner_product", "euclidean"]
Mode = Literal["connectivity", "distance"]

_ALGORITHMS = ("auto", "brute", "ball_tree", "kd_tree")  # of scikit-learn: equal answers


class _Neighbors(BaseEstimator):  # type: ignore[misc]  # without types
    """Rows, and questions about the nearest of them."""

    n_neighbors: SupportsIndex
    algorithm: str
    metric: Metric

    def fit(self, X: Array, y: None = None) -> Self:
        """Keep the rows among which neighbours are searched; ``y`` is ignored.

        Parameters
        ----------
        X : tensor, array, list of lists or DataFrame [V, d]
            float32, float16 and bfloat16 as they are; else converted to float32. V >= 1. They are
            copied.

        Raises
        ------
        TypeError, ValueError
            Rows are sparse, hold NaN or infinity, are not of unit length where ``metric`` needs
            that, or there are none; or a parameter is not allowed.
        """
        check_choice("metric", self.metric, METRICS)
        check_choice("algorithm", self.algorithm, _ALGORITHMS)
        self.__dict__.pop("n_samples_fit_", None)  # what is fitted is never partly of another fit
        rows = _prepared(rows_of(self, X, reset=True, least=1), self.metric, True)
        self._keys = pack(rows, copy=self.metric == "inner_product")  # the others are new
        self._tensors = speaks_tensors(X)
        self._fitted_metric = self.metric
        self.n_samples_fit_ = len(rows)
        return self

    def kneighbors(
        self,
        X: Array | None = None,
        n_neighbors: SupportsIndex | None = None,
        return_distance: bool = True,
    ) -> Any:
        """Return the nearest rows of each query, nearest first: of equal ones the earlier.

        Parameters
        ----------
        X : [N, d], as in `fit`, optional
            Queries. Default: the rows themselves, each without itself.
        n_neighbors : int, optional
            k, from 1 to the number of rows. Default: the constructor's.
        return_distance : bool

        Returns
        -------
        distances : array [N, k] float32
            If ``return_distance``.
        indices : array [N, k] int64
            Tensors where X is one; without X, where what was fitted is one.
        """
        found, indices = self._nearest(X, n_neighbors)
        given = self._keys.rows if X is None and self._tensors else X
        if return_distance:
            return as_given(found, given), as_given(indices, given)
        return as_given(indices, given)

    def kneighbors_graph(
        self,
        X: Array | None = None,
        n_neighbors: SupportsIndex | None = None,
        mode: Mode = "connectivity",
    ) -> Any:
        """Return `kneighbors` as a graph, a scipy.sparse.csr_matrix [N, V] float32.

        Parameters
        ----------
        X, n_neighbors
            As in `kneighbors`.
        mode : "connectivity" or "distance"
            Whether edges are 1 or distances. Those of a query are in order of distance.

        Raises
        ------
        ImportError
            SciPy is missing: ``pip install 'fastclip-kernels[sklearn]'``.
        """
        check_choice("mode", mode, ("connectivity", "distance"))
        sparse = scipy_sparse()
        found, indices = self._nearest(X, n_neighbors)
        starts = np.arange(len(indices) + 1) * indices.shape[1]
        data = found if mode == "distance" else torch.ones_like(found)
        parts = data.flatten().cpu().numpy(), indices.flatten().cpu().numpy(), starts
        return sparse.csr_matrix(parts, shape=(len(indices), self.n_samples_fit_))

    def _nearest(
        self, X: Array | None, n_neighbors: SupportsIndex | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distances and indices, [N, k] each."""
        queries = self._queries(X)
        k = as_integer("n_neighbors", self.n_neighbors if n_neighbors is None else n_neighbors)
        most = self.n_samples_fit_ - (X is None)
        if not 1 <= k <= most:
            rows = "the rows fitted" if X is not None else "the rows fitted but the query itself"
            raise ValueError(f"n_neighbors: must be from 1 to {most}, {rows}, got {k}")
        itself = torch.arange(len(queries), device=queries.device) if X is None else None
        scores, indices = topk(queries, self._keys, k, exclude=itself)
        if self._fitted_metric == "inner_product":
            return 0 - scores, indices
        indices, order = indices.sort(1)  # so that of equally distant rows the earlier is first
        each = torch.arange(len(indices), device=indices.device).repeat_interleave(k)
        pairs = queries, self._keys.rows, each, indices.flatten()
        found = refined(self._fitted_metric, scores.gather(1, order).flatten(), *pairs)
        by_distance = found.view_as(indices).sort(dim=1, stable=True)
        return by_distance.values, indices.gather(1, by_distance.indices)

    def _queries(self, X: Array | None) -> torch.Tensor:
        check_fitted(self, "n_samples_fit_")
        if X is not None:
            rows = _prepared(rows_of(self, X), self._fitted_metric, False)
            return rows.to(self._keys.rows.device)
        if self._fitted_metric == "euclidean":
            return with_lengths(self._keys.rows[:, :-1], False)
        return self._keys.rows


class NearestNeighbors(_Neighbors):
    """Find the nearest rows of queries, with the interface of scikit-learn's class.

    The neighbours are those that scikit-learn finds with ``algorithm="brute"``. Of equally distant
    rows the earlier comes first; rows whose scores are equal in float32 (cosines within about 1e-7)
    count as equally distant when the k are chosen. The matrix of distances is never built.

    Parameters
    ----------
    n_neighbors : int
        How many neighbours `kneighbors` finds by default.
    radius : float
        How distant neighbours of `radius_neighbors` are at most, by default.
    algorithm : "auto", "brute", "ball_tree" or "kd_tree"
        As in scikit-learn, without effect: all are exact.
    metric : "cosine", "inner_product" or "euclidean"
        "cosine": 1 - cosine; a row of zeros has distance 1 from all. "inner_product": the negative
        inner product, so that the nearest has the largest one. "euclidean": of rows of unit length
        (to 0.001, as float16 features are), others are refused.
    n_jobs : int, optional
        As in scikit-learn, without effect: threads are those of torch
        (``torch.set_num_threads``).

    Attributes
    ----------
    n_features_in_ : int
        d
    n_samples_fit_ : int
        V, how many rows were fitted.

    Examples
    --------
    >>> import fastclip
    >>> from fastclip.neighbors import NearestNeighbors
    >>> words = fastclip.data.load_sample("lvis")
    >>> search = NearestNeighbors(n_neighbors=2).fit(words.features.numpy())
    >>> distances, indices = search.kneighbors()  # of each row, without itself
    >>> words.names[0], [words.names[row] for row in indices[0]]
    ('aerosol_can', ['can', 'milk_can'])
    >>> search.radius_neighbors_graph(radius=0.1).shape
    (1203, 1203)
    """

    def __init__(
        self,
        *,
        n_neighbors: SupportsIndex = 5,
        radius: SupportsFloat = 1.0,
        algorithm: str = "auto",
        metric: Metric = "cosine",
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.algorithm = algorithm
        self.metric = metric
        self.n_jobs = n_jobs

    def radius_neighbors(
        self,
        X: Array | None = None,
        radius: SupportsFloat | None = None,
        return_distance: bool = True,
        sort_results: bool = False,
    ) -> Any:
        """Return all rows that are at most ``radius`` distant from each query.

        Parameters
        ----------
        X : [N, d], as in `fit`, optional
            Queries. Default: the rows themselves, each without itself.
        radius : float, optional
            At least 0, but for metric "inner_product". Default: the constructor's.
        return_distance : bool
        sort_results : bool
            In order of distance; else of rows.

        Returns
        -------
        distances : object array [N] of float32 arrays
            If ``return_distance``.
        indices : object array [N] of int64 arrays
            Of NumPy, whatever X is.
        """
        starts, indices, found = self._within(X, radius, sort_results)
        if return_distance:
            return _split(found, starts), _split(indices, starts)
        return _split(indices, starts)

    def radius_neighbors_graph(
        self,
        X: Array | None = None,
        radius: SupportsFloat | None = None,
        mode: Mode = "connectivity",
        sort_results: bool = False,
    ) -> Any:
        """Return `radius_neighbors` as a graph, a scipy.sparse.csr_matrix [N, V] float32.

        Parameters
        ----------
        X, radius, sort_results
            As in `radius_neighbors`.
        mode : "connectivity" or "distance"
            Whether edges are 1 or distances.

        Raises
        ------
        ImportError
            SciPy is missing: ``pip install 'fastclip-kernels[sklearn]'``.
        """
        check_choice("mode", mode, ("connectivity", "distance"))
        sparse = scipy_sparse()
        starts, indices, found = self._within(X, radius, sort_results)
        data = found if mode == "distance" else np.ones_like(found)
        shape = (len(starts) - 1, self.n_samples_fit_)
        return sparse.csr_matrix((data, indices, starts), shape=shape)

    def _within(
        self, X: Array | None, radius: SupportsFloat | None, by_distance: bool
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return where the neighbours of each query begin, [N + 1], these, and distances."""
        queries = self._queries(X)
        limit = as_threshold("radius", self.radius if radius is None else radius)
        metric = self._fitted_metric
        if limit < 0 and metric != "inner_product":
            raise ValueError(f"radius: 0 or more is allowed with metric {metric!r}, got {limit}")
        once = X is None and metric != "euclidean"  # a pair is as distant the other way round
        pairs = pairs_above(self._keys if once else queries, self._keys, score_below(metric, limit))
        columns = pairs.col_indices()
        each = torch.arange(len(queries), device=columns.device)
        rows = each.repeat_interleave(pairs.crow_indices().diff())
        found = refined(metric, pairs.values(), queries, self._keys.rows, rows, columns)
        near = (found <= np.float32(limit)) & ((rows != columns) | (X is not None))
        rows, columns, found = rows[near], columns[near], found[near]
        if once:
            rows, columns = torch.cat([rows, columns]), torch.cat([columns, rows])
            found = torch.cat([found, found])
        order = columns.argsort()
        if by_distance:
            order = order[found[order].argsort(stable=True)]
        order = order[rows[order].argsort(stable=True)]
        starts = np.zeros(len(queries) + 1, np.int64)
        np.cumsum(torch.bincount(rows, minlength=len(queries)).cpu().numpy(), out=starts[1:])
        return starts, columns[order].cpu().numpy(), found[order].cpu().numpy()


class KNeighborsTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Neighbors):  # type: ignore[misc]
    """Transform rows into the graph of their nearest neighbours, as scikit-learn's class does.

    Use it in pipelines before ``TSNE(metric="precomputed", init="random")`` or
    ``DBSCAN(metric="precomputed")``. HDBSCAN and UMAP with ``metric="precomputed"`` require
    symmetric graphs: put ``FunctionTransformer(lambda graph: graph.maximum(graph.T),
    accept_sparse=True)`` between.

    Parameters
    ----------
    mode : "distance" or "connectivity"
        What edges are. "distance" adds one neighbour, since each fitted row is its own nearest.
    n_neighbors, algorithm, metric, n_jobs
        As in `NearestNeighbors`.

    Attributes
    ----------
    n_features_in_ : int
    n_samples_fit_ : int

    Examples
    --------
    >>> import fastclip
    >>> from fastclip.neighbors import KNeighborsTransformer
    >>> images = fastclip.data.load_sample("coco-images").features
    >>> graph = KNeighborsTransformer(n_neighbors=15).fit_transform(images)
    >>> graph.shape, graph.nnz == 500 * 16
    ((500, 500), True)
    """

    def __init__(
        self,
        *,
        mode: Mode = "distance",
        n_neighbors: SupportsIndex = 5,
        algorithm: str = "auto",
        metric: Metric = "cosine",
        n_jobs: int | None = None,
    ) -> None:
        self.mode = mode
        self.n_neighbors = n_neighbors
        self.algorithm = algorithm
        self.metric = metric
        self.n_jobs = n_jobs

    def fit(self, X: Array, y: None = None) -> Self:
        """Keep the rows; see `NearestNeighbors.fit`."""
        check_choice("mode", self.mode, ("connectivity", "distance"))
        super().fit(X, y)
        self._n_features_out = self.n_samples_fit_
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def transform(self, X: Array) -> Any:
        """Return the graph from the rows of X to those fitted; see `kneighbors_graph`."""
        check_fitted(self, "n_samples_fit_")
        more = self.mode == "distance"
        k = as_integer("n_neighbors", self.n_neighbors) + more
        if k > self.n_samples_fit_:
            raise ValueError(
                f"n_neighbors: must be from 1 to {self.n_samples_fit_ - more} with "
                f"{self.n_samples_fit_} rows fitted and mode {self.mode!r}, got {k - more}"
            )
        return self.kneighbors_graph(X, k, self.mode)


def _prepared(rows: torch.Tensor, metric: str, are_keys: bool) -> torch.Tensor:
    """Return rows whose inner products are the scores of a metric."""
    rows = rows.detach()
    check_finite("X", rows)
    if metric == "euclidean":
        return with_lengths(rows, are_keys)
    return rows if metric == "inner_product" else unit_rows(rows)


def _split(parts: np.ndarray[Any, Any], starts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array of arrays, from each start to the next."""
    result = np.empty(len(starts) - 1, dtype=object)
    for row in range(len(result)):
        result[row] = parts[starts[row] : starts[row + 1]]
    return result
