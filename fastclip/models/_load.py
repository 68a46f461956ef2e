"""Models of open_clip by name, from a file or from a folder."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fastclip.data.checks import did_you_mean
from fastclip.engine.devices import usable_device
from fastclip.models._checkpoint import (
    SUFFIXES,
    checkpoint_in,
    fill,
    read_state,
    reason,
    text_positions,
)
from fastclip.models._model import Model

_TINY = Path(__file__).parent / "tiny"
_CONFIG = "open_clip_config.json"
_RANDOM = "random"
_FULL, _HALVES = ("fp32", "amp"), ("bf16", "fp16")
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


class Source(NamedTuple):
    """Where a model comes from."""

    name: str
    """open_clip's: an architecture, or one with ``hf-hub:`` or ``local-dir:``."""
    tag: str | None = None
    """Of weights to download."""
    file: Path | None = None
    """With the weights."""
    recipe: dict[str, Any] = {}  # noqa: RUF012, never changed
    """What the architecture's name does not tell of the weights in ``file``: how images are
    preprocessed, and ``quick_gelu``."""


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
    open_clip               checkpoint file, a folder with one, ``"TAG:FILE"``, or ``"random"``:
                            untrained weights
    a folder with an        not allowed: the folder holds the weights, in open_clip's own format
    open_clip_config.json   (``"local-dir:FOLDER"`` is the same)
    ``"hf-hub:OWNER/NAME"`` not allowed
    ``"tiny"``              not allowed: the small model that comes with fastclip
    ======================= ======================================================================

    Weights trained with QuickGELU get it, for every tag of open_clip, and images are preprocessed
    as for the tag. A checkpoint file tells neither, except in a folder with open_clip_config.json.
    Its images are preprocessed as for the architecture's tags, where these agree. ``"TAG:FILE"``
    takes preprocessing and activation of a tag: ``"openai:FILE"`` for weights that were OpenAI's
    before they were fine-tuned. For QuickGELU alone, name an architecture that ends in
    ``-quickgelu``.

    The context length is the checkpoint's, such as Long-CLIP's 248. Position embeddings for another
    image size are resized, with a UserWarning. What torch.compile, DistributedDataParallel or a
    surrounding model (``model.``) put before the names of weights is taken away. Of several
    checkpoints in a folder, as on the Hub, open_clip's own comes first. Nothing but tensors is ever
    unpickled.

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
        architecture, are damaged, or hold more than tensors; or the architecture's tags differ in
        how they preprocess images, so that a file needs one.
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
    source = find(os.fspath(name), pretrained)
    config = read_config(source.name)
    if precision in _HALVES and not _is_native(config):
        raise ValueError(
            f"precision: is {precision!r}, allowed for {name}, which is not made of open_clip's "
            f"own CLIP towers alone: {', '.join(_FULL)}"
        )
    state = _state(source)
    context = None if state is None else _context_length(source, state, config)
    positions = None if state is None else state.get("visual.positional_embedding")
    module = _create(source, state, context, place, precision)
    if positions is not None and not source.name.startswith("local-dir:"):
        _warn_of_resizing(source, len(positions) - 1, module.visual)
    return Model(
        module.eval(),
        make_tokenizer=_tokenizer_maker(source.name, config, context),
        dim=config["embed_dim"],
        precision=precision,
    )


