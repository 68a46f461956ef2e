"""The sweep: a folder that fills with shards of results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from fastclip import _C
from fastclip.data import job_folder
from fastclip.data.job_folder import (
    Progress,
    Shards,
    intact_record,
    open_folder,
    record_file,
    shard_ranges,
)
from fastclip.data.rows import Rows, open_rows
from fastclip.engine.answer import ask_rows
from fastclip.engine.arguments import ValueRows
from fastclip.engine.checks import as_integer
from fastclip.engine.devices import device_to_compute_on
from fastclip.engine.operation import operation_named
from fastclip.engine.stream import Plan, Question, make_plan
from fastclip.ops import OPERATIONS

from ._inputs import INPUTS, digests, hash_files, read_known, write_known
from ._ray import PACKED, check_ray, on_ray
from ._results import RESULTS, answers, read_tables, result_file, write_table

FORMAT = "fastclip.sweep"
VERSION = "1"

Source: TypeAlias = "str | os.PathLike[str] | Rows"


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep did.

    Attributes
    ----------
    items : int
        Queries (or keys, where these are counted for) with a result.
    shards, kept : int
        All shards, and how many of them an earlier run had finished.
    damaged : tuple of str
        Shards of an earlier run that were not as it had left them, and were computed again; paths
        inside the folder.
    """

    items: int
    shards: int
    kept: int
    damaged: tuple[str, ...]


