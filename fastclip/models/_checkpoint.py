"""Checkpoint files: which one a folder means, what is in it, and how it gets into a model."""

import pickle
import textwrap
import warnings
from pathlib import Path
from typing import Any

import torch

Module = Any
"""A model of open_clip, which comes without types."""

State = dict[str, torch.Tensor]

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")  # the first that a folder has is taken
# Where several lie side by side, as in folders from the Hub: those in open_clip's own format first.
_NAMES = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    *("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
_INSIDE = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights
# What torch.compile, FSDP and activation checkpointing put into the names of parameters.
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # in OpenAI's state dicts
_RESIDUAL = "positional_embedding_res"
_POINTER = b"version https://git-lfs"
_KEPT = 20  # positions of CLIP that Long-CLIP keeps
_SHOWN = 3  # names in a message


def checkpoint_in(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """Return the file of weights in a folder; raise ValueError if it could be one of several."""
    for name in _NAMES:
        if name.endswith(suffixes) and (folder / name).is_file():
            return folder / name
    for suffix in suffixes:
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{folder}: one file of weights is needed, got {names}")
    raise FileNotFoundError(f"{folder}: there are no weights (*{', *'.join(suffixes)})")


def read_state(path: Path) -> State:
    """Return the tensors of a checkpoint under open_clip's names.

    Names lose what wrappers and surrounding models put before them. Long-CLIP's two tables of text
    positions become the one that they stand for.

    Raises
    ------
    ValueError
        The file is empty, damaged, holds more than tensors, no model, or several.
    """
    content = _read(path)
    for key in _INSIDE:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not the weights of a model")
    if not content:
        raise ValueError(f"{path}: holds no weights")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{path}: {key!r} is a {type(value).__name__}, allowed: tensors by name, alone or "
                f"as {' or '.join(_INSIDE)}"
            )
    state = _own_names(path, content)
    for name in _NO_WEIGHTS:
        state.pop(name, None)
    if any(key.startswith(("vision_model.", "text_model.")) for key in state):
        raise ValueError(
            f"{path}: is in the format of transformers, allowed: open_clip's, which the same "
            "repository may have as open_clip_model.safetensors or open_clip_pytorch_model.bin"
        )
    return _one_table(state)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: is empty, 0 bytes; was it downloaded whole?")
    with open(path, "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ValueError(
                f"{path}: stands for a file of Git LFS, which 'git lfs pull' downloads"
            )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*TorchScript archive", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: is damaged, or holds objects other than tensors, which are never unpickled; "
            "save its state_dict, best as .safetensors"
        ) from error
    except (OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever torch and safetensors make of a wrong file
        if "TorchScript" in str(error):
            raise ValueError(
                f"{path}: cannot be loaded: it is a TorchScript archive, whose code is never run; "
                "save its state_dict, or name a tag such as openai"
            ) from error
        raise ValueError(f"{path}: cannot be loaded: {reason(error)}") from error


def reason(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")


def _own_names(path: Path, content: State) -> State:
    state = {}
    for key, value in content.items():
        for wrapper in _WRAPPERS:
            key = key.replace(wrapper, "")
        state[key] = value
    prefixes = sorted({key[:-11] for key in state if f".{key}".endswith(".logit_scale")})
    if len(prefixes) > 1:
        raise ValueError(
            f"{path}: holds several models ({', '.join(prefix or 'one' for prefix in prefixes)}), "
            "save the weights of one"
        )
    if not prefixes or not prefixes[0]:
        return state
    prefix = prefixes[0]
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _one_table(state: State) -> State:
    """Long-CLIP adds the first positions of one table to the others of a second one."""
    for tower in ("", "text."):
        rest = state.pop(tower + _RESIDUAL, None)
        if rest is not None:
            first = state[f"{tower}positional_embedding"]
            state[f"{tower}positional_embedding"] = torch.cat([first[:_KEPT], rest[_KEPT:]])
    return state


def text_positions(state: State) -> int | None:
    """Return how many positions of texts there are weights for; None if no table tells."""
    for key in ("positional_embedding", "text.positional_embedding"):
        if key in state:
            return len(state[key])
    return None


def fill(module: Module, path: Path, state: State) -> None:
    """Copy the weights of a checkpoint into a model, all of them.

    The positions of another grid of patches are resized.

    Raises
    ------
    ValueError
        They do not fit.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed

    state = convert_state_dict(module, state)
    if "positional_embedding" in state and not hasattr(module, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    own = module.state_dict()
    for name in ("logit_scale", "logit_bias"):  # with a dimension or without
        if name in own and name in state and state[name].numel() == 1:
            state[name] = state[name].reshape(own[name].shape)
    if "logit_bias" in own:  # a model that was no SigLIP before training
        state.setdefault("logit_bias", torch.zeros_like(own["logit_bias"]))
    unused = "text.transformer.embeddings.position_ids"  # of transformers up to 4.31
    if unused not in own:
        state.pop(unused, None)
    resize_pos_embed(state, module)
    _check_fits(path, state, own)
    module.load_state_dict(state)


def _check_fits(path: Path, state: State, own: State) -> None:
    lacking, unknown = own.keys() - state.keys(), state.keys() - own.keys()
    if lacking or unknown:
        parts = [
            f"{verb} {len(names)} such as {', '.join(sorted(names)[:_SHOWN])}"
            for verb, names in (("lacks", lacking), ("has unknown", unknown))
            if names
        ]
        raise ValueError(
            f"{path}: cannot be loaded: it is of another architecture, and of {len(own)} tensors "
            + " and ".join(parts)
        )
    for name, value in own.items():
        if state[name].shape != value.shape:
            raise ValueError(
                f"{path}: cannot be loaded: size mismatch: {name} is {tuple(state[name].shape)}, "
                f"the architecture needs {tuple(value.shape)}"
            )
