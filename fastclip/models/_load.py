"""Models of open_clip by name, from a file or from a folder."""

import difflib
import os
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastclip.engine.devices import usable_device
from fastclip.models._model import Model

_TINY = Path(__file__).parent / "tiny"
_CONFIG = "open_clip_config.json"
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")  # the first that a folder has is taken
_RANDOM = "random"
_FULL, _HALVES = ("fp32", "amp"), ("bf16", "fp16")


def load(
    name: str | os.PathLike[str],
    pretrained: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
) -> Model:
    """Load a CLIP model.

    Nothing is downloaded but the weights of a tag and what a ``hf-hub:`` name holds, and, when
    first used, the tokenizers of the models that have none of CLIP's own.

    ======================= ======================================================================
    ``name``                ``pretrained``
    ======================= ======================================================================
    an architecture of      a tag such as ``"openai"`` (``open_clip.list_pretrained()``), a
    open_clip               checkpoint file, a folder with one, or ``"random"``: untrained weights
    a folder with an        not allowed: the folder holds the weights, in open_clip's own format
    open_clip_config.json   (``"local-dir:FOLDER"`` is the same)
    ``"hf-hub:OWNER/NAME"`` not allowed
    ``"tiny"``              not allowed: the small model that comes with fastclip
    ======================= ======================================================================

    Weights trained with QuickGELU get it, for every tag of open_clip. A checkpoint file does not
    tell: for weights of OpenAI, name an architecture that ends in ``-quickgelu``. Position
    embeddings for another image size are resized. Nothing but tensors is ever unpickled.

    Parameters
    ----------
    name : str or path-like
    pretrained : str or path-like, optional
    device : str or torch.device
        Such as ``"cpu"`` or ``"cuda"``.
    precision : str
        ``"fp32"``; ``"bf16"`` or ``"fp16"`` (not on the CPU): weights of that type, except those
        that open_clip leaves in float32, and only for open_clip's own towers; ``"amp"``: weights
        in float32, computed with in bfloat16 where torch's autocast does so. Features are float32
        in any case.

    Returns
    -------
    Model
        In evaluation mode.

    Raises
    ------
    FileNotFoundError
        A file or folder is missing.
    ValueError
        An argument is none of those allowed, or the weights cannot be downloaded, do not fit the
        architecture, are damaged, or hold more than tensors.
    OSError
        What a ``hf-hub:`` name holds cannot be downloaded.

    Examples
    --------
    >>> import fastclip
    >>> model = fastclip.models.load("ViT-S-32-alt", "random")  # or "ViT-B-32", "openai"
    >>> model.dim, model.image_size, model.patch_size
    (256, (224, 224), (32, 32))
    """
    place = usable_device(device)
    allowed = (*_FULL, "bf16") if place.type == "cpu" else (*_FULL, *_HALVES)
    if precision not in allowed:
        raise ValueError(
            f"precision: is {precision!r}, allowed on {place.type!r}: {', '.join(allowed)}"
        )
    model_name, weights = find(os.fspath(name), pretrained)
    config = read_config(model_name)
    if precision in _HALVES and not _is_native(config):
        raise ValueError(
            f"precision: is {precision!r}, allowed for {name}, which is not made of open_clip's "
            f"own CLIP towers alone: {', '.join(_FULL)}"
        )
    module = _create(model_name, weights, place, precision)
    return Model(
        module.eval(),
        make_tokenizer=_tokenizer_maker(model_name, config),
        dim=config["embed_dim"],
        precision=precision,
    )


