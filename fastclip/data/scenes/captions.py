"""What a scene shows, in words: captions, tags, and wrong and reworded captions to tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .compose import Placed, Scene, generator
from .drawings import Drawings

_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_LARGER = 1.5  # times the other's size, from which a pair is small and big


@dataclass(frozen=True)
class Contrast:
    """A caption, a changed one that is wrong, and a reworded one that is still right."""

    true: str
    negative: str
    equivalent: str


def article(name: str) -> str:
    """Return the name with its article: "an apple", "a cat"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def relation(first: Placed, second: Placed) -> str:
    """Where the first object is, seen from the second: the axis on which they are further apart."""
    across, down = first.x - second.x, first.y - second.y
    if abs(across) >= abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def sizes(first: Placed, second: Placed) -> tuple[str, str] | None:
    """ "small" and "big" in the order of the objects, or None where they are about as large."""
    if first.size * _LARGER <= second.size:
        return "small", "big"
    if second.size * _LARGER <= first.size:
        return "big", "small"
    return None


def tags(drawings: Drawings, scene: Scene) -> tuple[str, ...]:
    """Return the names of the objects, in the order of their masks."""
    return tuple(drawings.names[name] for name in scene.names)


def caption(drawings: Drawings, scene: Scene) -> str:
    """Return the full caption: names, sizes where they differ, and the place of the first of two.

    Examples
    --------
    >>> from fastclip.data.scenes import SceneMaker, caption, load_drawings
    >>> drawings = load_drawings()
    >>> caption(drawings, SceneMaker(drawings, seed=0).scene(0, "single"))[:2]
    'a '
    """
    names = tags(drawings, scene)
    if len(names) != 2:
        return " and ".join(article(name) for name in names)
    first, second = scene.objects
    return _phrase(names, sizes(first, second), relation(first, second))


def composed_captions(
    names: Sequence[str], count: int, *, seed: int, without: Sequence[str] = ()
) -> tuple[str, ...]:
    """Compose different captions of two things with random names, worded as by `caption`.

    Parameters
    ----------
    names : sequence of str
        At least two.
    count : int
        How many captions, 0 or more.
    seed : int
        0 or more; equal arguments give equal captions.
    without : sequence of str
        Captions to leave out.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        There are not so many captions.

    Examples
    --------
    >>> from fastclip.data.scenes import composed_captions
    >>> len(set(composed_captions(["cat", "red apple"], 24, seed=0)))
    24
    """
    size_pairs = (None, ("small", "big"), ("big", "small"))
    possible = len(names) * (len(names) - 1) * len(size_pairs) * len(_OPPOSITE)
    if not 0 <= count <= possible:
        raise ValueError(f"count is {count}, of {len(names)} names there are 0 to {possible}")
    captions: list[str] = []
    left_out = set(without)
    for index in generator(seed, 0).permutation(possible):
        if len(captions) == count:
            break
        rest, where = divmod(int(index), len(_OPPOSITE))
        rest, size = divmod(rest, len(size_pairs))
        first, second = divmod(rest, len(names) - 1)
        pair = (names[first], names[second + (second >= first)])
        text = _phrase(pair, size_pairs[size], tuple(_OPPOSITE)[where])
        if text not in left_out:
            captions.append(text)
    if len(captions) < count:
        raise ValueError(f"count is {count}, there are {len(captions)} captions besides `without`")
    return tuple(captions)


def _phrase(names: Sequence[str], size: tuple[str, str] | None, where: str) -> str:
    words = [f"{s} {n}" for s, n in zip(size, names, strict=True)] if size else names
    return f"{article(words[0])} {where} {article(words[1])}"


def size_swap(drawings: Drawings, scene: Scene) -> Contrast:
    """Exchange the names of a small and a big object; the equivalent names them in other order.

    Raises
    ------
    ValueError
        The scene is not of two objects of different size.
    """
    first, second = _two(scene)
    size = sizes(first, second)
    if size is None:
        raise ValueError("scene: its objects are about as large, one must be 1.5 times the other")
    a, b = tags(drawings, scene)
    return Contrast(
        true=f"a {size[0]} {a} and a {size[1]} {b}",
        negative=f"a {size[0]} {b} and a {size[1]} {a}",
        equivalent=f"a {size[1]} {b} and a {size[0]} {a}",
    )


