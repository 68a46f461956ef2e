"""Reader of folders of npy shards, as clip-retrieval and embedding jobs write them."""

import itertools
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from .features import FeatureFileError, FeatureMetadata, Features
from .formats import arrow_errors, file_errors, map_npy, open_parquet, read_npy
from .image_sources import holds_images
from .job import read_manifest

# Which metadata column names the rows; a plain folder says nothing of what its rows are.
_COLUMNS = {"img_emb": ("image_path",), "text_emb": ("caption",)}
NAME_COLUMNS = ("names", "name", "caption", "image_path")


def read_folder(path: Path) -> Features:
    """All shards of ``OUT/img_emb``, ``OUT/text_emb``, ``OUT`` or a plain folder, as one array.

    One shard stays memory-mapped, several are copied into one array of ``V d`` elements.
    """
    with file_errors(path):
        folder, metadata_folder, columns = resolve(path)
        shards = numbered(sorted(folder.glob("*.npy")))
        if not shards:
            raise ValueError(what_else(folder, ".npy or .parquet"))
        tables = numbered(sorted(metadata_folder.glob("metadata*.parquet")))
        metadata = job_metadata(folder, len(shards))
        warn_of_gaps(shards)
    counts = {number: _rows(shards[number]) for number in sorted(shards)}
    # Shards without rows may be of any width and type.
    wanted = [number for number, count in counts.items() if count] or [min(shards)]
    parts = [_read_shard(shards[number]) for number in wanted]
    for number, part in zip(wanted, parts, strict=True):
        with file_errors(shards[number]):
            if (part.shape[1], part.dtype) != (parts[0].shape[1], parts[0].dtype):
                raise ValueError(
                    f"d = {part.shape[1]}, {part.dtype}, but the first shard has "
                    f"d = {parts[0].shape[1]}, {parts[0].dtype}: allowed: the same in all"
                )
    names = _read_names(path, tables, columns, counts) if tables else None
    return Features(parts[0] if len(parts) == 1 else torch.cat(parts), names, metadata)


def holds_tables(path: Path) -> bool:
    """Whether the features of a folder are in parquet, and not in npy shards."""
    with file_errors(path):
        folder = resolve(path)[0]
    if any(folder.glob("*.npy")):
        return False
    return any(not table.name.startswith("metadata") for table in folder.glob("*.parquet"))


def warn_of_gaps(shards: dict[int, Path]) -> None:
    """Warn of numbers that are missing: a shard that got lost, or a partition without rows."""
    count = max(shards) - min(shards) + 1 - len(shards)
    if count:
        # Not an error: clip-retrieval leaves out the number of a partition without any row.
        # Numbers may be times, with more gaps between them than can be listed.
        missing = (n for n in range(min(shards), max(shards)) if n not in shards)
        shown = ", ".join(map(str, itertools.islice(missing, 10))) + (", ..." if count > 10 else "")
        warnings.warn(
            f"{shards[min(shards)].parent}: {len(shards)} shards from {min(shards)} to "
            f"{max(shards)}, without {shown}: if these held rows, put the files back",
            stacklevel=2,
        )


def what_else(folder: Path, wanted: str) -> str:
    """Say what a folder without features is, and what to do with it."""
    inside = sorted(path.name for path in folder.iterdir())
    if not inside:
        return f"an empty folder, allowed: one with {wanted} files"
    if holds_images(folder) or any(name.endswith(".tar") for name in inside):
        return f"a folder of images without {wanted} files: fastclip embed-images makes features"
    shown = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
    return f"a folder without {wanted} files; it holds {shown}"


