"""A model in the format of the small one, untrained, for experiments at their smallest size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

from fastclip.data.scenes import Drawings
from fastclip.models.tiny import train as tiny
from fastclip.models.tiny.tokens import words_of, write_pruned_bpe


def write_model(folder: Path, drawings: Drawings) -> str:
    """Write a folder that `fastclip.models.load` takes; its name."""
    folder.mkdir()
    vocabulary = write_pruned_bpe(folder / "bpe.txt.gz", words_of(drawings))
    recipe = dataclasses.replace(tiny.Recipe(), width=64, layers=1)
    config = tiny.configuration(recipe, vocabulary)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**config["model_cfg"]).state_dict(), folder / "model.safetensors")
    return str(folder)
