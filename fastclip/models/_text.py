"""Features of texts, without the padding that open_clip computes with."""

from typing import Any

import torch

Module = Any
"""A module of open_clip, which comes without types."""


def text_features(module: Module, tokens: torch.Tensor) -> torch.Tensor:
    """``module.encode_text(tokens)``, quicker where tokens after the end of a text change nothing.

    CLIP's text tower sees no later tokens and reads the last one of the text, so that all after the
    longest text of a batch can be left out: of 77 tokens, names of classes need some 5 to 10. Other
    towers compute as always.

    Parameters
    ----------
    module : open_clip model
        In training mode or not; differentiable.
    tokens : tensor [B, context length], int64

    Returns
    -------
    tensor [B, d]
        Not normalised; within rounding of open_clip's.
    """
    if not _reads_the_last_token(module) or len(tokens) == 0:
        return pooled(module.encode_text(tokens))
    last = tokens.argmax(1)
    length = int(last.max()) + 1
    dtype = module.transformer.get_cast_dtype()
    x = module.token_embedding(tokens[:, :length]).to(dtype)
    x = x + module.positional_embedding[:length].to(dtype)
    x = module.transformer(x, attn_mask=module.attn_mask[:length, :length])
    x = module.ln_final(x[torch.arange(len(x), device=x.device), last])
    projection = module.text_projection
    if projection is None:
        return x  # type: ignore[no-any-return]
    return projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection  # type: ignore[no-any-return]


def pooled(features: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The features alone, where a model returns its tokens beside them."""
    return features[0] if isinstance(features, tuple) else features


def _reads_the_last_token(module: Module) -> bool:
    import open_clip

    return (
        type(module) is open_clip.CLIP
        and module.text_pool_type == "argmax"
        and module.attn_mask is not None
    )
