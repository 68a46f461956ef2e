"""Features of a data set or a vocabulary, and the file fastclip keeps them in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from .files import write_safetensors
from .html import SHOWN, table

FORMAT = "fastclip.features"
VERSION = "1"

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# Rows normalised at a time: bounds the float64 copy to 64 MiB at d = 512.
_NORMALIZE_ROWS = 16384
_NUMBERS_SHOWN = 6  # of a row in a notebook


class FeatureFileError(ValueError):
    """A feature file that cannot be used; the message is ``<path>: <reason>``."""


@dataclass(frozen=True)
class FeatureMetadata:
    """Where features come from; ``None`` means unknown.

    Parameters
    ----------
    model, pretrained : str, optional
        open_clip's names of the model and of its weights, such as ``"ViT-B-32-quickgelu"`` and
        ``"openai"``.
    template : str, optional
        Prompt template of text features with ``{}`` for the name, such as ``"a {}"``.
    normalized : bool, optional
        Whether the rows have unit length.

    Raises
    ------
    TypeError
        A wrong type.
    """

    model: str | None = None
    pretrained: str | None = None
    template: str | None = None
    normalized: bool | None = None

    def __post_init__(self) -> None:
        for key in ("model", "pretrained", "template"):
            value = getattr(self, key)
            if not (value is None or isinstance(value, str)):
                raise TypeError(f"{key} is a {type(value).__name__}, allowed: str or None")
        if not (self.normalized is None or isinstance(self.normalized, bool)):
            raise TypeError(f"normalized is {self.normalized!r}, allowed: True, False or None")


@dataclass(frozen=True, eq=False)
class Features:
    """One feature row per image or text, with names.

    Parameters
    ----------
    features : torch.Tensor
        ``[V, d]``, float32, float16 or bfloat16, V >= 0, d >= 1.
    names : sequence of str, optional
        V names, kept as a tuple; None if the rows have no names.
    metadata : FeatureMetadata, optional
        Default: everything unknown.

    Raises
    ------
    TypeError
        A wrong type or dtype.
    ValueError
        A wrong shape or number of names.

    Examples
    --------
    >>> import torch
    >>> from fastclip.data import Features
    >>> animals = Features(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), ["cat", "dog"])
    >>> len(animals), animals.dim, animals.names
    (2, 2, ('cat', 'dog'))
    >>> animals.normalized().features
    tensor([[0.6000, 0.8000],
            [0.0000, 1.0000]])
    """

    features: torch.Tensor
    names: Sequence[str] | None = None
    metadata: FeatureMetadata = field(default_factory=FeatureMetadata)

    def __post_init__(self) -> None:
        if not isinstance(self.features, torch.Tensor):
            raise TypeError(f"features is a {type(self.features).__name__}, allowed: torch.Tensor")
        shape = tuple(self.features.shape)
        if len(shape) != 2 or shape[1] == 0:
            raise ValueError(f"features has shape {shape}, allowed: [V, d] with d >= 1")
        if self.features.dtype not in DTYPES:
            raise TypeError(
                f"features has dtype {self.features.dtype}, "
                f"allowed: {', '.join(str(dtype) for dtype in DTYPES)}"
            )
        if not isinstance(self.metadata, FeatureMetadata):
            raise TypeError(
                f"metadata is a {type(self.metadata).__name__}, allowed: FeatureMetadata"
            )
        if self.names is None:
            return
        # A str is a sequence of str, too, but never what is meant.
        if isinstance(self.names, str):
            raise TypeError("names is a str, allowed: a sequence of str, one per row")
        names = tuple(self.names)
        for i, name in enumerate(names):
            if not isinstance(name, str):
                raise TypeError(f"names[{i}] is a {type(name).__name__}, allowed: str")
        if len(names) != shape[0]:
            raise ValueError(
                f"names has {len(names)} entries, allowed: {shape[0]}, one per row of features"
            )
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return self.features.shape[0]

    def __repr__(self) -> str:
        rows, dim = self.features.shape
        return f"Features({rows} x {dim}, {'no names' if self.names is None else 'named'})"

    def _repr_html_(self) -> str:
        rows, dim = self.features.shape
        known = (self.metadata.model, self.metadata.pretrained, self.metadata.template)
        dtype = str(self.features.dtype).removeprefix("torch.")
        facts = [f"Features: {rows:,} x {dim:,} {dtype}", *(fact for fact in known if fact)]
        numbers = self.features[:SHOWN, :_NUMBERS_SHOWN].detach().float().tolist()
        dots = ["..."] if dim > _NUMBERS_SHOWN else []
        names = range(rows) if self.names is None else self.names
        return table(
            ", ".join(facts),
            ["row" if self.names is None else "name", *range(min(dim, _NUMBERS_SHOWN)), *dots],
            ([names[i], *(f"{x:.4f}" for x in row), *dots] for i, row in enumerate(numbers)),
            total=rows,
        )

    @property
    def dim(self) -> int:
        """Number of columns, d."""
        return self.features.shape[1]

    def normalized(self) -> Features:
        """Return the same features with rows of unit length.

        Norms and quotients are computed in float64 and rounded once to float32. The only memory
        that grows with V is the result, ``4 V d`` bytes.

        Returns
        -------
        Features
            float32 rows and ``metadata.normalized = True``; ``self``, whatever its dtype, if
            ``metadata.normalized`` is True.

        Raises
        ------
        ValueError
            A row is zero or holds a NaN or an infinity.
        """
        if self.metadata.normalized is True:
            return self
        unit = torch.empty(self.features.shape, dtype=torch.float32, device=self.features.device)
        for start in range(0, len(self), _NORMALIZE_ROWS):
            part = slice(start, start + _NORMALIZE_ROWS)
            normalize_rows(self.features[part], unit[part], start)
        return Features(unit, self.names, replace(self.metadata, normalized=True))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write these features; see `write_features`."""
        write_features(path, self)


