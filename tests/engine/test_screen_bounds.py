"""The inequality that the screen stands on, attacked: csrc/include/fastclip/screen.h, (1)."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from inputs import Problem, hard_cases, problems

import fastclip
from fastclip import _C
from fastclip.engine.packed import as_panels


def assert_bounds_hold(keys: torch.Tensor) -> None:
    """Take every key as a query of every other: their codes bound the product of both, centred."""
    packed = fastclip.pack(keys).to("cpu")
    count = len(packed)
    codes = (
        as_panels(packed.codes).transpose(1, 2).reshape(-1, _C.code_width(keys.shape[1]))[:count]
    )
    scale, error, norm = packed.bounds[:, :count].double().numpy()
    finite = np.isfinite(norm)  # numbers whose difference from the centre overflows are not coded
    coded = scale[:, None] * (codes.double().numpy() - 128)
    with np.errstate(over="ignore", invalid="ignore"):
        centred = reference.rows64(keys) - packed.center.double().numpy()
        length, coded_length = np.linalg.norm(centred, axis=1), np.linalg.norm(coded, axis=1)
        exact, approximate = centred @ centred.T, coded @ coded.T
        margin = coded_length[:, None] * error + error[:, None] * norm
    assert (norm >= length)[finite].all()
    assert (error >= abs(length - coded_length))[finite].all()
    pairs = np.ix_(finite, finite)
    rounding = 1e-12 * np.outer(norm, norm)  # of this test's own sums
    assert (abs(exact - approximate) <= margin + rounding)[pairs].all()


@given(problem=problems(max_queries=0))
def test_any_keys(isa: str, problem: Problem) -> None:
    if len(problem.keys):
        assert_bounds_hold(problem.keys)


@pytest.mark.parametrize("problem", hard_cases().values(), ids=hard_cases().keys())
def test_hard_cases(isa: str, problem: Problem) -> None:
    assert_bounds_hold(problem.keys)


@pytest.mark.parametrize("width", [512, 768, 1024, 1152, 1280])
def test_widths_of_clip_models(isa: str, width: int) -> None:
    keys = torch.randn(100, width)
    keys[:, 7] *= 100  # an outlier dimension
    assert_bounds_hold(keys)


def test_bounds_are_tight(isa: str) -> None:
    """On real features the error is about a hundredth of a key: otherwise nothing is dropped."""
    captions = fastclip.data.load_sample("coco-captions").normalized().features
    packed = fastclip.pack(captions).to("cpu")
    _, error, norm = packed.bounds[:, :500]
    assert (error < 0.012 * norm).all()
