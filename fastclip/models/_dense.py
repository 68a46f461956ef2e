"""Features of pixels: what an image tower knows of each patch, before it pools."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

Module = Any
"""A module of open_clip or timm, which come without types."""

METHODS = ("value", "value-only", "plain")
"""How features of patches are read; not all towers know all of them."""

_ALONE = 1 << 15  # tokens at a time: some attention kernels take no more than 65,535 sequences


class Tower(NamedTuple):
    """How the patches of one kind of image tower are read."""

    patch_size: tuple[int, int]
    """(height, width) in pixels of a cell of the grid of features."""
    methods: tuple[str, ...]
    read: Callable[[Module, torch.Tensor, str, bool], torch.Tensor]
    """Takes the tower, images [B, 3, H, W] of whole patches, the method, and whether to antialias
    positions; [B, h, w, d]."""


def pixel_features(
    module: nn.Module, images: torch.Tensor, *, method: str = "value", antialias: bool = False
) -> torch.Tensor:
    """Features of the patches of images, differentiable: for training. See `Model.encode_pixels`.

    Parameters
    ----------
    module : torch.nn.Module
        A model of open_clip, such as `Model.module`, in training mode or not. No patches are
        dropped. Its weights stay as they are.
    images : tensor [B, 3, H, W]
        Preprocessed, of any size, on the device and in the number type of the model's weights.
    method, antialias
        As in `Model.encode_pixels`.

    Returns
    -------
    tensor [B, d, h, w]
        Not normalised; cells as in `Model.encode_pixels`.

    Raises
    ------
    ValueError
        The images have another shape, or the model's image tower or the method is not supported.
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise ValueError(f"images: shape [B, 3, H, W] is needed, got {tuple(images.shape)}")
    visual: Module = module.visual
    tower = check_method(visual, method)
    height, width = tower.patch_size
    images = F.pad(images, (0, -images.shape[3] % width, 0, -images.shape[2] % height))
    return tower.read(visual, images, method, antialias).permute(0, 3, 1, 2)


