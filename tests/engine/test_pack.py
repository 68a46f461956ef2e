from __future__ import annotations

import pytest
import torch
from inputs import DTYPES, LAYOUTS

import fastclip


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("dtype", DTYPES)
def test_holds_the_rows(dtype: torch.dtype, layout) -> None:
    keys = layout(torch.randn(30, 20).to(dtype))
    packed = fastclip.pack(keys)
    assert torch.equal(packed.rows, keys)
    assert packed.rows.is_contiguous()
    assert packed.shape == (30, 20)
    assert len(packed) == 30


def test_is_a_copy_without_gradient() -> None:
    keys = torch.randn(30, 20, requires_grad=True)
    packed = fastclip.pack(keys)
    before = keys.detach().clone()
    with torch.no_grad():
        keys.fill_(float("nan"))
    assert not packed.rows.requires_grad
    assert torch.equal(packed.rows, before)


def test_packs_nothing() -> None:
    assert fastclip.pack(torch.empty(0, 20)).shape == (0, 20)


@pytest.mark.once
@pytest.mark.parametrize("part", ["rows", "codes", "bounds", "center"])
def test_refuses_packed_keys_whose_memory_was_freed(part: str) -> None:
    keys = fastclip.pack(torch.randn(30_000, 64))
    getattr(keys, part).untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"^keys: its storage was freed"):
        fastclip.topk(torch.randn(300, 64), keys, 3)
    with pytest.raises(ValueError, match=r"^keys: its storage was freed"):
        fastclip.rank(torch.randn(3, 64), keys, torch.zeros(3, dtype=torch.int64))
