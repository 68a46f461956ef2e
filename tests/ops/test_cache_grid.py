from __future__ import annotations

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastclip.ops._cache_grid import cache_grid

pytestmark = pytest.mark.host


def counts(
    arrays: tuple[np.ndarray, ...], beta: float, alpha: float, unclear: float
) -> tuple[int, int]:
    """How many images are right by more than a lead of ``unclear``, and by more than minus it."""
    leads = reference.label_leads(*arrays, beta, alpha)
    labels = arrays[2]
    others = np.arange(leads.shape[1]) != labels[:, None]
    wins_ties = np.arange(leads.shape[1]) > labels[:, None]
    surely = (leads > unclear) | ((leads == unclear) & wins_ties) | ~others
    maybe = (leads > -unclear) | ((leads == -unclear) & wins_ties) | ~others
    return int(surely.all(1).sum()), int(maybe.all(1).sum())


def check(arrays: tuple[np.ndarray, ...], betas, alphas, *, unclear: float) -> torch.Tensor:
    tensors = [torch.from_numpy(array) for array in arrays]
    found = cache_grid(*tensors, betas, torch.tensor(alphas, dtype=torch.float64))
    first, step, number = betas
    assert found.shape == (number, len(alphas))
    for b in range(number):
        for a, alpha in enumerate(alphas):
            least, most = counts(arrays, first + b * step, alpha, unclear)
            assert least <= int(found[b, a]) <= most
    return found


@given(
    seed=st.integers(0, 2**31),
    images=st.integers(0, 70),
    support=st.integers(1, 40),
    classes=st.integers(1, 20),
    step=st.sampled_from([0.0, 0.7, 9.0]),
)
def test_equals_the_reference(
    isa: str, seed: int, images: int, support: int, classes: int, step: float
) -> None:
    rng = np.random.default_rng(seed)
    arrays = (
        rng.random((images, support)),
        3 * rng.standard_normal((images, classes)),
        rng.integers(classes, size=images),
        rng.integers(classes, size=support),  # classes with many and with no support images
    )
    check(arrays, (0.1, step, 4), [0.2, 0.9, 1.5, 30.0], unclear=1e-9)


def test_ties_go_to_the_lower_class(isa: str) -> None:
    """Small whole numbers, of which all scores are exact."""
    rng = np.random.default_rng(0)
    arrays = (
        np.ones((300, 12)),
        rng.integers(-3, 4, (300, 9)).astype(float),
        rng.integers(9, size=300),
        np.array([0, 0, 0, 2, 2, 3, 5, 5, 8, 8, 8, 8]),
    )
    found = check(arrays, (1.0, 1.0, 2), [1.0, 2.0, 3.0], unclear=0.0)
    ties = reference.label_leads(*arrays, 1.0, 2.0) == 0
    assert (ties.sum(1) > 1).sum() > 50
    assert torch.equal(found[0], found[1])


def test_many_betas_do_not_drift(isa: str) -> None:
    """Each lead crosses 0 near a pair: which side it is on shows an error of 1e-12."""
    rng = np.random.default_rng(1)
    affinity, beta, step = rng.random((40, 1)), 0.1, 0.4
    last = np.exp(-(beta + 499 * step) * (1 - affinity[:, 0]))
    near = np.where(np.arange(40) % 2 == 0, 1 + 1e-12, 1 - 1e-12)
    zero_shot = np.stack([np.zeros(40), last * near], 1)  # right for alpha 1 where it is below last
    labels, support_labels = np.zeros(40, dtype=np.int64), np.zeros(1, dtype=np.int64)
    found = check(
        (affinity, zero_shot, labels, support_labels), (beta, step, 500), [1.0], unclear=0.0
    )
    assert int(found[-1, 0]) == 20


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_and_strides_change_nothing(threads: None, num_threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(500, 60, generator=generator, dtype=torch.float64)
    zero_shot = torch.rand(500, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (500,), generator=generator)
    support_labels = torch.randint(7, (30,), generator=generator)
    alphas = torch.linspace(0.1, 2, 5, dtype=torch.float64)
    arguments = (zero_shot, labels, support_labels, (1.0, 2.0, 70), alphas)
    torch.set_num_threads(1)
    expected = cache_grid(wide[:, ::2].contiguous(), *arguments)
    torch.set_num_threads(num_threads)
    assert torch.equal(cache_grid(wide[:, ::2], *arguments), expected)
    assert len(expected.unique()) > 10
