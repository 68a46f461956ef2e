"""Vocabularies by name: lists that come with the package, files, or names with commas."""

import os
from collections.abc import Callable
from pathlib import Path

from fastclip.data.checks import did_you_mean
from fastclip.data.samples import load_sample
from fastclip.data.texts import read_texts

from .class_lists import class_list, imagenet_names
from .wordnet import wordnet_nouns


def _of_sample(sample: str) -> tuple[str, ...]:
    names = load_sample(sample).names
    assert names is not None
    return tuple(name.replace("_", " ") for name in names)


VOCABULARIES: dict[str, Callable[[], tuple[str, ...]]] = {
    "wordnet": wordnet_nouns,
    "lvis": lambda: _of_sample("lvis"),
    "openimages": lambda: _of_sample("openimages"),
    "objects365": lambda: _of_sample("objects365"),
    "coco": lambda: _of_sample("coco"),
    "imagenet": lambda: tuple(imagenet_names().values()),
    "cifar100": lambda: class_list("cifar100").names,
}
"""By name; each is read when it is asked for."""


def vocabulary(source: str | os.PathLike[str], *, column: str | None = None) -> tuple[str, ...]:
    """Return the names of a vocabulary, each once, in their order.

    ============== ===============================================================================
    ``wordnet``    117,798 nouns
    ``lvis``       1,203 classes of things
    ``openimages`` 498 names of its 500 boxable classes
    ``objects365`` 365 classes
    ``coco``       80 classes
    ``imagenet``   998 names that OpenAI gave its 1,000 classes
    ``cifar100``   100 classes
    a path         a file of `fastclip.data.read_texts`; comes first if it is also one of the above
    ``cat,dog``    the names themselves, with commas between them
    ============== ===============================================================================

    Parameters
    ----------
    source : str or path-like
    column : str, optional
        The column or field of a file that holds the names; needed if there are several.

    Returns
    -------
    tuple of str
        At least one name. Those of LVIS have spaces for underscores.

    Raises
    ------
    FileNotFoundError
        Nothing is known by this name, and there is no such file.
    ValueError
        As `read_texts`, or commas without a name.

    Examples
    --------
    >>> from fastclip.data.vocabularies import vocabulary
    >>> len(vocabulary("lvis")), vocabulary("lvis")[:2]
    (1203, ('aerosol can', 'air conditioner'))
    >>> vocabulary("cat, dog,cat")
    ('cat', 'dog')
    """
    text = os.fspath(source)
    if os.path.exists(text):
        names = read_texts(text, column=column)
    elif text in VOCABULARIES:
        names = VOCABULARIES[text]()
    elif "," in text:
        names = tuple(filter(None, map(str.strip, text.split(","))))
        if not names:
            raise ValueError(f"{text}: holds no name")
    else:
        beside = [path.name for path in Path(text).absolute().parent.glob("*") if path.is_file()]
        near = did_you_mean(text, VOCABULARIES) or did_you_mean(Path(text).name, beside)
        raise FileNotFoundError(
            f"{text}: no such file, allowed: a file of names, names with commas between them, or "
            f"one of {', '.join(VOCABULARIES)}{near}"
        )
    return tuple(dict.fromkeys(names))
