"""Features of pixels from a state dict by the formulas, in float64 and without open_clip's code."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Weights = dict[str, torch.Tensor]


def part(weights: Weights, prefix: str) -> Weights:
    """Those that start with ``prefix``, without it, in float64."""
    return {k[len(prefix) :]: v.double() for k, v in weights.items() if k.startswith(prefix)}


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x / (1 + torch.exp(-1.702 * x))


def norm(x: torch.Tensor, w: Weights, name: str, eps: float = 1e-5) -> torch.Tensor:
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def patches(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """The patch embeddings [h, w, C] of one image [3, H, W], padded to whole patches."""
    c, _, p, q = kernel.shape
    h, w = -(-image.shape[1] // p), -(-image.shape[2] // q)
    padded = image.new_zeros(3, h * p, w * q, dtype=torch.float64)
    padded[:, : image.shape[1], : image.shape[2]] = image
    cells = padded.reshape(3, h, p, w, q).permute(1, 3, 0, 2, 4).reshape(h, w, -1)
    return cells @ kernel.reshape(c, -1).T


def cubic(x: torch.Tensor) -> torch.Tensor:
    """Keys's kernel with a = -3/4, as of F.interpolate without antialiasing."""
    a, x = -0.75, x.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0))


def interpolation(old: int, new: int) -> torch.Tensor:
    """The weights [new, old] of each old cell in each new one; cells outside equal the last one."""
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    weights = torch.zeros(new, old, dtype=torch.float64)
    for offset in range(-1, 3):
        cell = centres.floor() + offset
        at = cell.clamp(0, old - 1).long()[:, None]
        weights.scatter_add_(1, at, cubic(centres - cell)[:, None])
    return weights


def positions(embedding: torch.Tensor, old: tuple[int, int], h: int, w: int) -> torch.Tensor:
    """As MaskCLIP and TCL interpolate them."""
    grid = embedding.reshape(*old, -1)
    if old == (h, w):
        return grid
    rows, columns = interpolation(old[0], h), interpolation(old[1], w)
    return torch.einsum("hy,wx,yxc->hwc", rows, columns, grid)


def attention(x: torch.Tensor, qkv: torch.Tensor, bias: torch.Tensor, heads: int) -> torch.Tensor:
    """Attention of [n, C] before its last linear layer, head by head."""
    q, k, v = (x @ qkv.T + bias).chunk(3, 1)
    out = []
    for q_, k_, v_ in zip(*(y.chunk(heads, 1) for y in (q, k, v)), strict=True):
        out.append(torch.softmax(q_ @ k_.T / q_.shape[1] ** 0.5, 1) @ v_)
    return torch.cat(out, 1)


def vit(
    weights: Weights,
    image: torch.Tensor,
    *,
    grid: tuple[int, int],
    heads: int,
    method: str,
    activation: Callable[[torch.Tensor], torch.Tensor] = F.gelu,
) -> torch.Tensor:
    """Unit features [d, h, w] of an open_clip ViT."""
    w = part(weights, "visual.")
    x = patches(image, w["conv1.weight"])
    rows, columns, width = x.shape
    p = w["positional_embedding"]
    x = (x + positions(p[1:], grid, rows, columns)).reshape(-1, width)
    x = torch.cat([(w["class_embedding"] + p[0])[None], x])
    if "ln_pre.weight" in w:
        x = norm(x, w, "ln_pre")
    count = sum(name.endswith("ln_1.weight") for name in w)
    for i in range(count):
        b = part(w, f"transformer.resblocks.{i}.")
        scales = [b.get(f"ls_{j}.gamma", torch.ones(())) for j in (1, 2)]
        y, qkv, bias = norm(x, b, "ln_1"), b["attn.in_proj_weight"], b["attn.in_proj_bias"]
        if i == count - 1 and method != "plain":
            y = y @ qkv[2 * width :].T + bias[2 * width :]
        else:
            y = attention(y, qkv, bias, heads)
        y = linear(y, b, "attn.out_proj") * scales[0]
        if i == count - 1 and method == "value-only":
            x = y
            continue
        x = x + y
        y = activation(linear(norm(x, b, "ln_2"), b, "mlp.c_fc"))
        x = x + linear(y, b, "mlp.c_proj") * scales[1]
    return as_grid(norm(x[1:], w, "ln_post") @ w["proj"], rows, columns)


def siglip(
    weights: Weights, image: torch.Tensor, *, grid: tuple[int, int], heads: int
) -> torch.Tensor:
    """Unit features [d, h, w] of timm's ViT with attention pooling."""
    w = part(weights, "visual.trunk.")
    x = patches(image, w["patch_embed.proj.weight"]) + w["patch_embed.proj.bias"]
    rows, columns, width = x.shape
    x = (x + positions(w["pos_embed"][0], grid, rows, columns)).reshape(-1, width)
    for i in range(sum(name.endswith("attn.qkv.weight") for name in w)):
        b = part(w, f"blocks.{i}.")
        y = norm(x, b, "norm1", 1e-6)
        y = attention(y, b["attn.qkv.weight"], b["attn.qkv.bias"], heads)
        x = x + linear(y, b, "attn.proj")
        x = x + linear(F.gelu(linear(norm(x, b, "norm2", 1e-6), b, "mlp.fc1")), b, "mlp.fc2")
    x = norm(x, w, "norm", 1e-6)
    b = part(w, "attn_pool.")
    x = linear(x @ b["kv.weight"][width:].T + b["kv.bias"][width:], b, "proj")
    x = x + linear(F.gelu(linear(norm(x, b, "norm", 1e-6), b, "mlp.fc1")), b, "mlp.fc2")
    return as_grid(x, rows, columns)


def resnet(weights: Weights, image: torch.Tensor) -> torch.Tensor:
    """Unit features [d, h, w] of open_clip's ResNet, whose sides are multiples of 32."""
    w = part(weights, "visual.")

    def conv(x: torch.Tensor, conv: str, bn: str, **options: int) -> torch.Tensor:
        x = F.conv2d(x, w[f"{conv}.weight"], **options)
        scale = w[f"{bn}.weight"] / (w[f"{bn}.running_var"] + 1e-5).sqrt()
        shift = w[f"{bn}.bias"] - w[f"{bn}.running_mean"] * scale
        return x * scale[:, None, None] + shift[:, None, None]

    x = conv(image[None].double(), "conv1", "bn1", stride=2, padding=1).relu()
    x = conv(x, "conv2", "bn2", padding=1).relu()
    x = F.avg_pool2d(conv(x, "conv3", "bn3", padding=1).relu(), 2)
    for layer in (1, 2, 3, 4):
        blocks = sum(name.endswith("conv1.weight") for name in part(w, f"layer{layer}."))
        for i in range(blocks):
            b = f"layer{layer}.{i}."
            pool = 2 if i == 0 and layer > 1 else 1
            y = conv(x, b + "conv1", b + "bn1").relu()
            y = conv(y, b + "conv2", b + "bn2", padding=1).relu()
            y = conv(F.avg_pool2d(y, pool), b + "conv3", b + "bn3")
            if i == 0:
                x = conv(F.avg_pool2d(x, pool), b + "downsample.0", b + "downsample.1")
            x = (x + y).relu()
    for name in ("attnpool.v_proj", "attnpool.c_proj"):
        x = F.conv2d(x, w[f"{name}.weight"][:, :, None, None], w[f"{name}.bias"])
    return F.normalize(x[0], dim=0)


def as_grid(rows: torch.Tensor, h: int, w: int) -> torch.Tensor:
    return F.normalize(rows, dim=1).reshape(h, w, -1).permute(2, 0, 1)
