"""Scenes for measures of openness: things in groups as classes, other names as words."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from fastclip.data.image_sources import ImageSource, find_images
from fastclip.data.vocabularies.class_lists import ClassList

from .captions import article, composed_captions
from .drawings import load_drawings
from .writing import write_scenes

_SMALLEST_GROUP = 3
_SEED = 0


class OpennessScenes(NamedTuple):
    """Pictures of one thing each, and words that a model knows."""

    images: ImageSource
    labels: tuple[int, ...]
    classes: ClassList
    words: tuple[str, ...]
    """That no class and no picture is of: names, then captions composed of them."""


def openness_scenes(
    folder: Path,
    known: Mapping[str, str],
    *,
    count: int,
    words: int,
    progress: Callable[[int, int], None] | None = None,
) -> OpennessScenes:
    """Write scenes of one shipped drawing each, and list classes and words for them.

    Classes are the ``known`` names among those of the drawings. Groups are Unicode's, such as
    "animal"; those of fewer than three classes are one group. No word shares a part with the name
    of a class.

    Parameters
    ----------
    folder : path
        As for `write_scenes`, which resumes after an interruption.
    known : mapping from str to str
        The names that a model was trained on, and the group of each, such as those of
        `fastclip.models.tiny.known_names`.
    count : int
        How many scenes, 1 or more.
    words : int
        How many names and captions, 0 or more.
    progress : callable, optional
        Told how many scenes are there, and ``count``.

    Raises
    ------
    ValueError
        There are not so many words, or the folder holds scenes of other settings.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastclip.data.scenes.openness import openness_scenes
    >>> from fastclip.models.tiny import known_names
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = openness_scenes(Path(folder), known_names(), count=2, words=3)
    >>> len(found.images), len(found.words), found.classes.names[found.labels[0]][:2]
    (2, 3, 'a ')
    """
    shipped = load_drawings()
    drawings = shipped.of_names(i for i, name in enumerate(shipped.names) if name in known)
    write_scenes(drawings, folder, count=count, seed=_SEED, kind="single", progress=progress)

    classes = _classes([drawings.names[i] for i in drawings.present], known)
    images = find_images(folder / "images")
    tags = {}
    with open(folder / "captions.jsonl", encoding="utf-8") as file:
        for line in file:
            scene = json.loads(line)
            tags[Path(scene["image"]).name] = classes.names.index(article(scene["tags"][0]))
    labels = tuple(tags[name] for name in images.names)

    parts = {part for name in classes.names for part in name.split()[1:]}
    names = [name for name in known if not parts & set(name.split())]
    single = tuple(article(name) for name in names)[:words]
    captions = composed_captions(names, words - len(single), seed=_SEED)
    return OpennessScenes(images, labels, classes, (*single, *captions))


def _classes(names: list[str], groups: Mapping[str, str]) -> ClassList:
    wide = [groups[name].split("-")[0] for name in names]
    sizes = Counter(wide)
    wide = [group if sizes[group] >= _SMALLEST_GROUP else "other" for group in wide]
    order = list(dict.fromkeys(wide))
    return ClassList(
        names=tuple(article(name) for name in names),
        groups=tuple(order.index(group) for group in wide),
        group_names=tuple(order),
        folders=tuple(names),
        templates=(("{}",),) * len(order),  # with its article, a name is a caption of training
    )