def read_config(name: str) -> dict[str, Any]:
    import open_clip

    try:
        config: dict[str, Any] = open_clip.get_model_config(name)
        if {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            return config
        reason = "it must hold embed_dim, vision_cfg and text_cfg"
    except (ValueError, AttributeError) as error:  # no JSON, no object
        reason = str(error)
    raise ValueError(f"{name}: {_CONFIG} does not describe a model: {reason}")


def _is_native(config: dict[str, Any]) -> bool:
    """Whether open_clip can turn the right weights into half precision, and leave the others.

    Of other towers it turns all, the scale of the logits among them, or too few to compute with.
    """
    foreign = "timm_model_name" in config["vision_cfg"] or "hf_model_name" in config["text_cfg"]
    return not foreign and "multimodal_cfg" not in config


def find(name: str, pretrained: str | os.PathLike[str] | None) -> tuple[str, str | None]:
    """Return open_clip's name of the model, and a tag, a checkpoint file or None for neither."""
    import open_clip
    from open_clip.factory import parse_model_name

    architecture = name.replace("/", "-")
    if architecture in open_clip.list_models():
        return architecture, _find_weights(architecture, pretrained)
    if name == "tiny":
        name = f"local-dir:{_TINY}"
    elif os.path.isdir(name):
        name = f"local-dir:{name}"
    elif os.path.isfile(name):
        raise ValueError(
            f"name: {name} is a file, allowed: a folder with {_CONFIG}; or load a checkpoint file "
            f'with its architecture, such as load("ViT-B-32", "{name}")'
        )
    schema, place = parse_model_name(name)
    if schema is None:
        near = difflib.get_close_matches(name, open_clip.list_models())
        raise ValueError(
            f"name: is {name!r}, allowed: an architecture of open_clip "
            f"({', '.join(near) + ', ...' if near else 'open_clip.list_models()'}), a folder with "
            f'{_CONFIG}, "hf-hub:OWNER/NAME" or "tiny"'
        )
    if pretrained is not None:
        raise ValueError(
            f"pretrained: is {os.fspath(pretrained)!r}, but {name} has its own weights"
        )
    if schema == "local-dir":
        if not (Path(place) / _CONFIG).is_file():
            raise FileNotFoundError(f"{place}: there is no {_CONFIG}")
        _checkpoint_in(Path(place), suffixes=_WEIGHTS[:3])  # those that open_clip looks for
    return name, None


def _find_weights(architecture: str, pretrained: str | os.PathLike[str] | None) -> str | None:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    weights = None if pretrained is None else os.fspath(pretrained)
    if weights == _RANDOM:
        return None
    if weights is None or not (
        open_clip.get_pretrained_cfg(architecture, weights) or os.path.exists(weights)
    ):
        raise ValueError(
            f"pretrained: is {weights!r}, allowed for {architecture}: a checkpoint file, a folder "
            f"with one, {_RANDOM!r} (untrained), or a tag: {', '.join(tags) or 'it has none'}"
        )
    if weights not in tags and os.path.isdir(weights):
        return str(_checkpoint_in(Path(weights)))
    return weights


def _checkpoint_in(folder: Path, suffixes: tuple[str, ...] = _WEIGHTS) -> Path:
    for suffix in suffixes:
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{folder}: one file of weights is needed, got {names}")
    raise FileNotFoundError(f"{folder}: there are no weights (*{', *'.join(suffixes)})")


def _create(name: str, weights: str | None, device: torch.device, precision: str) -> Any:
    import open_clip

    tag = open_clip.get_pretrained_cfg(name, weights) if weights else {}
    source = name if weights is None else f"{name}, {weights}"
    try:
        return open_clip.create_model(
            name,
            weights,
            device=device,
            precision="fp32" if precision == "amp" else precision,
            force_quick_gelu=tag.get("quick_gelu", False),
            pretrained_text=False,  # no download of a text tower's own weights
            require_pretrained=weights is not None or ":" in name,
            weights_only=True,
        )
    except (ImportError, OSError, torch.OutOfMemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{source}: the checkpoint is damaged, or holds objects other than tensors, which are "
            "never unpickled; save its state_dict, best as .safetensors"
        ) from error
    except Exception as error:  # whatever open_clip, torch and safetensors make of a wrong file
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
        raise ValueError(f"{source}: cannot be loaded: {reason}") from error


def _tokenizer_maker(
    name: str, config: dict[str, Any]
) -> Callable[[], Callable[[list[str]], torch.Tensor]]:
    import open_clip

    options = {}
    path = config["text_cfg"].get("tokenizer_kwargs", {}).get("bpe_path")
    if path is not None and name.startswith("local-dir:"):
        # open_clip takes the path as it is; in a folder that can be moved it is relative to that.
        options["bpe_path"] = str(Path(name.removeprefix("local-dir:")) / path)

    def make() -> Callable[[list[str]], torch.Tensor]:
        try:
            tokenizer: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(
                name, **options
            )
        except ImportError as error:
            message = f"the tokenizer of {name} needs the package {error.name}, which is missing"
            raise ImportError(message, name=error.name) from error
        return tokenizer

    return make
