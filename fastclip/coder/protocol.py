"""The behaviour of the authors' public scripts that differs from the method, each part by name.

Their repository has no licence, so nothing of it ships: neither their files of texts, which
`FileSource` reads, nor their one-to-one frames. The one-to-one templates of `text_templates` are
fastclip's own, 2 or 3 a family where they have 2 to 11; `benches/coder_templates.py` writes theirs,
from your copy of the repository, as a file for `text_templates`.
"""

from collections.abc import Collection
from typing import NamedTuple

from fastclip.data.checks import check_choice
from fastclip.data.templates import templates

DEVIATIONS = {
    "none-synonyms": "synonym texts read 'None' in place of the synonym",
    "labels-choose": "images are reranked only if their label is among the candidates",
    "glued-frames": "the first two one-to-one templates for textures are one text",
    "raw-names": "underscores stay in class names, except in name texts",
    "six-requests": "where the first answer had an analogous class that is another class, six "
    "requests follow, with the last character of the names that are known cut off",
    "template-weights": "few-shot class weights are those of the data set's prompts for CLIP, not "
    "of CODER's name texts",
    "best-of-two-tests": "few-shot accuracy is the larger of two on the test images, with the "
    "alpha and beta of the data set's settings and with those that were searched",
    "silent-rerank": "reranking fails for float32 features, and the first stage's answer stays",
}
"""What the public scripts do, by name; all but the last happen on every run of them.

Those of FEW_SHOT are of `few_shot_curve`, the others of zero-shot classification and its texts. For
ImageNet they also search alpha and beta on the test images: ``split="test"`` of
`CoderAdapter.tune`.

That pairs of classes without one-to-one texts count as 0 is no deviation: see `CoderClassifier`.
"""

FEW_SHOT = frozenset({"template-weights", "best-of-two-tests"})

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


class FewShotSettings(NamedTuple):
    """What the authors' few-shot scripts set for a data set, without saying how it was chosen."""

    alpha: float
    beta: float
    augmentations: int
    templates: tuple[str, ...]
    """Prompts of the class weights, for `Model.encode_text`."""


_PHOTO = ("a photo of a {}.",)
_FEW_SHOT = {
    "Caltech101": FewShotSettings(100, 24.76, 20, _PHOTO),
    "DTD": FewShotSettings(2.57, 30.18, 20, ("{} texture.",)),
    "EuroSAT": FewShotSettings(1.73, 91.34, 20, ("a centered satellite photo of {}.",)),
    "Aircraft": FewShotSettings(9.775, 96, 20, ("a photo of a {}, a type of aircraft.",)),
    "Food101": FewShotSettings(1, 1, 20, ("a photo of {}, a type of food.",)),
    "ImageNet": FewShotSettings(1.66, 72, 1, ()),
    "Pets": FewShotSettings(1, 26, 10, ("a photo of a {}, a type of pet.",)),
    "Flowers": FewShotSettings(4.37, 38, 20, ("a photo of a {}, a type of flower.",)),
    "Cars": FewShotSettings(1.5, 23.5, 20, _PHOTO),
    "SUN397": FewShotSettings(1.18, 43.57, 20, _PHOTO),
    "UCF101": FewShotSettings(2, 49.51, 20, ("a photo of a person doing {}.",)),
}


def authors_few_shot(name: str) -> FewShotSettings:
    """Return the settings of the authors' few-shot scripts for a data set.

    Raises
    ------
    ValueError
        They have none of this name.

    Examples
    --------
    >>> from fastclip.coder import authors_few_shot
    >>> authors_few_shot("DTD")
    FewShotSettings(alpha=2.57, beta=30.18, augmentations=20, templates=('{} texture.',))
    """
    check_choice("name", name, _FEW_SHOT)
    found = _FEW_SHOT[name]
    return found if found.templates else found._replace(templates=templates("imagenet-simple"))


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
