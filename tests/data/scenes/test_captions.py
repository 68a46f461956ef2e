from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_drawings import made_up_drawings

from fastclip.data.scenes import (
    Scene,
    SceneMaker,
    caption,
    composed_captions,
    exchanged,
    load_drawings,
    object_replaced,
    relation_swap,
    size_swap,
    sizes,
    tags,
    varied_caption,
)

DRAWINGS = load_drawings()
PLAIN = made_up_drawings()  # names without other words, so that captions can be parsed
INDEX = st.integers(0, 2**40)
PAIR = re.compile(
    r"(?:a (?:picture|drawing) of )?an? (?:(small|big) )?(.+?) "
    r"(left of|right of|above|below|and) an? (?:(small|big) )?(.+)"
)


def holds(text: str, scene: Scene, names: tuple[str, ...]) -> bool:
    """Whether a caption of two objects is true of the layout; written apart from what is tested."""
    match = PAIR.fullmatch(text)
    assert match, text
    size_a, a, where, size_b, b = match.groups()
    if {a, b} != set(names):
        return False
    first, second = (scene.objects[names.index(name)] for name in (a, b))
    if size_a and (first.size < second.size) != (size_a == "small"):
        return False
    if size_b and (second.size < first.size) != (size_b == "small"):
        return False
    return {
        "left of": first.x < second.x,
        "right of": first.x > second.x,
        "above": first.y < second.y,
        "below": first.y > second.y,
        "and": True,
    }[where]


@given(index=INDEX, swapped=st.booleans())
def test_captions_and_contrasts_match_the_layout(index: int, swapped: bool) -> None:
    scene = SceneMaker(DRAWINGS, 2).scene(index, "pair")
    scene = exchanged(scene) if swapped else scene
    names = tags(DRAWINGS, scene)
    assert names == tuple(DRAWINGS.names[p.name] for p in scene.objects)
    assert holds(caption(DRAWINGS, scene), scene, names)
    assert not holds(caption(DRAWINGS, exchanged(scene)), scene, names)
    found = [relation_swap(DRAWINGS, scene)]
    found.append(object_replaced(DRAWINGS, scene, np.random.default_rng(index)))
    if sizes(*scene.objects):
        found.append(size_swap(DRAWINGS, scene))
    for contrast in found:
        assert holds(contrast.true, scene, names)
        assert holds(contrast.equivalent, scene, names)
        assert not holds(contrast.negative, scene, names)
        assert len({contrast.true, contrast.equivalent, contrast.negative}) == 3


@given(index=INDEX, told_apart=st.booleans())
def test_training_captions_are_true(index: int, told_apart: bool) -> None:
    scene = SceneMaker(PLAIN, 2, augment=True).scene(index, "pair")
    names = tags(PLAIN, scene)
    rng = np.random.default_rng(index)
    text = varied_caption(PLAIN, scene, rng, told_apart=told_apart)
    assert holds(text, scene, names)
    if told_apart:
        other = exchanged(scene)
        assert not holds(text, other, tags(PLAIN, other))


@given(index=INDEX)
def test_training_captions_of_single_objects_name_them(index: int) -> None:
    scene = SceneMaker(DRAWINGS, 2).scene(index, "single")
    text = varied_caption(DRAWINGS, scene, np.random.default_rng(index))
    (name,) = scene.names
    assert any(word in text for word in (DRAWINGS.names[name], *DRAWINGS.tags[name]))


@given(index=INDEX)
def test_training_captions_of_several_objects_name_at_least_two(index: int) -> None:
    scene = SceneMaker(PLAIN, 2).scene(index, "several")
    text = varied_caption(PLAIN, scene, np.random.default_rng(index))
    parts = [re.sub("^an? ", "", part) for part in text.split(" and ")]
    assert len(parts) >= 2
    assert set(parts) <= set(tags(PLAIN, scene))


def test_articles() -> None:
    scene = SceneMaker(PLAIN, 0).scene(0, "several")
    assert caption(PLAIN, scene) == " and ".join(
        f"an {n}" if n == "owl" else f"a {n}" for n in tags(PLAIN, scene)
    )


def test_contrasts_need_two_objects() -> None:
    maker = SceneMaker(DRAWINGS, 0)
    with pytest.raises(ValueError, match="scene has 1 objects, must have 2"):
        relation_swap(DRAWINGS, maker.scene(0, "single"))
    alike = next(
        s for s in (maker.scene(i, "pair") for i in range(50)) if sizes(*s.objects) is None
    )
    with pytest.raises(ValueError, match=r"must be 1\.5 times the other"):
        size_swap(DRAWINGS, alike)


def test_composed_captions_are_of_two_different_names() -> None:
    names = ["cat", "red apple", "owl"]
    everything = composed_captions(names, 72, seed=3)
    assert len(set(everything)) == 72  # 6 ordered pairs, 3 pairs of sizes, 4 places
    assert "a small cat left of a big red apple" in everything
    assert "an owl above a cat" in everything
    assert not any(text.count("cat") == 2 for text in everything)
    fewer = composed_captions(names, 70, seed=3, without=["an owl above a cat", "no such"])
    assert set(fewer) < set(everything) - {"an owl above a cat"}
    assert fewer == composed_captions(names, 70, seed=3, without=["an owl above a cat"])
    assert composed_captions(names, 5, seed=4) != everything[:5]


def test_more_captions_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="count is 25, of 2 names there are 0 to 24"):
        composed_captions(["cat", "owl"], 25, seed=0)
    with pytest.raises(ValueError, match="count is 24, there are 23 captions besides"):
        composed_captions(["cat", "owl"], 24, seed=0, without=["a cat above an owl"])
