"""The behaviour of the authors' public scripts that differs from the method, each part by name."""

from collections.abc import Collection

DEVIATIONS = {
    "none-synonyms": "synonym texts read 'None' in place of the synonym",
    "labels-choose": "images are reranked only if their label is among the candidates",
    "glued-frames": "the first two one-to-one templates for textures are one text",
    "raw-names": "underscores stay in class names, except in name texts",
    "six-requests": "where the first answer had an analogous class that is another class, six "
    "requests follow, with the last character of the names that are known cut off",
    "silent-rerank": "reranking fails for float32 features, and the first stage's answer stays",
}
"""What the public scripts do, by name; all but the last happen on every run of them.

That pairs of classes without one-to-one texts count as 0 is no deviation: see `CoderClassifier`.
"""

AUTHORS = frozenset(DEVIATIONS) - {"silent-rerank"}
"""What ``protocol="authors"`` stands for: their scripts on a GPU, in half precision."""

AUTHORS_THRESHOLDS = {
    "ImageNet": 0.1,
    "ImageNet-V2": 0.05,
    "Places365": 0.1,
    "Caltech101": 0.3,
    "DTD": 0.6,
    "CUB": 0.2,
    "EuroSAT": 0.3,
    "Food101": 0.1,
    "Pets": 0.1,
}
"""The gap below which the authors rerank, of each data set; how they chose it is not known."""


def deviations(protocol: str | Collection[str]) -> frozenset[str]:
    """Return the deviations that ``protocol`` names: "honest" (none), "authors" or some by name.

    Raises
    ------
    ValueError
        There is no such protocol or deviation.
    """
    if isinstance(protocol, str):
        if protocol not in ("honest", "authors"):
            raise ValueError(
                f"protocol: is {protocol!r}, allowed: 'honest', 'authors' or a set of "
                f"{', '.join(DEVIATIONS)}"
            )
        return AUTHORS if protocol == "authors" else frozenset()
    for name in protocol:
        if name not in DEVIATIONS:
            raise ValueError(f"protocol: holds {name!r}, allowed: {', '.join(DEVIATIONS)}")
    return frozenset(protocol)