def tower_of(visual: Module) -> Tower:
    """How to read an image tower of open_clip; raises ValueError where that is not defined."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer) and visual.attn_pool is None:
        return Tower(visual.patch_size, METHODS, _read_vit)
    if isinstance(visual, ModifiedResNet):
        return Tower((32, 32), ("value",), _read_resnet)
    if isinstance(visual, TimmModel):
        if _is_pooled_vit(visual.trunk):
            return Tower(visual.trunk.patch_embed.patch_size, ("value",), _read_pooled_vit)
        if _is_convnext(visual):
            stride = visual.trunk.feature_info[-1]["reduction"]
            return Tower((stride, stride), ("value",), _read_convnext)
    raise ValueError(
        f"model: no features of pixels are defined for {_describe(visual)}, allowed: open_clip's "
        "ViT without attentional pooling, its ResNets, and of timm ConvNeXt and the ViTs of SigLIP"
    )


def check_method(visual: Module, method: str) -> Tower:
    """Return the tower if ``method`` is one of its methods; else raise ValueError."""
    tower = tower_of(visual)
    if method not in tower.methods:
        raise ValueError(
            f"method: is {method!r}, allowed for {_describe(visual)}: {', '.join(tower.methods)}"
        )
    return tower


def _describe(visual: Module) -> str:
    """The kind of an image tower, for messages."""
    if hasattr(visual, "trunk"):
        return f"timm's {type(visual.trunk).__name__} with {_pooling(visual)}"
    pooled = getattr(visual, "attn_pool", None) is not None
    return f"open_clip's {type(visual).__name__}{' with attentional pooling' if pooled else ''}"


def _pooling(visual: Module) -> str:
    pool = getattr(visual.head, "pool", None) or getattr(visual.trunk, "attn_pool", None)
    return type(pool).__name__ if pool is not None else "pooling by mean or token"


def _read_vit(visual: Module, images: torch.Tensor, method: str, antialias: bool) -> torch.Tensor:
    x = visual.conv1(images)  # [B, C, h, w]
    h, w = x.shape[2:]
    x = x.flatten(2).transpose(1, 2)  # [B, h * w, C]
    token = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    old = visual.positional_embedding
    positions = torch.cat([old[:1], _resized(old[1:], visual.grid_size, (h, w), antialias)])
    x = visual.ln_pre(torch.cat([token, x], dim=1) + positions.to(x.dtype))
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        x = block(x)
    if method == "plain":
        x = last(x)[:, 1:]
    else:
        x = _alone(last if method == "value" else partial(_attention_branch, last), x[:, 1:])
    x = visual.ln_post(x)
    return _grid(x if visual.proj is None else x @ visual.proj, h, w)


def _attention_branch(block: Module, x: torch.Tensor) -> torch.Tensor:
    """What the attention of a block adds to its input."""
    x = block.ln_1(x)
    # open_clip's two kinds of blocks.
    x = block.attention(x) if hasattr(block, "attention") else block.ln_attn(block.attn(x))
    out: torch.Tensor = block.ls_1(x)
    return out


def _read_resnet(
    visual: Module, images: torch.Tensor, method: str, antialias: bool
) -> torch.Tensor:
    x = visual.stem(images)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = layer(x)
    pool = visual.attnpool
    # A linear layer on the channels of each cell is a 1 x 1 convolution.
    features: torch.Tensor = pool.c_proj(pool.v_proj(x.permute(0, 2, 3, 1)))
    return features


def _read_pooled_vit(
    visual: Module, images: torch.Tensor, method: str, antialias: bool
) -> torch.Tensor:
    trunk = visual.trunk
    x = trunk.patch_embed.proj(images)
    h, w = x.shape[2:]
    x = trunk.patch_embed.norm(x.flatten(2).transpose(1, 2))
    positions = _resized(trunk.pos_embed[0], trunk.patch_embed.grid_size, (h, w), antialias)
    x = trunk.norm(trunk.blocks(trunk.norm_pre(x + positions.to(x.dtype))))
    return _grid(_alone(lambda token: visual.head(trunk.forward_head(token)), x), h, w)


def _read_convnext(
    visual: Module, images: torch.Tensor, method: str, antialias: bool
) -> torch.Tensor:
    x = visual.trunk.forward_features(images)
    cells = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1], 1, 1)
    rows = visual.head(visual.trunk.forward_head(cells))
    return _grid(rows.reshape(len(x), -1, rows.shape[1]), *x.shape[2:])


def _is_pooled_vit(trunk: Module) -> bool:
    """Whether this is a plain ViT whose only pooling is attention to its patches (SigLIP)."""
    from timm.layers.attention_pool import AttentionPoolLatent
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    return (
        type(trunk) is VisionTransformer
        and type(trunk.patch_embed) is PatchEmbed
        and type(trunk.attn_pool) is AttentionPoolLatent
        and trunk.attn_pool.pos_embed is None
        and trunk.num_prefix_tokens == 0
        and trunk.pos_embed is not None
    )


def _is_convnext(visual: Module) -> bool:
    from timm.models.convnext import ConvNeXt

    return type(visual.trunk) is ConvNeXt and not hasattr(visual.head, "pool")


def _alone(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Apply ``function`` to each token of [B, N, C] as a sequence of its own; [B, N, C'].

    A token that attends to nothing but itself has weight 1: attention returns its value.
    """
    parts = x.reshape(-1, 1, x.shape[2]).split(_ALONE)
    return torch.cat([function(part) for part in parts]).reshape(*x.shape[:2], -1)


def _grid(rows: Any, h: int, w: int) -> torch.Tensor:
    """[B, h * w, d] as [B, h, w, d]."""
    grid: torch.Tensor = rows.reshape(len(rows), h, w, -1)
    return grid


def _resized(
    positions: torch.Tensor, old: tuple[int, int], new: tuple[int, int], antialias: bool
) -> torch.Tensor:
    """Position embeddings [n, C] of a grid for another grid."""
    if tuple(old) == tuple(new):
        return positions
    grid = positions.float().unflatten(0, tuple(old)).permute(2, 0, 1)[None]
    grid = F.interpolate(grid, new, mode="bicubic", align_corners=False, antialias=antialias)
    return grid[0].flatten(1).T
