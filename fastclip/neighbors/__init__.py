"""Nearest neighbours with scikit-learn's interface, and removal of near-duplicates.

`NearestNeighbors` and `KNeighborsTransformer` replace the classes of the same names in
``sklearn.neighbors``, for instance before t-SNE, UMAP, DBSCAN and HDBSCAN. The search is exact and
holds no matrix of distances. It works without scikit-learn; with
``pip install 'fastclip-kernels[sklearn]'`` the classes are estimators of scikit-learn. `to_scipy`
converts the result of `fastclip.pairs_above` to a scipy.sparse array. `deduplicate` keeps one row
of each group of near-duplicates.
"""

from fastclip.neighbors._deduplicate import Deduplicated, deduplicate
from fastclip.neighbors._search import KNeighborsTransformer, NearestNeighbors
from fastclip.neighbors._sparse import to_scipy

__all__ = [
    "Deduplicated",
    "KNeighborsTransformer",
    "NearestNeighbors",
    "deduplicate",
    "to_scipy",
]
