"""One function that reads features from whatever holds them."""

import os
from pathlib import Path

from .features import FeatureFileError, Features
from .formats import WITH_ARRAYS, file_errors, read_npy, read_npz, read_safetensors
from .image_sources import SUFFIXES as IMAGE_SUFFIXES
from .shards import holds_tables, read_folder
from .tables import read_parquet
from .texts import kind_of
from .torch_files import SUFFIXES as TORCH_SUFFIXES
from .torch_files import read_torch

_KINDS = (
    ".safetensors, .npy, .npz, .pt, .parquet, or a folder of .npy shards (clip-retrieval's img_emb "
    "or text_emb) or of .parquet files"
)


def read_features(path: str | os.PathLike[str], *, array: str | None = None) -> Features:
    """Read features from a file or folder; its kind follows from its name.

    ==================  ==========================================================================
    ``.safetensors``    a file of `write_features`, or one with a single 2-D floating tensor;
                        memory-mapped
    ``.npy``            memory-mapped, read-only: do not write into the tensor
    ``.npz``            the only 2-D floating array, or `array`; names from the str array ``names``,
                        ``caption`` or ``prompts``, or from ``image_id``
    ``.parquet``        a column of lists of equal length, or `array`; names from a column
                        ``names``, ``name``, ``caption`` or ``image_path``
    ``.pt``, ``.pth``   a tensor, or a dict with a single 2-D floating tensor, or `array`; names
                        from a list under the keys of an ``.npz``. Memory-mapped
    folder              output of `embed_images`, of `embed_texts` or of clip-retrieval:
                        ``OUT/img_emb`` or ``OUT/text_emb`` (``OUT`` if it has one of them only),
                        or ``*.npy`` with ``metadata*.parquet`` beside them;
                        names from ``image_path`` or ``caption``. One shard is memory-mapped,
                        several are copied into one array. Or ``.parquet`` files alone, in the order
                        of their names
    ==================  ==========================================================================

    Values are not looked at: NaN and infinity pass. Nothing is ever unpickled.

    Parameters
    ----------
    path : path-like
        What to read.
    array : str, optional
        Which array of a file, or which column of parquet; needed if it holds several.

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
    if kind == ".parquet" or (kind == "folder" and holds_tables(path)):
        return read_parquet(path, array)
    if array is not None and kind not in WITH_ARRAYS:
        raise FeatureFileError(
            f"{path}: array is {array!r}, allowed for {', '.join(WITH_ARRAYS)} only"
        )
    if kind == "folder":
        return read_folder(path)
    if kind in TORCH_SUFFIXES:
        return read_torch(path, array)
    if kind == ".safetensors":
        return read_safetensors(path, array)
    if kind == ".npz":
        return read_npz(path, array)
    if kind == ".npy":
        with file_errors(path):
            return Features(read_npy(path))
    raise FeatureFileError(f"{path}: not a feature file{_instead(path)}, allowed: {_KINDS}")


def _instead(path: Path) -> str:
    """What makes features of a file that holds none."""
    kind = kind_of(path)
    if kind in IMAGE_SUFFIXES or kind == ".tar":
        return " but of images, of which fastclip embed-images makes features"
    if kind in (".csv", ".tsv", ".jsonl", ".txt"):
        return " but of texts or paths, of which fastclip embed-texts or embed-images make features"
    return ""
