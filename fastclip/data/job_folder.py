"""Folders of long jobs: what the job is, finished shards, and one process at work at a time.

OUT/job.json                what is computed, from what; written first, never changed
OUT/.../NAME_00000.SUFFIX   files of a shard
OUT/shards/shard_00000.json sizes and hashes of the shard's files; written last: with it, the shard
                            is finished
OUT/.lock                   locked by the process at work, empty, and left in place

Each JSON file ends with a hash of all else in it, ``sha256``; those of earlier versions have none.
"""

import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from .files import remove_unfinished, replacing
from .headers import parse_json

Progress = Callable[[int, int], None]  # items done so far, and all

MANIFEST = "job.json"
RECORDS = "shards"
_LOCK = ".lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # of a file system without them
_HASH = "sha256"
_MOST_SHARDS = 10_000_000  # beyond that, listing them alone would fill memory


@contextmanager
def open_folder(
    output: Path, manifest: Mapping[str, object], files: Sequence[str], folders: Sequence[str]
) -> Iterator[None]:
    """Begin a job in a new or empty folder, or resume it, with no other process in it.

    Parameters
    ----------
    output : Path
        The folder; missing parents are made.
    manifest : mapping
        Whatever decides on the results, as JSON values; with ``format`` and ``version``.
    files : sequence of str
        Files that the job writes beside the manifest.
    folders : sequence of str
        Folders that it writes files of shards into.

    Raises
    ------
    ValueError
        The folder holds something else, or a job with other arguments, or another process is at
        work in it.
    OSError
        The folder cannot be made or written.
    """
    output.mkdir(parents=True, exist_ok=True)
    wanted, own = dict(manifest), (MANIFEST, *files)
    _compare(output, wanted, own)  # first without the lock, which is a file, too
    with lock(output):
        if _compare(output, wanted, own) is None:
            write_json(output / MANIFEST, wanted)
        remove_unfinished(output)
        for folder in (*folders, RECORDS):
            (output / folder).mkdir(exist_ok=True)
            for part in (output / folder).glob(".*.tmp"):
                part.unlink()  # of `replacing` in a process that was killed, or of a worker
        yield


def read_manifest(output: Path, format: str, version: str) -> dict[str, Any] | None:
    """Return the description of the job in a folder, None if it holds none of this format."""
    path = output / MANIFEST
    advice = "put it back as it was, or begin anew in another folder"
    try:
        manifest = parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}): {advice}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != format:
        return None  # of another program
    if manifest.get("version") != version:
        raise ValueError(f"{path}: version {manifest.get('version')!r}, allowed: {version!r}")
    for key in ("items", "shard_size"):
        if type(manifest.get(key)) is not int or not 1 <= manifest[key] < 2**63:
            raise ValueError(f"{path}: {key} is {manifest.get(key)!r:.80}, allowed: 1 or more")
    try:
        _check_count(manifest["items"], manifest["shard_size"])
        return without_hash(manifest)
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}): {advice}") from error


