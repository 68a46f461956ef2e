"""Small models in open_clip's folder format, randomly initialised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.coca_model import CoCa
from safetensors.torch import save_file

TEXT = {"context_length": 16, "width": 32, "heads": 2, "layers": 2}
VIT: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "layers": 3,
    "width": 64,
    "head_width": 32,
}
RESNET: dict[str, Any] = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}


def model_config(vision: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT} | options


def make_module(config: dict[str, Any]) -> torch.nn.Module:
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    kind: Any = open_clip.CLIP
    if config.get("custom_text"):
        kind = CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind(**arguments).eval()
        disturb(module)
    return module


@torch.no_grad()
def disturb(module: torch.nn.Module) -> None:
    """Make every parameter matter: biases, norms and statistics are 0 or 1 when initialised."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 1 and tensor.is_floating_point():
            tensor += 0.1 * torch.rand_like(tensor)


def save(folder: Path, vision: dict[str, Any], **options: Any) -> Path:
    """Write a folder that `fastclip.models.load` takes; equal arguments, equal weights."""
    config = model_config(vision, **options)
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file(make_module(config).state_dict(), folder / "model.safetensors")
    return folder
