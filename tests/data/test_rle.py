"""Run lengths against pycocotools, both ways."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from pycocotools import mask as coco

from fastclip.data import decode_rle, encode_rle


def check(mask: np.ndarray) -> None:
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(torch.from_numpy(mask))
    assert ours == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    assert np.array_equal(decode_rle(ours).numpy(), mask)
    assert np.array_equal(decode_rle(theirs).numpy(), mask)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.floats(0, 1))
def test_random_masks(seed, height, width, share):
    check(np.random.default_rng(seed).random((height, width)) < share)


@pytest.mark.parametrize("value", [False, True])
def test_long_runs_whose_differences_change_sign(value):
    pixels = np.repeat(np.arange(8) % 2 == value, [1, 70_000, 2, 5, 60_000, 1, 33, 958])
    check(pixels.reshape(200, 655))
    check(np.full((300, 400), value))


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"mask: shape \[H, W\]"):
        encode_rle(torch.zeros(2, 2, 2, dtype=torch.bool))
    with pytest.raises(TypeError, match="mask: a bool tensor"):
        encode_rle(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"rle: its runs \[2, 2\] do not fill size"):
        decode_rle({"size": [2, 3], "counts": "22"})


def test_runs_as_numbers():
    mask = decode_rle({"size": [2, 3], "counts": [0, 1, 3, 2]})
    assert mask.tolist() == [[True, False, True], [False, False, True]]