def _compare(output: Path, wanted: dict[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """Return the description of the job in a folder, None without one, or refuse the folder."""
    found = read_manifest(output, wanted["format"], wanted["version"])
    if found is not None:
        refuse_changes(output, found, wanted)
        return found
    own = (_LOCK, *(f".{name}.*.tmp" for name in names))  # these: what `replacing` leaves
    if any(not any(path.match(p) for p in own) for path in output.iterdir()):
        raise ValueError(f"{output}: holds other files, allowed: a new or empty folder")
    return None


def refuse_changes(output: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError, with what has changed, where a folder was begun with other inputs."""
    changes = [
        f"{key} was {_shown(key, before.get(key))}, is {_shown(key, now.get(key))}"
        for key in (*now, *(before.keys() - now.keys()))
        if before.get(key) != now.get(key)
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
def lock(folder: Path) -> Iterator[None]:
    """Keep a second process out; the system takes the lock back however this one ends.

    Raises
    ------
    ValueError
        Another process holds the lock.
    """
    held = FileLock(folder / _LOCK)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"{folder}: another process is at work in it: wait for its end, or give another folder"
        ) from error
    except (OSError, NotImplementedError) as error:  # of older filelocks
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        held.release()


def is_locked(folder: Path) -> bool | None:
    """Whether a process is at work in a folder; None where that cannot be found out."""
    if not (folder / _LOCK).exists():
        return False
    try:
        with lock(folder):
            return False
    except ValueError:
        return True
    except OSError:
        return None  # the folder of another user


class Shards:
    """The shards of a job in an open folder: which are finished, and which must be made again.

    Parameters
    ----------
    output : Path
    items, shard_size : int
        How many things there are, and how many make a shard.
    files : function
        Gives the files of a shard, by its number.
    check : function, optional
        Raises ValueError, KeyError or TypeError where ``more`` of a record is not as it was given
        to `finish`.
    """

    def __init__(
        self,
        output: Path,
        items: int,
        shard_size: int,
        files: Callable[[int], Sequence[Path]],
        check: Callable[[Mapping[str, Any]], object] = lambda record: None,
    ) -> None:
        self.output = output
        self.ranges = shard_ranges(items, shard_size)
        self._files, self._check = files, check
        self.records: dict[int, Mapping[str, Any]] = {}  # of each finished shard
        self.damaged = [number for number in range(len(self.ranges)) if self._load(number)]

    @property
    def pending(self) -> list[int]:
        """Numbers of the shards that are not finished, in order."""
        return [number for number in range(len(self.ranges)) if number not in self.records]

    def begin(self, progress: Progress | None) -> tuple[int, Callable[[int], None]]:
        """Number of finished shards, and a function that adds to the number of items done."""
        total = sum(map(len, self.ranges))
        done = sum(len(self.ranges[number]) for number in self.records)

        def report(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, total)

        report(0)
        return len(self.records), report

    def finish(self, number: int, more: Mapping[str, object] | None = None) -> None:
        """Record that the files of a shard are whole, and ``more`` about it as JSON values."""
        self.records[number] = write_record(self.output, number, self._files(number), more)

    def _load(self, number: int) -> bool:
        """Take a finished shard over or remove what is left of it; True if it was damaged."""
        path, files = record_file(self.output, number), self._files(number)
        there = path.exists()
        record = intact_record(self.output, number, files)
        if record is not None:
            with suppress(ValueError, KeyError, TypeError):
                self._check(record)
                self.records[number] = record
                return False
        for file in (path, *files):
            file.unlink(missing_ok=True)
        return there


def shard_ranges(items: int, shard_size: int) -> list[range]:
    """Return the items of each shard.

    Raises
    ------
    ValueError
        These are too many shards.
    """
    _check_count(items, shard_size)
    return [range(start, min(start + shard_size, items)) for start in range(0, items, shard_size)]


def _check_count(items: int, shard_size: int) -> None:
    shards = -(-items // shard_size)
    if shards > _MOST_SHARDS:
        raise ValueError(
            f"shard_size: is {shard_size}, which makes {shards} shards of {items} items, allowed: "
            f"up to {_MOST_SHARDS} shards"
        )


def record_file(output: Path, number: int) -> Path:
    """Return where the record of a shard is."""
    return output / RECORDS / f"shard_{number:05d}.json"


def write_record(
    output: Path, number: int, files: Sequence[Path], more: Mapping[str, object] | None = None
) -> Mapping[str, Any]:
    """Write the record of a shard, which finishes it, and return it."""
    record = {
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
        },
        **(more or {}),
    }
    write_json(record_file(output, number), record)
    return record


def intact_record(output: Path, number: int, files: Sequence[Path]) -> dict[str, Any] | None:
    """Return the record of a shard if it and all files of the shard are as they were written."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        record: dict[str, Any] = without_hash(parse_json(record_file(output, number).read_bytes()))
        if all(_is_as_recorded(file, record["files"][file.name]) for file in files):
            return record
    return None


def _is_as_recorded(path: Path, recorded: Mapping[str, Any]) -> bool:
    """Whether a file has the size and the content of its record."""
    return bool(path.stat().st_size == recorded["bytes"] and sha256(path) == recorded["sha256"])


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object with its hash, whole or not at all."""
    with text_file(path) as file:
        json.dump({**content, _HASH: _hash(content)}, file, indent=2)
        file.write("\n")


def without_hash(content: Any) -> dict[str, Any]:
    """Return what `write_json` wrote, as it was read.

    Raises
    ------
    ValueError
        It is no object, or was changed.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    rest = {name: value for name, value in content.items() if name != _HASH}
    if content.get(_HASH, _hash(rest)) != _hash(rest):
        raise ValueError("it was changed after it was written")
    return rest


def _hash(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """Yield a text file that appears whole or not at all."""
    with replacing(path) as part, open(part, "x", encoding="utf-8") as file:
        yield file