def run(
    op: str,
    queries: Source,
    keys: Source | None,
    output: str | os.PathLike[str],
    *,
    memory: int = 1 << 30,
    shard_size: int | None = None,
    normalize: bool = False,
    device: str | torch.device = "cpu",
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    progress: Progress | None = None,
    **arguments: Any,
) -> SweepSummary:
    """Ask a question of queries and keys on disk, however many, and write the answers as shards.

    The answers are those of ``fastclip.<op>`` on all queries and keys in memory, to the bit, for
    any ``memory`` and ``shard_size``. Each shard of queries stays in memory while all keys pass
    it in chunks; a thread reads ahead.

    ``output`` then holds ``results/results_00000.parquet`` and so on: a row for each query, in
    order, whose first column ``query`` numbers it (``key`` for counts per key); :func:`read` gives
    the answer back. A shard is written whole or not at all and recorded with its hash. After a kill
    or an error, the same call goes on: finished shards are verified and kept, damaged ones are
    computed again, and inputs that were changed are refused. One process at a time.

    {operations}

    ``pairs_above`` without ``keys`` meets each pair of two queries once.

    Parameters
    ----------
    op : str
    queries, keys : path-like, URL, or Rows
        As for :func:`fastclip.data.open_rows`.
    output : path-like
        A new or empty folder, or that of this sweep.
    memory : int, default 1 GiB
        Bytes that the sweep may take beyond what the process has before; on another ``device``,
        what it may take there, and again on the host, beyond what CUDA itself takes. The pairs of a
        shard of ``pairs_above``, which nobody can know before, come on top: some 100 bytes each.
    shard_size : int, optional
        Queries of a shard: what a kill can cost, at most. All keys are read once for each shard.
        Default: as many as ``memory`` allows, and on the way what they were at the beginning.
    normalize : bool, default False
        Bring queries and keys to unit length, for cosine similarity.
    device : str or torch.device, default "cpu"
        Where answers are computed, such as "cuda" or "cuda:1"; rows are copied there while others
        are computed with. The answers are the same to the bit, so a sweep may go on elsewhere. Only
        "cpu" is allowed with engine "ray", and for sums over keys (all but searches and counts): in
        an order that CUDA kernels do not keep from chunk to chunk.
    engine : "local" or "ray", default "local"
        "ray" has the shards made by Ray Data (``pip install 'fastclip-kernels[ray]'``), on the
        cluster of ``RAY_ADDRESS`` or of this machine, else on one that is started here; all of its
        machines must see the files and ``output`` under the same paths. ``memory`` is that of each
        worker, which has one thread. Where the streamed side fits into half of it, it is packed
        once, into a file in ``output`` that all workers of a machine map. Ray replaces a worker
        that dies and has its shard made again; three that die over one shard end the sweep. The
        result is the same, file by file.
    workers : int, optional
        Of engine "ray". Default: one for each CPU of the cluster.
    progress : function, optional
        Called with the number of rows done so far and that of all.
    **arguments
        As those of the function; ``targets``, ``thresholds`` and ``groups`` also as paths of
        ``.npy`` files, ``values`` as a path, URL, or Rows.

    Returns
    -------
    SweepSummary

    Raises
    ------
    FileNotFoundError
        Nothing is at a path.
    FeatureFileError
        A file cannot be used, or a row holds a NaN or an infinity; the message begins with its
        path. Shards finished before are kept.
    TypeError
        An argument has a type or dtype that the function does not take.
    ValueError
        An argument is not allowed, ``memory`` is too little, ``device`` is not there or this build
        of fastclip has no kernels for it, ``output`` holds something else or this sweep with other
        inputs, what it says of them is damaged, or another process is at work in it.
    RuntimeError
        ``device`` or its driver is too old.
    ImportError
        ``engine`` is "ray", which is not installed.
    OSError
        The results cannot be written, such as on a full disk; as ChildProcessError, three workers
        of engine "ray" have died over one shard.

    Examples
    --------
    >>> import tempfile
    >>> import fastclip
    >>> from fastclip.data import load_sample
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("coco-images", "coco-captions"):
    ...         load_sample(name).save(f"{folder}/{name}.safetensors")
    ...     summary = fastclip.sweep.run(
    ...         "topk",
    ...         f"{folder}/coco-images.safetensors",
    ...         f"{folder}/coco-captions.safetensors",
    ...         f"{folder}/best",
    ...         shard_size=200,
    ...         normalize=True,
    ...         k=5,
    ...     )
    ...     best = fastclip.sweep.read(f"{folder}/best")
    >>> summary.shards, best.indices.shape
    (3, torch.Size([500, 5]))
    """
    if engine not in ("local", "ray"):
        raise ValueError(f"engine: must be 'local' or 'ray', got {engine!r}")
    memory = as_integer("memory", memory)
    workers = None if workers is None else as_integer("workers", workers)
    shard_size = None if shard_size is None else as_integer("shard_size", shard_size)
    if workers is not None and (engine == "local" or workers < 1):
        raise ValueError(f"workers: 1 or more are allowed, with engine 'ray', got {workers}")
    if shard_size is not None and not 1 <= shard_size < 2**63:
        raise ValueError(f"shard_size: 1 or more is allowed, got {shard_size}")
    place = device_to_compute_on(device)
    if engine == "ray":
        if place.type != "cpu":
            raise ValueError(f"device: 'cpu' is allowed with engine 'ray', got '{place}'")
        check_ray()
    folder = Path(output)
    sources = {"queries": _open(queries, normalize)}
    if keys is not None:
        sources["keys"] = _open(keys, normalize)
    kind = operation_named(op)
    if kind.of_one_set and keys is queries and isinstance(keys, Rows):
        sources.pop("keys")  # as the function has it
        keys = None
    if keys is None and not kind.of_one_set:
        raise ValueError(
            f"keys: needed for {op}; only {' and '.join(_of_one_set())} compares queries to "
            "themselves"
        )
    for argument in kind.arguments:
        if isinstance(argument, ValueRows) and argument.name in arguments:
            sources[argument.name] = _open(arguments[argument.name], False)
            arguments[argument.name] = sources[argument.name]
    question = ask_rows(
        kind, sources["queries"], sources.get("keys"), torch.device("cpu"), **arguments
    )
    operation = question.operation
    if place.type != "cpu" and not operation.exact:
        raise ValueError(f"device: 'cpu' is allowed for {op}, got '{place}'")
    if not len(question.block):
        name = "queries" if operation.row == "query" else "keys"
        raise ValueError(f"{name}: at least one row is needed, got none")
    before = job_folder.read_manifest(folder, FORMAT, VERSION)
    known = read_known(folder) if before is not None else {}
    # Earlier versions wrote an argument down that the rows of the answer now tell.
    told = {
        name: before[name]
        for name in operation.argument_names()
        if before is not None and name in before and before[name] == getattr(operation, name)
    }
    if shard_size is None and before is not None:
        shard_size = before["shard_size"]
    plan = make_plan(question, memory, shard_size, place)
    files = hash_files(sources, known)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "op": op,
        "row": operation.row,
        "items": len(question.block),
        "others": len(question.others),
        "shard_size": plan.block,
        "normalize": normalize,
        **({} if operation.exact else {"instruction_set": _C.isa()}),
        **told,
        **operation.described(),
        **digests(files),
    }
    # Whatever the caller's default device is.
    with place, open_folder(folder, manifest, [INPUTS, PACKED], [RESULTS]):
        if files != known:
            write_known(folder, files)
        shards = Shards(folder, len(question.block), plan.block, lambda n: [result_file(folder, n)])
        blocks = [(number, shards.ranges[number]) for number in shards.pending]
        if engine == "ray":
            finished = on_ray(question, plan, folder, blocks, workers)
        else:
            finished = _here(question, plan, shards, blocks)
        return _finish(finished, shards, progress)


def _here(
    question: Question, plan: Plan, shards: Shards, blocks: Sequence[tuple[int, range]]
) -> Iterator[int]:
    """Yield the number of each shard when it is finished."""
    for number, fields in answers(question, plan, blocks):
        begin = shards.ranges[number].start
        write_table(result_file(shards.output, number), question.operation.row, begin, fields)
        shards.finish(number)
        yield number


