"""The folder of an embedding job: what the job is, finished shards, and what could not be read.

OUT/job.json                         what is embedded, by what; written first, never changed
OUT/img_emb/img_emb_00000.npy        features of a shard, [rows, d] float32 (text_emb for texts)
OUT/metadata/metadata_00000.parquet  their names
OUT/shards/shard_00000.json          sizes and hashes of these two, and images that were skipped;
                                     written last: with it, the shard is finished
OUT/unreadable.jsonl                 all images that were skipped; written when the job is finished
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from .files import replacing

MANIFEST = "job.json"
_FOLDERS = ("metadata", "shards")
_UNFINISHED = ".*.json*.tmp"  # what `replacing` leaves of job.json and unreadable.jsonl
FORMAT = "fastclip.embedding-job"
VERSION = "1"


@dataclass(frozen=True)
class Unreadable:
    """An image that was skipped: its place in the source from 0, its name, and why."""

    index: int
    name: str
    reason: str


@contextmanager
def open_job(
    output: Path, kind: str, items: int, shard_size: int, inputs: Mapping[str, object]
) -> Iterator[Job]:
    """Begin a job in a new or empty folder, or go on with it.

    Parameters
    ----------
    output : Path
        The folder; its parent exists.
    kind : str
        ``img_emb`` or ``text_emb``.
    items : int
        Images or texts in the source, >= 1.
    shard_size : int
        How many of them make a shard, >= 1.
    inputs : mapping
        Whatever else decides on the results, as JSON values.

    Raises
    ------
    ValueError
        The folder holds something else, or a job with other arguments, or another process is at
        work in it.
    OSError
        The folder cannot be made or written.
    """
    output.mkdir(exist_ok=True)
    with _lock(output):
        wanted = {"kind": kind, "items": items, "shard_size": shard_size, **inputs}
        _write_or_compare(output, {"format": FORMAT, "version": VERSION, **wanted})
        for pattern in (_UNFINISHED, *(f"{folder}/.*.tmp" for folder in (kind, *_FOLDERS))):
            for part in output.glob(pattern):
                part.unlink()  # left by a process that was killed
        yield Job(output, kind, items, shard_size)


def read_manifest(output: Path) -> dict[str, Any] | None:
    """Return the description of the job in a folder, None if it holds none."""
    path = output / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None  # of another program
    if manifest.get("version") != VERSION:
        raise ValueError(f"{path}: version {manifest.get('version')!r}, allowed: {VERSION!r}")
    for key in ("items", "shard_size"):
        if not isinstance(manifest.get(key), int) or manifest[key] < 1:
            raise ValueError(f"{path}: {key} is {manifest.get(key)!r}, allowed: 1 or more")
    return manifest


def _write_or_compare(output: Path, wanted: dict[str, object]) -> None:
    found = read_manifest(output)
    if found is None:
        if any(not path.match(_UNFINISHED) for path in output.iterdir()):
            raise ValueError(f"{output}: holds other files, allowed: a new or empty folder")
        with _text_file(output / MANIFEST) as file:
            json.dump(wanted, file, indent=2)
            file.write("\n")
        return
    changes = [
        f"{key} was {_shown(key, found.get(key))}, is {_shown(key, wanted.get(key))}"
        for key in (*wanted, *(found.keys() - wanted.keys()))
        if found.get(key) != wanted.get(key)
    ]
    if changes:
        raise ValueError(
            f"{output}: was begun with other inputs: {'; '.join(changes)}. "
            "Give them as they were, or another output folder"
        )


def _shown(key: str, value: object) -> str:
    text = json.dumps(value)
    limit = 13 if key.endswith("_sha256") else 80
    return text if len(text) <= limit else f"{text[:limit]}..."


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep a second process out; the system takes the lock back however this one ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder}: another process is at work in it") from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


class Job:
    """An open job; made by `open_job`."""

    def __init__(self, output: Path, kind: str, items: int, shard_size: int) -> None:
        self.output = output
        self.kind = kind
        self.ranges = [
            range(start, min(start + shard_size, items)) for start in range(0, items, shard_size)
        ]
        for folder in (kind, *_FOLDERS):
            (output / folder).mkdir(exist_ok=True)
        self._skipped: dict[int, list[Unreadable]] = {}  # of each finished shard
        self.damaged = [number for number in range(len(self.ranges)) if self._load(number)]

    @property
    def pending(self) -> list[int]:
        """Numbers of the shards that are not finished, in order."""
        return [number for number in range(len(self.ranges)) if number not in self._skipped]

    @property
    def rows(self) -> int:
        """Feature rows of the finished shards."""
        return sum(len(self.ranges[n]) - len(skipped) for n, skipped in self._skipped.items())

    @property
    def unreadable(self) -> list[Unreadable]:
        """Skipped images of the finished shards, in order of the source."""
        return [entry for number in sorted(self._skipped) for entry in self._skipped[number]]

    def write(
        self,
        number: int,
        features: npt.NDArray[np.float32],
        names: Mapping[str, Sequence[str | None]],
        unreadable: Sequence[Unreadable] = (),
    ) -> None:
        """Finish a shard: features ``[rows, d]``, columns of ``rows`` strings, skipped images."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        array, table = self._files(number)
        with replacing(array) as part, open(part, "xb") as file:
            np.save(file, features)
        columns = {name: pa.array(values, pa.string()) for name, values in names.items()}
        with replacing(table) as part:
            pq.write_table(pa.table(columns), part)
        record = {
            "files": {
                path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
                for path in (array, table)
            },
            "unreadable": [asdict(entry) for entry in unreadable],
        }
        with _text_file(self._record_file(number)) as text:
            json.dump(record, text, indent=2)
            text.write("\n")
        self._skipped[number] = list(unreadable)

    def finish(self) -> None:
        """Write the list of the images that were skipped."""
        assert not self.pending
        with _text_file(self.output / "unreadable.jsonl") as file:
            for entry in self.unreadable:
                file.write(json.dumps(asdict(entry)) + "\n")

    def name(self, number: int) -> str:
        """The file of a shard's features, as a path inside the folder of the job."""
        return f"{self.kind}/{self.kind}_{number:05d}.npy"

    def _files(self, number: int) -> tuple[Path, Path]:
        return self.output / self.name(number), (
            self.output / "metadata" / f"metadata_{number:05d}.parquet"
        )

    def _record_file(self, number: int) -> Path:
        return self.output / "shards" / f"shard_{number:05d}.json"

    def _load(self, number: int) -> bool:
        """Take a finished shard over or remove what is left of it; True if it was damaged."""
        path, files = self._record_file(number), self._files(number)
        there = path.exists()
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            record = json.loads(path.read_bytes())
            skipped = [Unreadable(**entry) for entry in record["unreadable"]]
            if all(_is_as_recorded(file, record["files"][file.name]) for file in files):
                self._skipped[number] = skipped
                return False
        for file in (path, *files):
            file.unlink(missing_ok=True)
        return there


def _is_as_recorded(path: Path, recorded: Mapping[str, Any]) -> bool:
    return bool(path.stat().st_size == recorded["bytes"] and _sha256(path) == recorded["sha256"])


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _text_file(path: Path) -> Iterator[TextIO]:
    with replacing(path) as part, open(part, "x", encoding="utf-8") as file:
        yield file
