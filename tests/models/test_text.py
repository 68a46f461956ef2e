from __future__ import annotations

from pathlib import Path

import pytest
import small
import torch

from fastclip.models import Model, load
from fastclip.models._text import text_features

TEXTS = ["cat", "a photo of a traffic light and of two small dogs", "", "dog " * 50]


@pytest.fixture(params=[False, True], ids=["CLIP", "CustomTextCLIP"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    return load(small.save(tmp_path / "model", small.VIT, custom_text=request.param))


@pytest.mark.parametrize("count", [1, 3, 4])
def test_features_and_gradients_are_those_of_all_tokens(model: Model, count: int) -> None:
    module = model.module.double()
    tokens = model.tokenizer(TEXTS[:count])
    weight = dict(module.named_parameters())
    name = next(name for name in weight if name.endswith("token_embedding.weight"))
    found = []
    for features in (module.encode_text(tokens), text_features(module, tokens)):
        gradient = torch.autograd.grad(features.square().sum(), weight[name])[0]
        found.append((features.detach(), gradient))
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


def test_padding_is_left_out(tmp_path: Path) -> None:
    model = load(small.save(tmp_path / "model", small.VIT))
    lengths = []
    model.module.transformer.register_forward_pre_hook(
        lambda module, inputs: lengths.append(inputs[0].shape[1])
    )
    model.encode_text(["cat"])
    assert lengths == [3]  # start, cat, end
