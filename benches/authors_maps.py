"""The authors' maps of pixels beside ours: PAMR, MaskCLIP and TCL."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from authors_code import Rows, by_worst, from_file, stand_in, theirs, unit
from PIL import Image
from torch import nn

import fastclip
from fastclip.ttd import TCL_TEMPLATES, segment_as_tcl
from fastclip.ttd import tcl as ours

TAGS = ("cat", "grass", "sky", "house")
REGISTRY = Namespace(register_module=lambda: lambda kind: kind)
# Of our names of weights, in this order, to those of mmseg.
MMSEG = {
    "transformer.resblocks.": "layers.",
    "ln_pre.": "ln0.",
    "ln_post.": "ln1.",
    ".ln_1.": ".ln1.",
    ".ln_2.": ".ln2.",
    ".attn.": ".attn.attn.",
    ".mlp.c_fc.": ".ffn.layers.0.0.",
    ".mlp.c_proj.": ".ffn.layers.1.",
    "conv1.": "patch_embed.projection.",
}
# What they ask einops for.
REARRANGED = {
    "(h w) d -> () d h w": lambda x, h, w: x.T.reshape(1, -1, h, w),
    "d th tw -> (th tw) d": lambda x: x.flatten(1).T,
    "n t l -> (n t) l": lambda x, n, t: x.flatten(0, 1),
    "(n t) c -> n t c": lambda x, n, t: x.unflatten(0, (n, t)),
}


def pamr(root: Path) -> Rows:
    module = from_file(root / "models" / "mods" / "pamr.py")
    images, masks = torch.rand(2, 3, 40, 56), torch.rand(2, 5, 40, 56)
    found: Rows = {}
    for iterations, dilations in ((1, (1,)), (10, (1, 2, 4, 8, 12, 24))):
        own = fastclip.refine_masks(images, masks, iterations=iterations, dilations=dilations)
        other = module.PAMR(iterations, list(dilations))(images, masks)
        what = f"{iterations} iterations, {len(dilations)} dilations"
        found |= by_worst(what, own, other)
    return found


class Base(nn.Module):
    """mmcv's BaseModule."""

    def __init__(self, init_cfg: object = None) -> None:
        super().__init__()


