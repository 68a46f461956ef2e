"""Low-rank updates of open_clip's towers, through peft."""

from typing import Any

import torch
from torch import nn

_MLP = ("c_fc", "c_proj", "fc1", "fc2", "qkv", "proj")  # of open_clip's towers, and of timm's


def add_lora(module: Any, rank: int, seed: int) -> Any:
    """Put low-rank updates beside the attention and MLP of both towers; nothing else is trained.

    Returns peft's model; `merged` takes the weights out of it. Raises ImportError without peft, and
    ValueError for a tower that has no such layers.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError(
            "lora_rank: low-rank training needs the package peft: "
            "pip install 'fastclip-kernels[training]'",
            name="peft",
        ) from error
    names = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.MultiheadAttention)
        or (isinstance(part, nn.Linear) and name.rpartition(".")[2] in _MLP)
    ]
    for tower, there in (
        ("image", any(name.startswith("visual.") for name in names)),
        ("text", any(not name.startswith("visual.") for name in names)),
    ):
        if not there:
            raise ValueError(
                f"lora_rank: is {rank}, allowed for this model: 0; its {tower} tower has no "
                "layers that low-rank updates are known for"
            )
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return peft.LoraModel(module, config, "default")


def merged(tuner: Any, module: Any) -> dict[str, torch.Tensor]:
    """The weights of ``module``, under their own names, with the updates added."""
    import copy

    if tuner is None:
        weights: dict[str, torch.Tensor] = module.state_dict()
        return weights
    plain: Any = copy.deepcopy(tuner).merge_and_unload()
    weights = plain.state_dict()
    return weights
