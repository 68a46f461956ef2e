"""The measured cases of fastclip.sweep: streamed from disk beside the same question in memory.

The keys are written to a temporary folder (TMPDIR) when a case is made: up to 4.1 GB.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, caption_mixes, image_rows, reference

import fastclip
from fastclip.data import open_rows
from fastclip.engine.answer import ask_rows
from fastclip.engine.stream import Reader, make_plan
from fastclip.ops import OPERATIONS
from fastclip.sweep._results import answers

_SHARD = 100_000  # keys
_WIDTH = 512
_WORDS = 131_072  # that are packed beforehand
_K = 10


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fastclip-sweep-")


def key_shard(number: int) -> Path:
    """Keys with the statistics of real captions, in float16."""
    path = Path(_folder().name) / f"shard_{number:03d}.npy"
    if not path.exists():
        np.save(path, caption_mixes(_SHARD, number).half().numpy())
    return path


def key_folder(count: int) -> Path:
    """A folder of shards with ``count`` keys."""
    folder = Path(_folder().name) / f"keys-{count}"
    if not folder.exists():
        folder.mkdir()
        for number in range(-(-count // _SHARD)):
            shard = key_shard(number)
            target = folder / shard.name
            left = count - number * _SHARD
            if left >= _SHARD:
                target.symlink_to(shard)
            else:
                np.save(target, np.load(shard, mmap_mode="r")[:left])
    return folder


def drop_from_cache(place: Path) -> None:
    """Let the system forget a file or those of a folder, so that they are read from the disk."""
    for path in place.glob("*.npy") if place.is_dir() else [place]:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def streamed(queries: Path, keys: Path, memory: int) -> Any:
    """The answer from the disk, without the hashes and files of a sweep."""
    drop_from_cache(keys)
    return answered(queries, keys, memory)


def answered(
    queries: Path, keys: Path, memory: int, packed: fastclip.PackedKeys | None = None
) -> Any:
    cpu = torch.device("cpu")
    question = ask_rows(OPERATIONS["topk"], open_rows(queries), open_rows(keys), cpu, k=_K)
    plan = make_plan(question, memory, None, cpu)
    reader = Reader(question, plan)
    if packed is not None:
        reader.keep(packed)
    count = len(question.block)
    blocks = [(n, range(n, min(n + plan.block, count))) for n in range(0, count, plan.block)]
    found = [fields for _, fields in answers(question, plan, blocks, reader)]
    columns = (torch.cat([fields[name] for fields in found]) for name in ("values", "indices"))
    return fastclip.TopK(*columns)


def swept(queries: Path, keys: Path, memory: int) -> Any:
    """The whole sweep: hashes of the inputs, and results on the disk."""
    drop_from_cache(keys)
    output = Path(_folder().name) / "results"
    shutil.rmtree(output, ignore_errors=True)
    fastclip.sweep.run("topk", queries, keys, output, memory=memory, k=_K)
    return fastclip.sweep.read(output)


def exact(queries: torch.Tensor, keys: Path) -> tuple[np.ndarray, np.ndarray]:
    """Indices and values by the reference, shard by shard."""
    values, indices, begin = [], [], 0
    for path in sorted(keys.glob("*.npy")):
        shard = torch.from_numpy(np.load(path))
        near = (queries.double() @ shard.double().T).topk(5 * _K).indices  # the rest is too far
        for query, candidates in zip(queries, near.sort(1).values, strict=True):
            best = reference.topk(query[None], shard[candidates], _K)
            values.append(best[0])
            indices.append(candidates.numpy()[best[1]] + begin)
        begin += len(shard)
    shape = len(values) // len(queries), len(queries), _K
    all_values, all_indices = (
        np.concatenate(parts).reshape(shape).swapaxes(0, 1).reshape(len(queries), -1)
        for parts in (values, indices)
    )
    order = np.lexsort((all_indices, -all_values))[:, :_K]
    return np.take_along_axis(all_values, order, 1), np.take_along_axis(all_indices, order, 1)


def loaded(keys: Path) -> torch.Tensor:
    opened = open_rows(keys)
    rows = torch.empty(len(opened), opened.dim, dtype=opened.dtype)
    opened.read(0, rows)
    return rows


def checker(queries: torch.Tensor, keys: Path) -> Callable[[str, Any], None]:
    """Return what compares the answers of three queries with the reference."""
    checked = torch.linspace(0, len(queries) - 1, 3).long()
    values, indices = exact(queries[checked], keys)

    def check(who: str, answer: Any) -> None:
        assert np.array_equal(answer.indices[checked].numpy(), indices)
        assert reference.same_bits(answer.values[checked], values)

    return check


def sweep_case(num_queries: int, num_keys: int, memories: tuple[int, ...]) -> Case:
    queries = image_rows(num_queries, 2).half()
    path = Path(_folder().name) / f"queries-{num_queries}.npy"
    np.save(path, queries.numpy())
    keys = key_folder(num_keys)
    in_memory = loaded(keys)
    ours = {}
    for memory in memories:
        bound = f"memory={memory >> 20:,} MiB"
        ours[f"streamed from disk, {bound}"] = partial(streamed, path, keys, memory)
    ours[f"fastclip.sweep.run, {bound}"] = partial(swept, path, keys, memory)
    size = num_keys * _WIDTH * 2 / 1e9
    peer = "fastclip.topk, keys in memory"
    return Case(
        description=f"top-{_K}, {num_queries:,} x {num_keys:,} x {_WIDTH} float16 "
        f"({num_queries * num_keys:.0e} pairs), {size:.1f} GB of keys on disk",
        work=2.0 * num_queries * num_keys * _WIDTH,
        ours=ours,
        peers={peer: lambda: fastclip.topk(queries, in_memory, _K)},
        check=checker(queries, keys),
        slow=(*ours, peer) if num_queries * num_keys > 5e10 else (),
    )


def images_case(num_images: int) -> Case:
    """Ever more images from the disk for words that are packed already: as a sweep's shards are."""
    keys = key_folder(_WORDS)
    words = loaded(keys)
    packed = fastclip.pack(words, copy=False)
    path = Path(_folder().name) / f"images-{num_images}.npy"
    images = image_rows(num_images, 2).half()
    np.save(path, images.numpy())
    check = checker(images, keys)

    def from_disk() -> Any:
        drop_from_cache(path)
        return answered(path, keys, 1 << 30, packed)

    name, peer = "images streamed from disk", "fastclip.topk, images in memory"
    pairs = num_images * _WORDS
    return Case(
        description=f"top-{_K}, {num_images:,} x {_WORDS:,} x {_WIDTH} float16 "
        f"({pairs:.0e} pairs), words packed beforehand",
        work=2.0 * pairs * _WIDTH,
        ours={name: from_disk},
        peers={peer: lambda: fastclip.topk(images, packed, _K)},
        check=check,
        slow=(name, peer) if pairs > 5e10 else (),
    )


CASES: dict[str, Callable[[], Case]] = {
    # The smaller bound is a twentieth of the keys.
    "sweep-4m": lambda: sweep_case(16_384, 4_000_000, (195 << 20, 2 << 30)),
    "sweep-1e8": lambda: sweep_case(1_000, 100_000, (1 << 30,)),
    "sweep-1e9": lambda: sweep_case(3_000, 333_333, (1 << 30,)),
    "sweep-1e10": lambda: sweep_case(10_000, 1_000_000, (1 << 30,)),
    "sweep-1e11": lambda: sweep_case(30_000, 3_333_333, (1 << 30,)),
    "images-1e8": lambda: images_case(763),
    "images-1e9": lambda: images_case(7_629),
    "images-1e10": lambda: images_case(76_294),
    "images-1e11": lambda: images_case(762_939),
}