def _finish(finished: Iterator[int], shards: Shards, progress: Progress | None) -> SweepSummary:
    kept, report = shards.begin(progress)
    for number in finished:
        report(len(shards.ranges[number]))
    damaged = tuple(str(result_file(Path(), number)) for number in shards.damaged)
    return SweepSummary(sum(map(len, shards.ranges)), len(shards.ranges), kept, damaged)


@dataclass(frozen=True)
class SweepStatus:
    """How far a sweep is.

    Attributes
    ----------
    op : str
    items, done : int
        Rows that get a result, and how many of them have one.
    shards, finished : int
        Shards, and how many are recorded as finished; their content is not looked at.
    running : bool or None
        Whether a process is at work in the folder; None where that cannot be found out.
    rate : float or None
        Rows per second between the first and the last finished shard; None with fewer than two.
    seconds_left : float or None
        At this rate.
    """

    op: str
    items: int
    done: int
    shards: int
    finished: int
    running: bool | None
    rate: float | None
    seconds_left: float | None


def status(output: str | os.PathLike[str]) -> SweepStatus:
    """Return how far the sweep in a folder is, without disturbing it.

    Raises
    ------
    FileNotFoundError
        The folder holds no sweep.
    ValueError
        Its description is damaged.
    """
    folder = Path(output)
    manifest = _manifest(folder)
    ranges = shard_ranges(manifest["items"], manifest["shard_size"])
    times = {}
    for number in range(len(ranges)):
        try:
            times[number] = record_file(folder, number).stat().st_mtime
        except FileNotFoundError:
            continue
    done = sum(len(ranges[number]) for number in times)
    rate = None
    if len(times) > 1 and (seconds := max(times.values()) - min(times.values())) > 0:
        rate = (done - len(ranges[min(times, key=lambda n: times[n])])) / seconds
    return SweepStatus(
        manifest["op"],
        manifest["items"],
        done,
        len(ranges),
        len(times),
        job_folder.is_locked(folder),
        rate,
        None if rate is None else (manifest["items"] - done) / rate,
    )


def read(output: str | os.PathLike[str]) -> Any:
    """Return the answer of a finished sweep as ``fastclip.<op>`` returns it, all in memory.

    Each shard is compared with its hash first.

    Raises
    ------
    FileNotFoundError, ValueError
        As `status`, or the sweep is not finished, or a shard is not as the sweep wrote it.
    """
    folder = Path(output)
    manifest = _manifest(folder)
    ranges = shard_ranges(manifest["items"], manifest["shard_size"])
    missing = sum(not record_file(folder, number).exists() for number in range(len(ranges)))
    if missing:
        raise ValueError(
            f"{folder}: {missing} of {len(ranges)} shards are missing: run the sweep again, "
            "and it goes on"
        )
    paths = [result_file(folder, number) for number in range(len(ranges))]
    damaged = [
        str(path.relative_to(folder))
        for number, path in enumerate(paths)
        if intact_record(folder, number, [path]) is None
    ]
    if damaged:
        raise ValueError(
            f"{folder}: {len(damaged)} of {len(ranges)} shards are not as the sweep wrote them "
            f"({', '.join(damaged[:5])}{', ...' if damaged[5:] else ''}): run the sweep again, and "
            "it makes them again"
        )
    tables = dict(zip(paths, ranges, strict=True))
    return read_tables(tables, manifest["op"], (manifest["items"], manifest["others"]))


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = job_folder.read_manifest(folder, FORMAT, VERSION)
    if manifest is None:
        raise FileNotFoundError(f"{folder}: holds no sweep")
    op, others = manifest.get("op"), manifest.get("others")
    if str(op) not in OPERATIONS or type(others) is not int or others < 0:
        raise ValueError(
            f"{folder / job_folder.MANIFEST}: damaged: op is {op!r:.80}, others is {others!r:.80}"
        )
    return manifest


def _table() -> str:
    """Return the table of all operations for the docstring of `run`."""
    rows: list[tuple[str, ...]] = [("op", "arguments", "columns")]
    for name, kind in OPERATIONS.items():
        rows.append((name, ", ".join(kind.argument_names()), ", ".join(kind.fields)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = tuple("=" * width for width in widths)
    rows = [rule, rows[0], rule, *rows[1:], rule]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n    ".join(lines)


run.__doc__ = (run.__doc__ or "").replace("{operations}", _table())


def _of_one_set() -> list[str]:
    return [name for name, kind in OPERATIONS.items() if kind.of_one_set]


def _open(source: Source, normalize: bool) -> Rows:
    return source if isinstance(source, Rows) else open_rows(source, normalize=normalize)
