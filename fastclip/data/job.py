"""The folder of an embedding job: what the job is, finished shards, and what could not be read.

As `job_folder.py` says, and

OUT/img_emb/img_emb_00000.npy        features of a shard, [rows, d] float32 (text_emb for texts)
OUT/metadata/metadata_00000.parquet  their names
OUT/unreadable.jsonl                 all images that were skipped; written when the job is finished

Images of a shard that were skipped are in its record.
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
from .files import replacing
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


@contextmanager
def open_job(
    output: Path, kind: str, items: int, shard_size: int, inputs: Mapping[str, object]
) -> Iterator[Job]:
    """Begin a job in a new or empty folder, or resume it.

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
    job = {"kind": kind, "items": items, "shard_size": shard_size, **inputs}
    manifest = {"format": FORMAT, "version": VERSION, **job}
    with open_folder(output, manifest, [_UNREADABLE], [kind, "metadata"]):
        yield Job(output, kind, items, shard_size)


def read_manifest(output: Path) -> dict[str, Any] | None:
    """Return the description of the job in a folder, None if it holds none."""
    return job_folder.read_manifest(output, FORMAT, VERSION)


class Job:
    """An open job; made by `open_job`."""

    def __init__(self, output: Path, kind: str, items: int, shard_size: int) -> None:
        self.output = output
        self.kind = kind
        self._shards = Shards(output, items, shard_size, self._files, _unreadable)
        self.ranges = self._shards.ranges
        self.damaged = self._shards.damaged

    @property
    def pending(self) -> list[int]:
        """Numbers of the shards that are not finished, in order."""
        return self._shards.pending

    @property
    def rows(self) -> int:
        """Feature rows of the finished shards."""
        records = self._shards.records
        return sum(len(self.ranges[n]) - len(of["unreadable"]) for n, of in records.items())

    @property
    def unreadable(self) -> list[Unreadable]:
        """Skipped images of the finished shards, in order of the source."""
        records = self._shards.records
        return [entry for number in sorted(records) for entry in _unreadable(records[number])]

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
        self._shards.finish(number, {"unreadable": [asdict(entry) for entry in unreadable]})

    def finish(self) -> None:
        """Write the list of the images that were skipped."""
        assert not self.pending
        with text_file(self.output / _UNREADABLE) as file:
            for entry in self.unreadable:
                file.write(json.dumps(asdict(entry)) + "\n")

    def name(self, number: int) -> str:
        """The file of a shard's features, as a path inside the folder of the job."""
        return f"{self.kind}/{self.kind}_{number:05d}.npy"

    def _files(self, number: int) -> tuple[Path, Path]:
        return self.output / self.name(number), (
            self.output / "metadata" / f"metadata_{number:05d}.parquet"
        )


def _unreadable(record: Mapping[str, Any]) -> list[Unreadable]:
    """The images of a shard that were skipped, from its record."""
    return [Unreadable(**entry) for entry in record["unreadable"]]
