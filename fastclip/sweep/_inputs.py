"""What a sweep reads: its files, and hashes of what is in them."""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from fastclip.data.formats import file_errors
from fastclip.data.headers import parse_json
from fastclip.data.job_folder import without_hash, write_json
from fastclip.data.row_files import Place
from fastclip.data.rows import Rows

INPUTS = "inputs.json"
_BLOCK = 4 << 20


Files = dict[str, list[dict[str, Any]]]
"""The files of each source: name, size and time of change, hash."""


def hash_files(sources: Mapping[str, Rows], known: Files) -> Files:
    """Return the files of each source; those on a disk that are as ``known`` are not read again.

    Raises
    ------
    ValueError
        A file is not what it is known to be.
    """
    found = {name: _hash_files(rows, known.get(name, [])) for name, rows in sources.items()}
    for name, files in found.items():
        before = known.get(name, files)
        if len(before) != len(files):
            raise ValueError(f"{name}: had {len(before)} files, has {len(files)}: {_ADVICE}")
        for old, new in zip(before, files, strict=True):
            if old["sha256"] != new["sha256"]:
                raise ValueError(f"{new['file']}: was changed since the sweep was begun: {_ADVICE}")
    return found


def read_known(output: Path) -> Files:
    """Return what an earlier run knew of the files.

    Raises
    ------
    ValueError
        It is damaged.
    """
    path = output / INPUTS
    try:
        known = without_hash(parse_json(path.read_bytes()))
        for files in known.values():
            if not isinstance(files, list) or not all(map(_is_entry, files)):
                raise ValueError("it does not list names, times and hashes of files")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(
            f"{path}: damaged ({error}): delete it, and the inputs are read and compared again"
        ) from error
    return known


def write_known(output: Path, files: Files) -> None:
    """Keep for the next run what is known of the files."""
    write_json(output / INPUTS, files)


def _is_entry(entry: object) -> bool:
    """Whether it is what `hash_files` says of a file."""
    if not isinstance(entry, dict) or entry.keys() != {"file", "stamp", "sha256"}:
        return False
    stamp, digest = entry["stamp"], entry["sha256"]
    return (
        isinstance(entry["file"], str)
        and (stamp is None or (isinstance(stamp, list) and [type(x) for x in stamp] == [int, int]))
        and isinstance(digest, str)
        and re.fullmatch("[0-9a-f]{64}", digest) is not None
    )


def digests(files: Files) -> dict[str, str]:
    """Return one hash for each source."""
    return {
        f"{name}_sha256": hashlib.sha256("".join(e["sha256"] for e in entries).encode()).hexdigest()
        for name, entries in files.items()
    }


_ADVICE = "give the inputs as they were, or another output folder"


def _hash_files(rows: Rows, known: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    before = {entry["file"]: entry for entry in known}

    def entry(place: Place) -> dict[str, Any]:
        stamp = _stamp(place)
        old = before.get(place.name)
        if old is not None and stamp is not None and old["stamp"] == stamp:
            return dict(old)
        return {"file": place.name, "stamp": stamp, "sha256": _sha256(place)}

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(entry, (file.place for file in rows.files)))


def _stamp(place: Place) -> list[int] | None:
    if not place.local:
        return None
    with file_errors(place.name):
        found = os.stat(place.path)
    return [found.st_size, found.st_mtime_ns]


def _sha256(place: Place) -> str:
    digest = hashlib.sha256()
    with file_errors(place.name), place.system.open(place.path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
