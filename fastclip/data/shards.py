"""Reader of folders of npy shards, as clip-retrieval and embedding jobs write them."""

import re
from pathlib import Path
from typing import Any

import torch

from .features import FeatureMetadata, Features
from .formats import arrow_errors, file_errors, open_parquet, read_npy
from .job import read_manifest

# Which metadata column names the rows; a plain folder says nothing of what its rows are.
_COLUMNS = {"img_emb": ("image_path",), "text_emb": ("caption",)}
_PLAIN_COLUMNS = ("names", "name", "caption", "image_path")


def read_folder(path: Path) -> Features:
    """All shards of ``OUT/img_emb``, ``OUT/text_emb``, ``OUT`` or a plain folder, as one array.

    One shard stays memory-mapped, several are copied into one array of ``V d`` elements.
    """
    with file_errors(path):
        folder, metadata_folder, columns = resolve(path)
        shards = numbered(sorted(folder.glob("*.npy")))
        if not shards:
            raise ValueError("a folder without .npy files")
        tables = numbered(sorted(metadata_folder.glob("metadata*.parquet")))
        if tables and tables.keys() != shards.keys():
            odd = sorted(tables.keys() ^ shards.keys())
            raise ValueError(f"shards and metadata*.parquet do not pair up; alone: {odd}")
        metadata = job_metadata(folder, len(shards))
    parts = [_read_shard(shards[number]) for number in sorted(shards)]
    for number, part in zip(sorted(shards), parts, strict=True):
        with file_errors(shards[number]):
            if (part.shape[1], part.dtype) != (parts[0].shape[1], parts[0].dtype):
                raise ValueError(
                    f"d = {part.shape[1]}, {part.dtype}, but the first shard has "
                    f"d = {parts[0].shape[1]}, {parts[0].dtype}: allowed: the same in all"
                )
    names = None
    if tables:
        ordered = [tables[number] for number in sorted(tables)]
        names = _read_names(ordered, columns, [len(part) for part in parts])
    return Features(parts[0] if len(parts) == 1 else torch.cat(parts), names, metadata)


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
    return folder, folder, _PLAIN_COLUMNS


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


def _read_shard(path: Path) -> torch.Tensor:
    with file_errors(path):
        return Features(read_npy(path)).features


def _read_names(tables: list[Path], columns: tuple[str, ...], rows: list[int]) -> list[str] | None:
    names: list[str] = []
    column: str | None = None
    for i, (path, count) in enumerate(zip(tables, rows, strict=True)):
        with file_errors(path), arrow_errors():
            table = open_parquet(path)
            if table.metadata.num_rows != count:
                raise ValueError(
                    f"{table.metadata.num_rows} rows, but its shard has {count}: "
                    "allowed: the same number"
                )
            present = [name for name in columns if name in table.schema_arrow.names]
            if i == 0:
                column = present[0] if present else None
            if column is None:
                continue
            if column not in present:
                raise ValueError(f"no column {column!r}, which the first table has")
            names += _strings(table.read([column]).column(0), column)
    return None if column is None else names


def _strings(values: Any, column: str) -> list[str]:
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
