from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_up_drawings import made_up_drawings

from fastclip.data.scenes import (
    Background,
    Placed,
    Scene,
    SceneMaker,
    compose,
    exchanged,
    load_drawings,
    placed_alone,
)

DRAWINGS = load_drawings()
KINDS = st.sampled_from(["single", "pair", "several"])
BLACK = Background("plain", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 1.0)
WHITE = Background("white", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0.0, 1.0)


def alpha_by_backgrounds(scene: Scene, side: int) -> torch.Tensor:
    """What of the background is hidden, told from the colours alone."""
    both = [replace(scene, background=b, noise=0.0) for b in (BLACK, WHITE)]
    black, white = compose(DRAWINGS, both, side)[0]
    return 1 - (white - black)


@given(index=st.integers(0, 2**40), kind=KINDS, augment=st.booleans())
def test_masks_are_the_composited_alpha(index: int, kind: str, augment: bool) -> None:
    scene = SceneMaker(DRAWINGS, 3, augment=augment).scene(index, kind)
    masks = compose(DRAWINGS, [scene], 48)[1][0]
    hidden = alpha_by_backgrounds(scene, 48)
    assert torch.allclose(masks.sum(0).expand(3, -1, -1), hidden, atol=1e-5)
    left = torch.ones(48, 48)
    for slot in reversed(range(len(scene.objects))):
        own = alpha_by_backgrounds(replace(scene, objects=(scene.objects[slot],)), 48)[0]
        assert torch.allclose(masks[slot], own * left, atol=1e-5)
        left = left * (1 - own)


@given(
    indices=st.lists(st.integers(0, 1000), min_size=2, max_size=6),
    kind=KINDS,
    side=st.integers(8, 70),
)
def test_a_scene_is_the_same_in_every_batch(indices: list[int], kind: str, side: int) -> None:
    maker = SceneMaker(DRAWINGS, 5, augment=True)
    scenes = [maker.scene(i, kind) for i in indices]
    images, masks = compose(DRAWINGS, scenes, side)
    again = SceneMaker(DRAWINGS, 5, augment=True)
    for i, image, mask in reversed(list(zip(indices, images, masks, strict=True))):
        alone, alone_mask = compose(DRAWINGS, [again.scene(i, kind)], side)
        assert torch.equal(alone[0], image)
        assert torch.equal(alone_mask[0], mask[: alone_mask.shape[1]])
        assert not mask[alone_mask.shape[1] :].any()


def test_seeds_and_indices_differ() -> None:
    scenes = [SceneMaker(DRAWINGS, s).scene(i, "pair") for s in range(3) for i in range(3)]
    assert len({(scene.objects, scene.background) for scene in scenes}) == 9


@given(index=st.integers(0, 2**40))
def test_two_objects_lie_inside_and_apart(index: int) -> None:
    scene = SceneMaker(DRAWINGS, 0).scene(index, "pair")
    first, second = scene.objects
    assert first.name != second.name
    for placed in scene.objects:
        assert placed.size / 2 - 1e-9 <= min(placed.x, placed.y)
        assert max(placed.x, placed.y) <= 1 - placed.size / 2 + 1e-9
    gap = max(abs(first.x - second.x), abs(first.y - second.y))
    assert gap >= (first.size + second.size) / 2 - 1e-9


def test_half_of_the_pairs_are_small_and_big() -> None:
    maker = SceneMaker(DRAWINGS, 0)
    ratios = []
    for index in range(400):
        a, b = (p.size for p in maker.scene(index, "pair").objects)
        ratios.append(max(a, b) / min(a, b))
    assert 0.4 < sum(r >= 1.5 for r in ratios) / 400 < 0.6
    assert not any(1.2 < r < 1.5 for r in ratios)


def test_an_object_is_where_and_as_large_as_it_says() -> None:
    discs = made_up_drawings()
    scene = Scene((Placed(0, 0, 0.3, 0.6, 0.4),), WHITE)
    mask = compose(discs, [scene], 200)[1][0, 0]
    centres = (torch.arange(200) + 0.5) / 200
    assert math.isclose(float((mask.sum(0) * centres).sum() / mask.sum()), 0.3, abs_tol=1e-3)
    assert math.isclose(float((mask.sum(1) * centres).sum() / mask.sum()), 0.6, abs_tol=1e-3)
    area = math.pi * (0.4 * 60 / 128) ** 2
    assert math.isclose(float(mask.mean()), area, rel_tol=0.01)


def test_mirroring_and_turning() -> None:
    upright = Placed(0, 0, 0.5, 0.5, 0.8)
    turned = [upright, replace(upright, flip=True), replace(upright, angle=math.pi / 2)]
    images, _ = compose(DRAWINGS, [Scene((p,), WHITE) for p in turned], 64)
    assert torch.allclose(images[1], images[0].flip(2), atol=1e-4)
    assert torch.allclose(images[2], images[0].rot90(-1, (1, 2)), atol=1e-4)
    assert not torch.allclose(images[1], images[0], atol=0.1)


def test_one_drawing_alone_has_its_own_colours() -> None:
    discs = made_up_drawings()
    image, masks = compose(discs, [placed_alone(discs, 7)], 64)
    colour = discs.mips[0][7, :3, 64, 64] / 255
    assert torch.allclose(image[0, :, 32, 32], colour, atol=0.01)
    assert (image[0, :, 0, 0] == 1).all()
    assert masks.shape == (1, 1, 64, 64)


def test_exchanged_swaps_drawings_and_leaves_places() -> None:
    scene = SceneMaker(DRAWINGS, 1, augment=True).scene(4, "several")
    swapped = exchanged(scene)
    assert swapped.names[:2] == scene.names[1::-1]
    assert swapped.objects[2:] == scene.objects[2:]
    for before, after in zip(scene.objects, swapped.objects, strict=True):
        assert (before.x, before.y, before.size) == (after.x, after.y, after.size)
    assert exchanged(swapped) == scene


def test_every_background_appears_and_varies() -> None:
    maker = SceneMaker(DRAWINGS, 0)
    scenes = [maker.scene(i, "single") for i in range(60)]
    assert {scene.background.kind for scene in scenes} == {"white", "plain", "gradient", "texture"}
    images, masks = compose(DRAWINGS, [replace(scene, objects=()) for scene in scenes], 32)
    assert masks.shape == (60, 0, 32, 32)
    for scene, image in zip(scenes, images, strict=True):
        varies = bool((image.amax((1, 2)) - image.amin((1, 2)) > 0.01).any())
        assert varies == (scene.background.kind in ("gradient", "texture"))


def test_errors() -> None:
    scene = placed_alone(DRAWINGS, 0)
    with pytest.raises(ValueError, match="side is 7, must be 8 to 1024"):
        compose(DRAWINGS, [scene], 7)
    with pytest.raises(ValueError, match="scenes is empty"):
        compose(DRAWINGS, [], 64)
    with pytest.raises(ValueError, match="kind is 'two', allowed: single, pair, several"):
        SceneMaker(DRAWINGS, 0).scene(0, "two")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="drawings: are of 1 names"):
        SceneMaker(DRAWINGS.of_names([3]), 0).scene(0, "pair")
    with pytest.raises(ValueError, match="seed: is -1, allowed: 0 or more"):
        SceneMaker(DRAWINGS, -1)
