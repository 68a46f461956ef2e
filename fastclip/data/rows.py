"""Feature rows of any number, read range by range."""

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from .features import FeatureFileError, normalize_rows
from .formats import WITH_ARRAYS, file_errors
from .patterns import warn_of_missing_parts
from .row_files import Place, RowFile, open_row_file
from .shards import (
    job_metadata,
    numbered,
    resolve,
    warn_of_gaps,
    what_else,
)

_PIECE = 512  # rows that are normalised at a time: bounds the float64 copies
_GAP = 256 << 10  # bytes that are read along rather than by another read
_SPAN = 8 << 20  # bytes of rows that `take` reads at a time


class Rows:
    """The rows of one or several files, in order. Made by :func:`open_rows`.

    Not for several threads at once.

    Attributes
    ----------
    files : tuple of RowFile
        Those with rows, or one without if there are no others; of the same width and dtype.
    dim : int
        Numbers of a row.
    dtype : torch.dtype
        Of the rows that are read: float32 where they are normalised, else as stored.
    normalize : bool
        Whether rows are brought to unit length when they are read.
    """

    def __init__(self, files: Sequence[RowFile], normalize: bool) -> None:
        # Shards without rows may be of any width and type.
        self.files = tuple(file for file in files if file.rows) or tuple(files[:1])
        first = self.files[0]
        if not first.dim:
            raise FeatureFileError(f"{first.place.name}: has no row that tells how long rows are")
        for file in self.files:
            if (file.dim, file.dtype) != (first.dim, first.dtype):
                raise FeatureFileError(
                    f"{file.place.name}: d = {file.dim}, {file.dtype}, but the first shard has "
                    f"d = {first.dim}, {first.dtype}: allowed: the same in all"
                )
        self.dim = first.dim
        self.normalize = normalize and not all(file.normalized for file in self.files)
        self.dtype = torch.float32 if self.normalize else first.dtype
        self._borders = [0, *itertools.accumulate(file.rows for file in self.files)]

    def __len__(self) -> int:
        return self._borders[-1]

    def __repr__(self) -> str:
        return f"Rows({len(self)} x {self.dim}, {len(self.files)} files)"

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return self.dim * self.dtype.itemsize

    def read(self, begin: int, out: torch.Tensor) -> None:
        """Fill ``out`` [rows, d] of ``dtype`` with the rows from number ``begin`` on.

        Raises
        ------
        FeatureFileError
            A file cannot be read, was changed, or has a row that cannot have unit length.
        """
        file = int(np.searchsorted(self._borders, begin, side="right")) - 1
        filled = 0
        while filled < len(out):
            start = begin + filled - self._borders[file]
            rows = min(len(out) - filled, self.files[file].rows - start)
            if rows:
                self._read_file(self.files[file], start, out[filled : filled + rows])
            filled += rows
            file += 1

    def _read_file(self, file: RowFile, begin: int, out: torch.Tensor) -> None:
        with file_errors(file.place.name):
            if not self.normalize:
                file.read(begin, out)
                return
            for first in range(0, len(out), _PIECE):
                part = out[first : first + _PIECE]
                stored = part
                if file.dtype != part.dtype:
                    stored = torch.empty(part.shape, dtype=file.dtype)
                file.read(begin + first, stored)
                normalize_rows(stored, part, begin + first)

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the rows of these numbers, [n, d]; those near each other are read together."""
        out = torch.empty(len(indices), self.dim, dtype=self.dtype)
        order = indices.argsort()
        ascending = indices[order].tolist()
        gap, span = _GAP // self.row_bytes + 1, _SPAN // self.row_bytes + 1
        begin = 0
        while begin < len(ascending):
            end = begin + 1
            while (
                end < len(ascending)
                and ascending[end] - ascending[end - 1] <= gap
                and ascending[end] - ascending[begin] < span
            ):
                end += 1
            first = ascending[begin]
            rows = torch.empty(ascending[end - 1] - first + 1, self.dim, dtype=self.dtype)
            self.read(first, rows)
            places = torch.tensor(ascending[begin:end]) - first
            out[order[begin:end]] = rows[places]
            begin = end
        return out

    def where(self, row: int) -> str:
        """Return the file of a row and its number there, for messages."""
        file = int(np.searchsorted(self._borders, row, side="right")) - 1
        return f"{self.files[file].place.name}: row {row - self._borders[file]}"


def open_rows(
    source: str | os.PathLike[str], *, array: str | None = None, normalize: bool = False
) -> Rows:
    """Open feature files to be read range by range, however large they are.

    All that :func:`fastclip.data.read_features` reads. ``.npy``, ``.safetensors`` and ``.parquet``
    files and folders of ``.npy`` or ``.parquet`` shards may also be at any URL that fsspec knows,
    such as ``s3://bucket/img_emb``. Only ``.npz`` files, and ``.pt`` files in torch's format before
    1.6, are read into memory as a whole.

    Parameters
    ----------
    source : path-like or URL
    array : str, optional
        Which array of a file, or which column of parquet; needed if there are several.
    normalize : bool, default False
        Bring rows to unit length, as :meth:`fastclip.data.Features.normalized` does, when they are
        read.

    Returns
    -------
    Rows
        Only headers have been read.

    Raises
    ------
    FileNotFoundError, FeatureFileError
        As `read_features`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, torch
    >>> from fastclip.data import open_rows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for shard in range(2):
    ...         np.save(f"{folder}/{shard}.npy", np.full((3, 4), shard, np.float32))
    ...     rows = open_rows(folder)
    ...     part = torch.empty(2, 4)
    ...     rows.read(2, part)
    >>> rows
    Rows(6 x 4, 2 files)
    >>> part
    tensor([[0., 0., 0., 0.],
            [1., 1., 1., 1.]])
    """
    import fsspec

    text = os.fspath(source)
    with file_errors(text):
        system, root = fsspec.core.url_to_fs(text)
    if not system.exists(root):
        raise FileNotFoundError(f"{text}: no such file or folder")
    whole = Place(system, root, _name(text, root, root))
    normalized = False
    if not system.isdir(root):
        places = [whole]
    else:
        with file_errors(whole.name):
            paths, normalized = _folder(whole)
        places = [Place(system, path, _name(text, root, path)) for path in paths]
    kinds = {place.suffix for place in places}
    if array is not None and ".npy" in kinds:
        raise FeatureFileError(
            f"{text}: array is {array!r}, allowed for {', '.join(WITH_ARRAYS)} only"
        )
    return Rows([open_row_file(place, array) for place in places], normalize and not normalized)


def _name(source: str, root: str, path: str) -> str:
    """The path of a file as the caller would write it, with the URL's protocol."""
    return source.rstrip("/") + path.removeprefix(root)


def _folder(place: Place) -> tuple[list[str], bool]:
    """Paths of the shards in a folder, and whether their rows are known to have unit length."""
    system, folder = place.system, place.path
    if place.local:
        folder = str(resolve(Path(folder))[0])
    names = sorted(system.ls(folder, detail=False))
    arrays = numbered([Path(name) for name in names if name.endswith(".npy")])
    if arrays:
        warn_of_gaps(arrays)
        known = place.local and job_metadata(Path(folder), len(arrays)).normalized is True
        return [str(arrays[number]) for number in sorted(arrays)], known
    tables = [name for name in names if re.search(r"/(?!metadata)[^/]*\.parquet$", name)]
    if not tables:
        raise ValueError(
            what_else(Path(folder), ".npy or .parquet")
            if place.local
            else "a folder without .npy or .parquet files"
        )
    warn_of_missing_parts(place.name, tables)
    return tables, False