class Attention(nn.Module):
    """mmcv's, which adds its input."""

    def __init__(self, embed_dims: int, num_heads: int, **_: Any) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)

    def forward(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        return identity + self.attn(x, x, x, need_weights=False)[0]


class FeedForward(nn.Module):
    """mmcv's, which adds its input."""

    def __init__(self, embed_dims: int, feedforward_channels: int, **_: Any) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(embed_dims, feedforward_channels), nn.GELU())
        self.layers = nn.Sequential(first, nn.Linear(feedforward_channels, embed_dims))

    def forward(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        return identity + self.layers(x)


class Patches(nn.Module):
    """mmseg's PatchEmbed."""

    def __init__(self, in_channels: int, embed_dims: int, kernel_size: int, **_: Any) -> None:
        super().__init__()
        self.projection = nn.Conv2d(in_channels, embed_dims, kernel_size, kernel_size, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Size]:
        x = self.projection(x)
        return x.flatten(2).transpose(1, 2), x.shape[2:]


def sizes(visual: Any) -> tuple[int, int, int, int]:
    """Pixels of a patch, width, layers and heads of a tower of open_clip."""
    blocks, kernel = visual.transformer.resblocks, visual.conv1.weight
    return kernel.shape[-1], kernel.shape[0], len(blocks), blocks[0].attn.num_heads


def maskclip(root: Path) -> Rows:
    models = root / "mmseg" / "models"
    stand_in(
        "mmcv", "mmcv.utils", "mmcv.cnn.utils", "mmcv.cnn.utils.weight_init", "mmcv.cnn.bricks"
    )
    stand_in("mmcv.cnn", build_norm_layer=lambda _, n, postfix: (f"ln{postfix}", nn.LayerNorm(n)))
    stand_in("mmcv.cnn.bricks.transformer", FFN=FeedForward, MultiheadAttention=Attention)
    stand_in("mmcv.runner", BaseModule=Base, ModuleList=nn.ModuleList)
    stand_in("mmseg", "mmseg.models", "mmseg.utils")
    stand_in("mmseg.ops", resize=from_file(root / "mmseg" / "ops" / "wrappers.py").resize)
    stand_in("mmseg.models.builder", HEADS=REGISTRY, BACKBONES=REGISTRY)
    stand_in("mmseg.models.utils", PatchEmbed=Patches)
    stand_in("mmseg.models.backbones", __path__=[str(models / "backbones")])
    stand_in("mmseg.models.decode_heads", __path__=[str(models / "decode_heads")])
    stand_in("mmseg.models.decode_heads.decode_head", BaseDecodeHead=nn.Module)
    model = fastclip.models.load("tiny")
    visual = model.module.visual
    patch, width, layers, heads = sizes(visual)
    backbone = theirs(root, "mmseg.models.backbones.vit").VisionTransformer(
        img_size=visual.image_size,
        patch_size=patch,
        patch_bias=False,
        embed_dims=width,
        num_layers=layers,
        num_heads=heads,
        pre_norm=True,
        final_norm=True,
        return_qkv=True,
    )
    state = {}
    for name, value in visual.state_dict().items():
        for own, other in MMSEG.items():
            name = name.replace(own, other)
        state[name] = value
    state["cls_token"] = state.pop("class_embedding")[None, None]
    state["pos_embed"] = state.pop("positional_embedding")[None]
    proj = state.pop("proj")
    backbone.load_state_dict(state)
    backbone.eval()
    kind = theirs(root, "mmseg.models.decode_heads.maskclip_head").MaskClipHead
    head = kind.__new__(kind)
    nn.Module.__init__(head)
    head.eval()
    head.vit, head.ks_thresh, head.pd_thresh = True, 0, 0
    head.proj = nn.Conv2d(*proj.shape, 1, bias=False)
    head.proj.load_state_dict({"weight": proj.T[:, :, None, None]})
    head.text_embeddings = texts = unit(torch.randn(5, model.dim))
    head._transform_inputs = lambda inputs: inputs[-1]
    found: Rows = {}
    for height, width in ((64, 64), (72, 104), (160, 128)):
        images = torch.randn(1, 3, height, width)
        with torch.no_grad():
            other = head(backbone(images))
        own = torch.einsum("bdhw,td->bthw", model.encode_pixels(images), texts)
        found |= by_worst(f"cosines of patches, {height} x {width} pixels", own, other)
    return found


def rearrange(x: torch.Tensor, how: str, **lengths: int) -> torch.Tensor:
    return REARRANGED[how](x, **lengths)


def tcl(root: Path) -> Rows:
    stand_in("mmcv", "omegaconf", "sclip", "utils")
    stand_in("mmcv.utils", Registry=lambda _: REGISTRY)
    stand_in("einops", rearrange=rearrange)
    model = fastclip.models.load("tiny")
    own_tower = model.module.visual
    patch, width, layers, heads = sizes(own_tower)
    kind = from_file(root / "sclip" / "model.py").VisionTransformer
    tower = kind(own_tower.image_size[0], patch, width, layers, heads, model.dim).eval()
    tower.load_state_dict(own_tower.state_dict())
    for block in tower.transformer.resblocks:
        block.mlp.gelu = nn.GELU()  # as the small model has it

    def patches(image: torch.Tensor) -> torch.Tensor:
        rows = tower(image, spatial=True, ignore_last_attn=True)[:, 1:]
        return rows.transpose(1, 2).unflatten(2, [n // patch for n in image.shape[2:]])

    kernel = torch.randn(model.dim, 3, 2, 2)

    def grounded(image: torch.Tensor) -> torch.Tensor:
        return F.conv2d(image, kernel, stride=2)

    module = theirs(root, "models.tcl.tcl")
    made, masker = module.TCL.__new__(module.TCL), module.Masker.__new__(module.Masker)
    for one in (made, masker):
        nn.Module.__init__(one)
    masker.sim2mask = theirs(root, "models.tcl.masker").Sim2Mask(10.0, -2.5)
    masker.image_encoder = lambda image, _: grounded(image)
    masker.ignore_last_attn = True
    made.masker, made.pamr, made.patch_size = masker, None, patch
    made.clip_text_encoder = model.module.encode_text
    made.clip_image_encoder = Namespace(
        tcl_forward=lambda image, ret_feats: (patches(image), [None]), clip_proj=lambda x: x
    )
    prompts = [template.format(tag) for tag in TAGS for template in TCL_TEMPLATES]
    tokens = model.tokenizer(prompts).unflatten(0, (len(TAGS), len(TCL_TEMPLATES)))
    texts = made.build_text_embedding(tokens)
    own_texts = model.encode_text(TAGS, templates=TCL_TEMPLATES, unit_prompts=False)
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((116, 84))
    pixels = ours._normalised(picture, 84)
    found = by_worst("features of texts", own_texts, texts)
    for refine in (False, True):
        masks, _ = made.generate_masks(pixels, texts, apply_pamr=refine, kp_w=0.3)
        own = segment_as_tcl(
            model,
            picture,
            TAGS,
            background=None,
            refine=refine,
            grounded=grounded,
            size=84,
            window=84 * 9,
            stride=84 * 9,
        )
        what = "the best map of each pixel" + (", refined" if refine else "")
        found |= by_worst(what, own.scores, masks[0].max(0).values)
    return found