def normalize_rows(rows: torch.Tensor, out: torch.Tensor, first: int) -> None:
    """Write rows of unit length, computed in float64, to ``out``; ``first`` is the first's number.

    Raises
    ------
    ValueError
        A row is zero or holds a NaN or an infinity.
    """
    wide = rows.to(torch.float64)
    norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    bad = torch.nonzero(~((norms > 0) & torch.isfinite(norms)))
    if len(bad):
        row = int(bad[0, 0])
        what = "is zero" if norms[row] == 0 else "holds a NaN or an infinity"
        raise ValueError(
            f"features: row {first + row} {what}, allowed: rows that can have unit length"
        )
    out.copy_(wide / norms)


def write_features(path: str | os.PathLike[str], features: Features) -> None:
    """Write features to a safetensors file, all of it or nothing.

    The file holds the tensor ``features`` [V, d] and, if there are names, their concatenated
    UTF-8 as ``names.utf8`` (uint8) and the borders between them as ``names.offsets`` (int64,
    V + 1). Its metadata are ``format`` and ``version`` and, where known, ``model``,
    ``pretrained``, ``template`` and ``normalized`` (``true`` or ``false``). Equal features give
    equal bytes.

    Parameters
    ----------
    path : path-like
        Ends in ``.safetensors``; an existing file is replaced.
    features : Features
        On any device. Names and metadata must be encodable as UTF-8.

    Raises
    ------
    ValueError
        Another suffix; a name or metadata with a lone surrogate.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile, torch
    >>> from fastclip.data import Features, read_features, write_features
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_features(f"{folder}/a.safetensors", Features(torch.ones(1, 4), ["one"]))
    ...     read_features(f"{folder}/a.safetensors").names
    ('one',)
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path is {str(path)!r}, allowed: a name that ends in .safetensors")
    tensors = {"features": features.features}
    if features.names is not None:
        utf8, offsets = _encode_names(features.names)
        # Offsets first: every tensor then starts at a multiple of its item size.
        tensors = {"names.offsets": offsets, **tensors, "names.utf8": utf8}
    metadata = {"format": FORMAT, "version": VERSION}
    for key in ("model", "pretrained", "template"):
        value = getattr(features.metadata, key)
        if value is not None:
            _utf8(key, value)  # JSON can hold a lone surrogate, but safetensors does not read it
            metadata[key] = value
    if features.metadata.normalized is not None:
        metadata["normalized"] = "true" if features.metadata.normalized else "false"

    write_safetensors(path, tensors, metadata)


def _encode_names(names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = [_utf8(f"names[{i}]", name) for i, name in enumerate(names)]
    lengths = torch.tensor([0, *map(len, encoded)], dtype=torch.int64)
    utf8 = torch.frombuffer(bytearray(b"".join(encoded)) or bytearray(1), dtype=torch.uint8)
    return utf8[: int(lengths.sum())], lengths.cumsum(0)


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} is {text!r}, allowed: text that UTF-8 can hold") from error
