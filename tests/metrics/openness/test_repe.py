from __future__ import annotations

import numpy as np
import pytest
import torch

import fastclip
from fastclip.metrics.openness import retrieval_enhanced, retrieve_captions


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_single_prompts_keep_their_length_and_ensembles_do_not() -> None:
    rng = np.random.default_rng(0)
    classes = unit(rng.normal(size=(4, 3, 8))).astype(np.float32)
    retrieved = [rng.normal(size=(n, 8)).astype(np.float32) for n in (1, 2, 7, 9)]
    means = np.stack([unit(rows[:5]).mean(0) for rows in retrieved])
    single = retrieval_enhanced(classes[:, 0], retrieved, 0.3, top=5)
    np.testing.assert_allclose(single, 0.7 * classes[:, 0] + 0.3 * means, atol=1e-7)
    assert (single.norm(dim=1) < 0.99).any()
    several = retrieval_enhanced(classes, retrieved, 0.3, top=5)
    moved = unit(0.7 * classes + 0.3 * means[:, None])
    np.testing.assert_allclose(several, unit(moved.mean(1)), atol=1e-7)
    assert torch.equal(retrieval_enhanced(classes[:, 0], retrieved, 0), torch.tensor(classes[:, 0]))


def test_captions_that_mention_a_class() -> None:
    captions = fastclip.data.load_sample("coco-captions").normalized()
    names = ["TOILET_seat", "zebra crossing", "quokka"]
    queries = captions.features[[2, 7, 9]]
    found = retrieve_captions(queries, captions.features, captions.names, names, k=50)
    order = (queries.double() @ captions.features.double().T).argsort(1, descending=True)[:, :50]
    words = (("toilet", "seat"), ("zebra", "crossing"), ("quokka",))
    for near, some, query, rows in zip(order.tolist(), words, queries, found, strict=True):
        kept = [i for i in near if any(word in captions.names[i].lower() for word in some)]
        expected = captions.features[kept] if kept else query[None]
        assert torch.equal(rows, expected)
    assert len(found[0]) > 1
    assert torch.equal(found[2], queries[2:])
    moved = retrieval_enhanced(queries, found)
    assert moved.shape == (3, 512)
    packed = retrieve_captions(
        queries, fastclip.pack(captions.features), captions.names, names, k=1000
    )
    assert len(packed[0]) >= len(found[0])


def test_names_the_wrong_argument() -> None:
    rows, texts = torch.eye(3), ["a", "b", "c"]
    for arguments, message in (
        (((rows, [rows, rows]), {}), "retrieved_features: one per class is needed, 3, got 2"),
        (((rows, [rows] * 3, 1.5), {}), "weight: must be from 0 to 1, got 1.5"),
        (((rows, [rows] * 3), {"top": 0}), "top: is 0, allowed: 1 or more"),
        (((rows, [rows, rows, rows[:0]]), {}), r"retrieved_features\[2\]: at least one row"),
        (((rows, [rows, rows, torch.eye(2)]), {}), r"retrieved_features\[2\]: rows must be"),
    ):
        with pytest.raises(ValueError, match=message):
            retrieval_enhanced(*arguments[0], **arguments[1])
    with pytest.raises(ValueError, match="captions: 3 are needed, one per row, got 2"):
        retrieve_captions(rows, rows, texts[:2], texts)
    with pytest.raises(ValueError, match="k: is 0, allowed: 1 or more"):
        retrieve_captions(rows, rows, texts, texts, k=0)