def _warn_of_resizing(source: Source, patches: int, visual: Any) -> None:
    grid = getattr(visual, "grid_size", None)
    if grid is not None and patches != grid[0] * grid[1]:
        warnings.warn(
            f"{source.file}: position embeddings of {patches} patches are resized to the "
            f"{grid[0]} x {grid[1]} of {source.name}, which takes images of another size than the "
            "weights were trained for",
            stacklevel=3,
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


def find(name: str, pretrained: str | os.PathLike[str] | None) -> Source:
    """Return where the model and its weights come from."""
    import open_clip
    from open_clip.factory import parse_model_name

    architecture = name.replace("/", "-")
    if architecture in open_clip.list_models():
        return _find_weights(architecture, pretrained)
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
        raise ValueError(
            f"name: is {name!r}, allowed: an architecture of open_clip (open_clip.list_models()), "
            f'a folder with {_CONFIG}, "hf-hub:OWNER/NAME" or "tiny"'
            + did_you_mean(name, ("tiny", *open_clip.list_models()))
        )
    if pretrained is not None:
        raise ValueError(
            f"pretrained: is {os.fspath(pretrained)!r}, but {name} has its own weights"
        )
    if schema != "local-dir":
        return Source(name)
    if not (Path(place) / _CONFIG).is_file():
        raise FileNotFoundError(f"{place}: there is no {_CONFIG}")
    return Source(name, file=checkpoint_in(Path(place)))


def _find_weights(architecture: str, pretrained: str | os.PathLike[str] | None) -> Source:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    weights = None if pretrained is None else os.fspath(pretrained)
    if weights == _RANDOM:
        ways = _ways_of_preprocessing(architecture, tags)
        return Source(architecture, recipe=ways[0][0] if len(ways) == 1 else {})
    if weights is not None and open_clip.get_pretrained_cfg(architecture, weights):
        return Source(architecture, tag=weights)
    like, colon, path = (weights or "").partition(":")
    if not colon or like not in tags or os.path.exists(weights or ""):
        like, path = "", weights or ""
    if os.path.isdir(path):
        file = checkpoint_in(Path(path))
    elif os.path.isfile(path):
        file = Path(path)
    elif path.endswith(SUFFIXES) or os.sep in path:
        raise FileNotFoundError(f"pretrained: {path}: no such file or folder")
    else:
        raise ValueError(
            f"pretrained: is {weights!r}, allowed for {architecture}: a checkpoint file, a folder "
            f"with one, {_RANDOM!r} (untrained), or a tag: {', '.join(tags) or 'it has none'}"
            + ("" if weights is None else did_you_mean(weights, (_RANDOM, *tags)))
        )
    if like:
        return Source(architecture, file=file, recipe=_recipe(architecture, like))
    own = _described(Path(path)) if os.path.isdir(path) else {}
    if own:
        return Source(architecture, file=file, recipe=own)
    return Source(architecture, file=file, recipe=_preprocessing(architecture, file, tags))


def _recipe(architecture: str, tag: str) -> dict[str, Any]:
    import open_clip

    known = open_clip.get_pretrained_cfg(architecture, tag)
    return {key: known[key] for key in (*_PREPROCESSING, "quick_gelu") if key in known}


def _described(folder: Path) -> dict[str, Any]:
    """The recipe that a folder in open_clip's format tells of its weights; empty if it does not."""
    config = folder / _CONFIG
    if not config.is_file():
        return {}
    try:
        content = json.loads(config.read_text("utf-8"))
        way = {key: content["preprocess_cfg"][key] for key in _PREPROCESSING}
        return {**way, "quick_gelu": content["model_cfg"].get("quick_gelu", False)}
    except KeyError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{config}: does not describe a model: {error}") from error


def _preprocessing(architecture: str, file: Path, tags: list[str]) -> dict[str, Any]:
    """How images are preprocessed for all tags of an architecture.

    An architecture without tags gets open_clip's own preprocessing, which it trains with.
    """
    ways = _ways_of_preprocessing(architecture, tags)
    if len(ways) > 1:
        described = "; ".join(
            f"mean {way['mean'][0]:.3g}, std {way['std'][0]:.3g}, {way['resize_mode']} for "
            f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for way, names in ways
        )
        raise ValueError(
            f"pretrained: {file} does not tell how images are preprocessed, and the tags of "
            f"{architecture} differ ({described}), allowed: TAG:FILE with a tag that the weights "
            f"were trained like, such as {ways[0][1][0]}:{file}"
        )
    return ways[0][0] if ways else {}


def _ways_of_preprocessing(
    architecture: str, tags: list[str]
) -> list[tuple[dict[str, Any], list[str]]]:
    """Each way to preprocess images, and the tags of an architecture that do so."""
    ways: list[tuple[dict[str, Any], list[str]]] = []
    for tag in tags:
        recipe = _recipe(architecture, tag)
        way = {key: recipe[key] for key in _PREPROCESSING if key in recipe}
        for known, names in ways:
            if known == way:
                names.append(tag)
                break
        else:
            ways.append((way, [tag]))
    return ways


def _state(source: Source) -> dict[str, torch.Tensor] | None:
    """The weights in the source's file; None where open_clip reads them."""
    if source.file is None or source.file.suffix == ".npz":
        return None
    try:
        return read_state(source.file)
    except ValueError as error:
        raise ValueError(f"{source.name}, {error}") from error


def _context_length(
    source: Source, state: dict[str, torch.Tensor], config: dict[str, Any]
) -> int | None:
    """Tokens of a text, where the weights are for another number than the configuration's."""
    positions = text_positions(state)
    if positions is None or "hf_model_name" in config["text_cfg"]:
        return None
    length = positions - bool(config["text_cfg"].get("embed_cls"))
    own = config["text_cfg"].get("context_length", 77)
    if length == own:
        return None
    if "multimodal_cfg" in config:  # its second text tower has positions of its own
        raise ValueError(
            f"{source.name}, {source.file}: is for texts of {length} tokens, allowed: {own}"
        )
    return length


def _create(
    source: Source,
    state: dict[str, torch.Tensor] | None,
    context: int | None,
    device: torch.device,
    precision: str,
) -> Any:
    import open_clip

    name, tag, file = source.name, source.tag, source.file
    recipe = _recipe(name, tag) if tag else source.recipe
    preprocessing = {key: recipe[key] for key in _PREPROCESSING if key in recipe}
    try:
        with _quiet(file is not None):
            module = open_clip.create_model(
                name,
                tag,
                device=device,
                precision="fp32" if precision == "amp" else precision,
                force_quick_gelu=recipe.get("quick_gelu", False),
                force_context_length=context,
                force_preprocess_cfg=preprocessing,
                pretrained_text=False,  # no download of a text tower's own weights
                load_weights=file is None,
                require_pretrained=file is None and (tag is not None or ":" in name),
                weights_only=True,
            )
        if state is not None and file is not None:
            fill(module, file, state)
        elif file is not None:
            from open_clip.convert import load_big_vision_weights

            load_big_vision_weights(module, str(file))
        return module
    except (ImportError, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever open_clip and torch make of a wrong file
        place = file or tag
        described = name if place is None else f"{name}, {place}"
        if isinstance(error, ValueError) and file is not None and str(error).startswith(str(file)):
            raise ValueError(f"{name}, {error}") from error
        raise ValueError(f"{described}: cannot be loaded: {reason(error)}") from error


@contextmanager
def _quiet(on: bool) -> Iterator[None]:
    """Keep open_clip from reporting that a model has no weights, where it gets them afterwards."""

    def passes(record: logging.LogRecord) -> bool:
        return "No pretrained weights loaded" not in record.getMessage()

    if on:
        logging.getLogger().addFilter(passes)
    try:
        yield
    finally:
        if on:
            logging.getLogger().removeFilter(passes)


def _tokenizer_maker(
    name: str, config: dict[str, Any], context: int | None = None
) -> Callable[[], Callable[[list[str]], torch.Tensor]]:
    import open_clip

    options: dict[str, Any] = {} if context is None else {"context_length": context}
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
