"""A trained model as a folder in open_clip's format."""

import shutil
from pathlib import Path
from typing import Any

import torch

from fastclip.data.files import dump_json, replacing, write_safetensors
from fastclip.models._load import find, read_config


def write_model(
    folder: Path, name: str, pretrained: str | None, module: Any, weights: dict[str, torch.Tensor]
) -> None:
    """Write a model for `fastclip.models.load`, its weights last.

    Parameters
    ----------
    folder : path
    name, pretrained
        What the model was loaded from, which tells its configuration.
    module : open_clip model
    weights : dict of str to tensor
        Of ``module``, under its own names.
    """
    # What the run began with need not be there any more.
    source = find(name, None if pretrained is None else "random").name
    config = read_config(source)
    if "hf_model_name" not in config["text_cfg"] and "multimodal_cfg" not in config:
        config["text_cfg"]["context_length"] = module.context_length  # the checkpoint's
    if _has_quick_gelu(module):
        config["quick_gelu"] = True
    vocabulary = config["text_cfg"].get("tokenizer_kwargs", {}).get("bpe_path")
    if vocabulary is not None and source.startswith("local-dir:"):
        place = Path(source.removeprefix("local-dir:")) / vocabulary
        with replacing(folder / place.name) as part:
            shutil.copyfile(place, part)
    described = {"model_cfg": config, "preprocess_cfg": dict(module.visual.preprocess_cfg)}
    dump_json(folder / "open_clip_config.json", described, indent=2)
    write_safetensors(folder / "model.safetensors", weights, {"format": "pt"})


def _has_quick_gelu(module: Any) -> bool:
    from open_clip.transformer import QuickGELU

    return any(isinstance(part, QuickGELU) for part in module.modules())
