from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from fastclip.adapters.open_clip import get_clip_metrics


def by_the_matrix(images: torch.Tensor, texts: torch.Tensor, names: tuple[str, str]) -> dict:
    """Ranks from the whole matrix of logits, in float64; of equal ones the lower index first."""
    scores = images.double().numpy() @ texts.double().numpy().T
    found = {}
    for name, logits in (
        ("{}_to_{}".format(*names), scores),
        ("{1}_to_{0}".format(*names), scores.T),
    ):
        order = np.argsort(-logits, axis=1, kind="stable")
        places = np.where(order == np.arange(len(order))[:, None])[1]
        found[f"{name}_mean_rank"] = places.mean() + 1
        found[f"{name}_median_rank"] = np.floor(np.median(places)) + 1
        found |= {f"{name}_R@{k}": np.mean(places < k) for k in (1, 5, 10)}
    return found


@pytest.mark.parametrize("count", [1, 2, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equals_the_matrix(count: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(count)
    # Integers: all products are exact, and many scores are equal.
    images, texts = (
        torch.randint(-2, 3, (count, 5), generator=generator).to(dtype) for _ in range(2)
    )
    found = get_clip_metrics(images, texts, torch.tensor(14.3))
    assert found == by_the_matrix(images, texts, ("image", "text"))
    parts = get_clip_metrics(
        image_features=images.split(3),
        text_features=texts.split(4),
        logit_scale=torch.tensor(14.3).half(),
        image_key="scan",
        text_key="report",
        retrieval_chunk_size=2,
        retrieval_device="cpu",
        retrieval_dtype="model",
    )
    assert parts == by_the_matrix(images, texts, ("scan", "report"))


def test_in_place_of_open_clip() -> None:
    train = pytest.importorskip("open_clip_train.train")
    own = list(inspect.signature(get_clip_metrics).parameters)
    theirs = list(inspect.signature(train.get_clip_metrics).parameters)
    assert own[: len(theirs)] == theirs
    generator = torch.Generator().manual_seed(0)
    images, texts = (
        torch.nn.functional.normalize(torch.randn(50, 16, generator=generator), dim=1)
        for _ in range(2)
    )
    images = images + texts
    found, expected = (
        f(images, texts, torch.tensor(100.0)) for f in (get_clip_metrics, train.get_clip_metrics)
    )
    assert list(found) == list(expected)
    assert found == pytest.approx(expected)


def test_scales_that_turn_the_order() -> None:
    with pytest.raises(ValueError, match=r"logit_scale: must be positive, got -1\.0"):
        get_clip_metrics(torch.eye(2), torch.eye(2), -1.0)