def relation_swap(drawings: Drawings, scene: Scene) -> Contrast:
    """Exchange the names around "left of" and the like; the equivalent says it from the other side.

    Raises
    ------
    ValueError
        The scene is not of two objects.
    """
    where = relation(*_two(scene))
    a, b = (article(name) for name in tags(drawings, scene))
    return Contrast(f"{a} {where} {b}", f"{b} {where} {a}", f"{b} {_OPPOSITE[where]} {a}")


def object_replaced(drawings: Drawings, scene: Scene, rng: np.random.Generator) -> Contrast:
    """Replace the name of one of two objects by one that the scene does not show.

    Raises
    ------
    ValueError
        The scene is not of two objects.
    """
    _two(scene)
    shown = list(tags(drawings, scene))
    others = [n for n in drawings.present if n not in scene.names]
    changed = list(shown)
    changed[int(rng.integers(2))] = drawings.names[others[int(rng.integers(len(others)))]]
    a, b = (article(name) for name in shown)
    c, d = (article(name) for name in changed)
    return Contrast(f"{a} and {b}", f"{c} and {d}", f"{b} and {a}")


def _two(scene: Scene) -> tuple[Placed, Placed]:
    if len(scene.objects) != 2:
        raise ValueError(f"scene has {len(scene.objects)} objects, must have 2")
    return scene.objects[0], scene.objects[1]


_ALONE = ("a {}", "{}", "a picture of {}", "a drawing of {}", "a photo of {}", "an icon of {}")


def varied_caption(
    drawings: Drawings, scene: Scene, rng: np.random.Generator, *, told_apart: bool = False
) -> str:
    """Return a caption in one of many forms, with other words for some names, for training.

    ``told_apart`` asks for a caption that is wrong for the scene with its objects exchanged.
    """
    if len(scene.objects) == 1:
        return _varied_single(drawings, scene.names[0], rng)
    words = [_other_word(drawings, name, rng, 0.12) for name in scene.names]
    if len(words) > 2:
        shown = rng.permutation(len(words))[: rng.integers(2, len(words) + 1)]
        return " and ".join(article(words[i]) for i in shown)
    first, second = scene.objects
    size = sizes(first, second)
    turned = rng.random() < 0.5
    if turned:
        first, second = second, first
        words.reverse()
        size = size and (size[1], size[0])
    form = rng.random()
    if size and form < 0.6:
        words = [f"{s} {word}" for s, word in zip(size, words, strict=True)]
        where = relation(first, second) if form < 0.15 else "and"
    else:
        where = relation(first, second) if told_apart or form > 0.75 else "and"
    start = ("", "a picture of ", "a drawing of ")[int(rng.choice(3, p=[0.7, 0.15, 0.15]))]
    return f"{start}{article(words[0])} {where} {article(words[1])}"


def _varied_single(drawings: Drawings, name: int, rng: np.random.Generator) -> str:
    form = rng.random()
    if form < 0.7:
        word = drawings.names[name]
    elif form < 0.85:
        word = _other_word(drawings, name, rng, 1.0)
    else:
        kind = drawings.groups[name].replace("-", " ")
        both = (drawings.names[name], kind)
        word = " ".join(both if rng.random() < 0.5 else both[::-1])
    template = _ALONE[int(rng.integers(len(_ALONE)))]
    if template.startswith("a {}"):
        return article(word)
    return template.format(article(word) if rng.random() < 0.7 and template != "{}" else word)


def _other_word(drawings: Drawings, name: int, rng: np.random.Generator, share: float) -> str:
    tags_of_name: Sequence[str] = drawings.tags[name]
    if tags_of_name and rng.random() < share:
        return tags_of_name[int(rng.integers(len(tags_of_name)))]
    return drawings.names[name]
