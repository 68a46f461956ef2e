"""The folder of an embedding job: what the job is, finished shards, and what could not be read.

As `job_folder.py` says, and

OUT/img_emb/img_emb_00000.npy        features of a shard, [rows, d] float32 (text_emb for texts)
OUT/metadata/metadata_00000.parquet  their names
OUT/unreadable.jsonl                 all images that were skipped; written when the job is finished

Images of a shard that were skipped are in its record, as is what `Contents` says of all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import job_folder
from .files import replacing, sink
from .job_folder import Shards, open_folder, text_file

FORMAT = "fastclip.embedding-job"
VERSION = "1"
_UNREADABLE = "unreadable.jsonl"


@dataclass(frozen=True)
class Unreadable:
    """An image that was skipped: its place in the source from 0, its name, and why."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class Contents:
    """What the images of a shard were when they were read: by their files' times, and in bytes.

    Attributes
    ----------
    stamps : str or None
        Hash of what costs nothing to look at; None where there is nothing of the kind.
    sha256 : str
        Hash of the images and their captions.
    """

    stamps: str | None
    sha256: str


@contextmanager
def open_job(
    output: Path, kind: str, items: int, shard_size: int, inputs: Mapping[str, object]
) -> Iterator[Job]:
    """Begin a job in a new or empty folder, or resume it.

    Parameters
    ----------
    output : Path
        The folder; missing parents are made.
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
    ValueError, OSError
        As `open_folder`.
    """
    job = {"kind": kind, "items": items, "shard_size": shard_size, **inputs}
    manifest = {"format": FORMAT, "version": VERSION, **job}
    with open_folder(output, manifest, [_UNREADABLE], [kind, "metadata"]):
        yield Job(output, kind, items, shard_size)


def read_manifest(output: Path) -> dict[str, Any] | None:
    """Return the description of the job in a folder, None if it holds none."""
    return job_folder.read_manifest(output, FORMAT, VERSION)


class Job(Shards):
    """An open job; made by `open_job`."""

    def __init__(self, output: Path, kind: str, items: int, shard_size: int) -> None:
        self.kind = kind
        super().__init__(output, items, shard_size, self._paths, _check)

    @property
    def rows(self) -> int:
        """Feature rows of the finished shards."""
        return sum(len(self.ranges[n]) - len(of["unreadable"]) for n, of in self.records.items())

    @property
    def unreadable(self) -> list[Unreadable]:
        """Skipped images of the finished shards, in order of the source."""
        return [entry for n in sorted(self.records) for entry in _unreadable(self.records[n])]

    def write(
        self,
        number: int,
        features: npt.NDArray[np.float32],
        names: Mapping[str, Sequence[str | None]],
        unreadable: Sequence[Unreadable] = (),
        contents: Contents | None = None,
    ) -> None:
        """Finish a shard: features ``[rows, d]``, columns of ``rows`` strings, skipped images."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        array, table = self._paths(number)
        with sink(array) as file:
            np.save(file, features)
        columns = {name: pa.array(values, pa.string()) for name, values in names.items()}
        with replacing(table) as part:
            pq.write_table(pa.table(columns), part)
        more: dict[str, object] = {"unreadable": [asdict(entry) for entry in unreadable]}
        self.finish(number, more if contents is None else {**more, "images": asdict(contents)})

    def contents(self, number: int) -> Contents | None:
        """What the images of a finished shard were; None for those of earlier versions."""
        return _contents(self.records[number])

    def list_unreadable(self) -> None:
        """Write the list of the images that were skipped, when all shards are finished."""
        assert not self.pending
        with text_file(self.output / _UNREADABLE) as file:
            for entry in self.unreadable:
                file.write(json.dumps(asdict(entry)) + "\n")

    def name(self, number: int) -> str:
        """The file of a shard's features, as a path inside the folder of the job."""
        return f"{self.kind}/{self.kind}_{number:05d}.npy"

    def _paths(self, number: int) -> tuple[Path, Path]:
        return self.output / self.name(number), (
            self.output / "metadata" / f"metadata_{number:05d}.parquet"
        )


def _check(record: Mapping[str, Any]) -> None:
    _unreadable(record)
    _contents(record)


def _contents(record: Mapping[str, Any]) -> Contents | None:
    return Contents(**record["images"]) if "images" in record else None


def _unreadable(record: Mapping[str, Any]) -> list[Unreadable]:
    """The images of a shard that were skipped, from its record."""
    return [Unreadable(**entry) for entry in record["unreadable"]]
