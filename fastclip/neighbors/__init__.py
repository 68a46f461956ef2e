"""Nearest neighbours with scikit-learn's interface, and what a set of near-duplicates comes to.

`NearestNeighbors` and `KNeighborsTransformer` stand where those of ``sklearn.neighbors`` do, before
t-SNE, UMAP, DBSCAN and HDBSCAN: by exact search, without the matrix of distances. They need no
scikit-learn; with ``pip install 'fastclip-kernels[sklearn]'`` they are estimators of it. `to_scipy`
makes a scipy.sparse array of what `fastclip.pairs_above` returns, and `deduplicate` keeps one row
of each near-duplicate.
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
