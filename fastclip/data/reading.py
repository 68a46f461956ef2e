"""One function that reads features from whatever holds them."""

import os
from pathlib import Path

from .features import FeatureFileError, Features
from .formats import file_errors, read_npy, read_npz, read_safetensors
from .shards import read_folder

_KINDS = (
    ".safetensors, .npy, .npz, or a folder of .npy shards (clip-retrieval's img_emb or text_emb)"
)


def read_features(path: str | os.PathLike[str], *, array: str | None = None) -> Features:
    """Read features from a file or folder; its kind follows from its name.

    ==================  ==========================================================================
    ``.safetensors``    a file of `write_features`, or one with a single 2-D floating tensor;
                        memory-mapped
    ``.npy``            memory-mapped, read-only: do not write into the tensor
    ``.npz``            the only 2-D floating array, or `array`; names from the str array ``names``,
                        ``caption`` or ``prompts``, or from ``image_id``
    folder              output of `embed_images`, of `embed_texts` or of clip-retrieval:
                        ``OUT/img_emb`` or ``OUT/text_emb`` (``OUT`` if it has one of them only),
                        or ``*.npy`` with ``metadata*.parquet`` beside them;
                        names from ``image_path`` or ``caption``. One shard is memory-mapped,
                        several are copied into one array
    ==================  ==========================================================================

    Values are not looked at: NaN and infinity pass. Nothing is ever unpickled.

    Parameters
    ----------
    path : path-like
        What to read.
    array : str, optional
        Which array of an ``.npz`` or ``.safetensors`` file; needed if it holds several.

    Returns
    -------
    Features
        ``[V, d]``, float32, float16 or bfloat16, as stored. All metadata but those of
        `write_features`, `embed_images` and `embed_texts` are unknown.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    FeatureFileError
        It cannot be used; the message is ``<path>: <reason>``.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from fastclip.data import read_features
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/animals.npz"
    ...     np.savez(path, text_features=np.eye(2, dtype=np.float32), names=["cat", "dog"])
    ...     animals = read_features(path)
    >>> animals.names, animals.dim
    (('cat', 'dog'), 2)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    kind = "folder" if path.is_dir() else path.suffix
    if array is not None and kind not in (".npz", ".safetensors"):
        raise FeatureFileError(
            f"{path}: array is {array!r}, allowed for .npz and .safetensors files only"
        )
    if kind == "folder":
        return read_folder(path)
    if kind == ".safetensors":
        return read_safetensors(path, array)
    if kind == ".npz":
        return read_npz(path, array)
    if kind == ".npy":
        with file_errors(path):
            return Features(read_npy(path))
    raise FeatureFileError(f"{path}: not a feature file, allowed: {_KINDS}")