def job_metadata(folder: Path, shards: int) -> FeatureMetadata:
    """What the embedding job that wrote the folder says of it; a shard may be missing yet."""
    manifest = read_manifest(folder.resolve().parent)
    if manifest is None or manifest.get("kind") != folder.resolve().name:
        return FeatureMetadata()
    expected = -(-manifest["items"] // manifest["shard_size"])
    if shards != expected:
        raise ValueError(
            f"the embedding job has finished {shards} of {expected} shards: "
            "run it again to resume it"
        )
    templates = manifest.get("templates") or []
    return FeatureMetadata(
        model=manifest.get("model"),
        pretrained=manifest.get("pretrained"),
        template=templates[0] if len(templates) == 1 else None,
        normalized=True,
    )


def resolve(path: Path) -> tuple[Path, Path, tuple[str, ...]]:
    """Folder of the shards, folder of the metadata, columns that can name the rows."""
    inside = [kind for kind in _COLUMNS if (path / kind).is_dir()]
    if len(inside) > 1:
        paths = " or ".join(str(path / kind) for kind in inside)
        raise ValueError(f"holds both image and text features: give {paths}")
    folder = path / inside[0] if inside else path
    kind = folder.resolve().name
    if kind in _COLUMNS:
        return folder, folder.resolve().parent / "metadata", _COLUMNS[kind]
    return folder, folder, NAME_COLUMNS


def numbered(files: list[Path]) -> dict[int, Path]:
    """Files by the number at the end of their stems; a single file needs none and counts as 0."""
    numbered: dict[int, Path] = {}
    prefixes = set()
    for file in files:
        match = re.fullmatch(r"(.*?)(\d*)", file.stem, flags=re.DOTALL)
        assert match is not None
        prefix, digits = match.groups()
        prefixes.add(prefix)
        if not digits and len(files) > 1:
            raise ValueError(f"{file.name} has no number, allowed: NAME_0, NAME_1, ...")
        number = int(digits or 0)
        if number in numbered:
            raise ValueError(f"{numbered[number].name} and {file.name} have the same number")
        numbered[number] = file
    if len(prefixes) > 1:
        raise ValueError(f"files of several kinds: {sorted(prefixes)}; allowed: one")
    return numbered


def _rows(path: Path) -> int:
    with file_errors(path):
        shape = map_npy(path)[1].shape
        return shape[0] if shape else 1


def _read_shard(path: Path) -> torch.Tensor:
    with file_errors(path):
        return Features(read_npy(path)).features


def _read_names(
    folder: Path, tables: dict[int, Path], columns: tuple[str, ...], rows: dict[int, int]
) -> list[str] | None:
    opened: dict[int, Any] = {}
    for number in sorted(tables):
        with file_errors(tables[number]), arrow_errors():
            opened[number] = open_parquet(tables[number])
            count = opened[number].metadata.num_rows
            if number in rows and count != rows[number]:
                raise ValueError(
                    f"{count} rows, but its shard has {rows[number]}: allowed: the same number"
                )
    counts = {number: table.metadata.num_rows for number, table in opened.items()}
    odd = sorted(n for n in rows.keys() ^ counts.keys() if rows.get(n) or counts.get(n))
    if odd:
        raise FeatureFileError(
            f"{folder}: shards and metadata*.parquet do not pair up; alone: {odd}"
        )
    wanted = [number for number in opened if counts[number]] or list(opened)[:1]
    column = _name_column([opened[number].schema_arrow for number in wanted], columns)
    if column is None:
        return None
    names: list[str] = []
    for number in wanted:
        with file_errors(tables[number]), arrow_errors():
            if column not in opened[number].schema_arrow.names:
                raise ValueError(f"no column {column!r}, which the first table has")
            values = opened[number].read([column]).column(0)
            if _typeless(values.type):  # a partition without any text
                warnings.warn(
                    f"{tables[number]}: column {column!r} holds nothing: its {len(values)} rows "
                    "are called ''",
                    stacklevel=2,
                )
                names += [""] * len(values)
            else:
                names += strings(values, column)
    return names


def _name_column(schemas: list[Any], columns: tuple[str, ...]) -> str | None:
    """The first of ``columns`` in the first table, if possible one that holds something."""
    present = [name for name in columns if name in schemas[0].names]
    filled = [
        name
        for name in present
        if any(name in of.names and not _typeless(of.field(name).type) for of in schemas)
    ]
    return filled[0] if filled else None


def _typeless(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_null(kind))


def strings(values: Any, column: str) -> list[str]:
    """The texts of a column of names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise ValueError(f"column {column!r} is {values.type}, allowed: string")
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise ValueError(f"column {column!r} is null in row {row}, allowed: a string in each row")
    strings: list[str] = values.to_pylist()
    return strings
