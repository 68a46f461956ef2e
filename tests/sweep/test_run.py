"""Sweeps give the bits of the functions in memory, whatever the files, chunks and shards."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import fastclip
from fastclip.data import FeatureFileError, Features, open_rows, write_features
from fastclip.data.job_folder import lock, without_hash, write_json
from fastclip.engine import buffers, devices, stream
from fastclip.engine.devices import EMULATED
from fastclip.engine.stream import make_plan
from fastclip.engine.tuning import TUNING
from fastclip.ops import OPERATIONS

host = pytest.mark.host

# Emulated kernels are slow.
N, V, D, G = (40, 300, 24, 70) if EMULATED else (301, 2500, 24, 70)
SHARD, CHUNK = (25, 171) if EMULATED else (70, 777)  # borders that no file has


def parquet(path, rows, kind=None) -> None:
    flat = pa.array(rows.reshape(-1))
    lists = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    table = pa.table({"id": np.arange(len(rows)), "embedding": lists})
    pq.write_table(table, path, row_group_size=130)


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Queries and keys, among these duplicates far apart, so that ties cross chunks."""
    rng = np.random.default_rng(0)
    queries, keys = rng.standard_normal((N, D)), rng.standard_normal((V, D))
    keys[-V // 10 :] = keys[: V // 10]
    return queries.astype(np.float32), keys.astype(np.float32)


@pytest.fixture(scope="module")
def files(rows, tmp_path_factory):
    """The same rows as npy, as shards of npy, as safetensors and as parquet shards."""
    folder = tmp_path_factory.mktemp("files")
    for name, part in zip(("queries", "keys"), rows, strict=True):
        np.save(folder / f"{name}.npy", part)
        write_features(folder / f"{name}.safetensors", Features(torch.from_numpy(part)))
        for kind in ("shards", "tables"):
            (folder / f"{name}-{kind}").mkdir()
        for number, shard in enumerate(np.array_split(part, [100, 100, 277])):
            np.save(folder / f"{name}-shards" / f"x_{number}.npy", shard)
            parquet(folder / f"{name}-tables" / f"part-{number}.parquet", shard)
    return folder


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(TUNING, "most_chunk_rows", CHUNK)
    real = stream.make_plan

    def plan(question, *arguments):
        align = question.operation.alignment()
        chunk = max(CHUNK // align, 1) * align
        return dataclasses.replace(real(question, *arguments), chunk=chunk, resident=False)

    monkeypatch.setattr("fastclip.sweep._run.make_plan", plan)


def cases():
    rng = np.random.default_rng(1)
    targets, groups = rng.integers(0, V, N), rng.permutation(np.arange(V) % G)
    thresholds = rng.standard_normal(N).astype(np.float32) * 8
    filters = {"allowed": rng.random(V) < 0.5, "exclude": rng.integers(-1, V, (N, 3))}
    return {
        "topk": {"k": 10},
        "topk of keys that count": {"k": 10, **filters},
        "count_above of keys that count": {"thresholds": thresholds, **filters},
        "rank": {"targets": targets},
        "count_above": {"thresholds": thresholds},
        "count_above per query": {"thresholds": thresholds, "per": "query"},
        "count_above of a number": {"thresholds": 3.5},
        "pairs_above": {"threshold": 9.0},
        "group_max": {"groups": groups},
        "group_beats": {"groups": groups, "targets": targets},
        "group_mean": {"groups": groups},
        "logsumexp": {"scale": 2.5},
        "softmax_topk": {"k": 3, "scale": 2.5},
    }


def in_memory(op, queries, keys, arguments):
    queries, keys = torch.as_tensor(queries), torch.as_tensor(keys)
    tensors = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in arguments.items()
    }
    return getattr(fastclip, op)(queries, keys, **tensors)


def same(answer, expected) -> None:
    assert type(answer) is type(expected)
    if isinstance(expected, torch.Tensor) and expected.layout == torch.sparse_csr:
        parts = [(x.crow_indices(), x.col_indices(), x.values()) for x in (answer, expected)]
        assert answer.shape == expected.shape
    else:
        parts = [(x,) if isinstance(x, torch.Tensor) else tuple(x) for x in (answer, expected)]
    for one, other in zip(*parts, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.numpy().tobytes() == other.numpy().tobytes()


def content(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def device(request) -> str:
    """Where the tests of exact operations compute."""
    return request.config.getoption("--device") or "cpu"


every_operation = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if OPERATIONS[name.split()[0]].exact else host)
        for name in cases()
    ],
)


@every_operation
def test_every_operation(name, rows, files, tmp_path, small_chunks, device):
    op, arguments = name.split()[0], cases()[name]
    expected = in_memory(op, *rows, arguments)
    sources = (
        (files / "queries-shards", files / "keys.npy", device),
        (files / "queries.npy", files / "keys-tables", "cpu"),
    )
    for number, (queries, keys, place) in enumerate(sources):
        output = tmp_path / str(number)
        summary = fastclip.sweep.run(
            op, queries, keys, output, shard_size=SHARD, device=place, **arguments
        )
        assert summary.shards == -(-summary.items // SHARD)
        same(fastclip.sweep.read(output), expected)
    assert content(tmp_path / "0" / "results") == content(tmp_path / "1" / "results")


@every_operation
def test_all_in_one_chunk(name, rows, files, tmp_path, device, monkeypatch):
    op, arguments = name.split()[0], cases()[name]
    questions, sizes = [], []

    def plan(question, *others):
        questions.append(question)
        return make_plan(question, *others)

    def workspace(*arguments):
        memory, rows = devices.workspace(*arguments)
        sizes.append(memory.nbytes)
        return memory, rows

    monkeypatch.setattr("fastclip.sweep._run.make_plan", plan)
    monkeypatch.setattr("fastclip.engine.kernels.workspace", workspace)
    sources = files / "queries.npy", files / "keys.npy"
    fastclip.sweep.run(op, *sources, tmp_path / "out", device=device, **arguments)
    if sizes:  # of CUDA kernels only
        asked = questions[0]
        queries, keys = (
            torch.empty(len(x), x.dim, device="meta") for x in (asked.queries, asked.keys)
        )
        planned = asked.operation.workspace(queries, keys)
        assert max(sizes) <= planned
        with pytest.raises(ValueError, match="memory: at least"):
            make_plan(questions[0], planned, None, torch.device("cuda"))
    same(fastclip.sweep.read(tmp_path / "out"), in_memory(op, *rows, arguments))


def test_pairs_of_one_set(rows, files, tmp_path, small_chunks, device):
    fastclip.sweep.run(
        "pairs_above",
        files / "keys.npy",
        None,
        tmp_path / "out",
        shard_size=CHUNK + 123,
        device=device,
        threshold=12.0,
    )
    keys = torch.from_numpy(rows[1])
    same(fastclip.sweep.read(tmp_path / "out"), fastclip.pairs_above(keys, keys, 12.0))


@host
@pytest.mark.parametrize("kind", [".npy", "-tables"])
def test_rows_are_copied_in_pieces(kind, rows, files, monkeypatch):
    monkeypatch.setattr(TUNING, "pinned_bytes", 64 * 4 * D)
    both = buffers.Buffers(open_rows(files / f"keys{kind}"), 300, torch.device("cpu"))
    both._pinned = torch.empty(64, D)  # as if it were
    for begin, count in ((0, 300), (300, 200), (95, 1), (7, 0)):
        part = torch.full((count, D), torch.nan)
        both._copy(begin, part)
        assert torch.equal(part, torch.from_numpy(rows[1][begin : begin + count]))


@host
@pytest.mark.parametrize("source", ["npy", "tables"])
def test_cache_logits(source, rows, files, tmp_path, small_chunks):
    values = np.random.default_rng(2).standard_normal((V, 5)).astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    parquet(tmp_path / "values.parquet", values)
    path = tmp_path / ("values.npy" if source == "npy" else "values.parquet")
    keys = files / ("keys.npy" if source == "npy" else "keys-tables")
    output = tmp_path / "out"
    fastclip.sweep.run(
        "cache_logits", files / "queries.npy", keys, output, shard_size=70, values=path, beta=0.3
    )
    expected = fastclip.cache_logits(*map(torch.from_numpy, (*rows, values)), 0.3)
    same(fastclip.sweep.read(output), expected)


@host
def test_values_that_are_not_finite(files, tmp_path, small_chunks):
    values = np.zeros((V, 5), np.float32)
    values[2 * CHUNK + 3] = np.inf
    np.save(tmp_path / "values.npy", values)
    with pytest.raises(
        FeatureFileError, match=rf"values\.npy: row {2 * CHUNK + 3} holds NaN or infinity"
    ):
        fastclip.sweep.run(
            "cache_logits", files / "queries.npy", files / "keys.npy", tmp_path / "out",
            values=tmp_path / "values.npy", beta=1,
        )  # fmt: skip


@host
@pytest.mark.parametrize("kind", [".npy", ".safetensors", "-shards", "-tables"])
def test_cosine(kind, rows, files, tmp_path, small_chunks):
    queries, keys = (Features(torch.from_numpy(part)).normalized().features for part in rows)
    sources = (files / f"{name}{kind}" for name in ("queries", "keys"))
    fastclip.sweep.run("topk", *sources, tmp_path / "out", normalize=True, k=7, shard_size=100)
    same(fastclip.sweep.read(tmp_path / "out"), fastclip.topk(queries, keys, 7))


@host
def test_from_urls_and_arguments_from_files(rows, files, tmp_path, small_chunks):
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in (files / "keys-shards", files / "keys-tables", files / "queries.safetensors"):
        memory.put(str(path), f"/sweep/{path.name}", recursive=True)
    try:
        targets = cases()["rank"]["targets"]
        np.save(tmp_path / "targets.npy", targets)
        expected = in_memory("rank", *rows, {"targets": targets})
        for kind in ("shards", "tables"):
            fastclip.sweep.run(
                "rank",
                "memory://sweep/queries.safetensors",
                f"memory://sweep/keys-{kind}",
                tmp_path / kind,
                shard_size=150,
                targets=tmp_path / "targets.npy",
            )
            same(fastclip.sweep.read(tmp_path / kind), expected)
        broken = rows[1][:100].copy()
        broken[3] = np.nan
        with memory.open("/sweep/keys-shards/x_0.npy", "wb") as file:
            np.save(file, broken)
        with pytest.raises(
            FeatureFileError, match=r"memory://sweep/keys-shards/x_0.npy: row 3 holds NaN"
        ):
            fastclip.sweep.run(
                "topk", files / "queries.npy", "memory://sweep/keys-shards", tmp_path / "o", k=1
            )
    finally:
        memory.rm("/sweep", recursive=True)


@pytest.fixture
def swept(files, tmp_path):
    """A function that goes on with a sweep of seven shards, and its folder."""

    def sweep(**changes):
        given = {"op": "topk", "queries": files / "queries.npy", "keys": files / "keys.npy"}
        given |= {"output": tmp_path / "out", "k": 3, "shard_size": 50}
        return fastclip.sweep.run(**{**given, **changes})

    return sweep, tmp_path / "out"


@host
def test_damaged_and_missing_shards_are_made_again(swept):
    sweep, output = swept
    assert sweep() == fastclip.sweep.SweepSummary(N, 7, 0, ())
    before = content(output)
    assert sweep() == fastclip.sweep.SweepSummary(N, 7, 7, ())

    damaged = output / "results" / "results_00003.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (output / "shards" / "shard_00001.json").write_text("{")
    (output / "shards" / "shard_00000.json").unlink()
    (output / "results" / ".results_00005.parquet.0.tmp").write_bytes(b"left by a kill")
    with pytest.raises(ValueError, match="1 of 7 shards are missing: run the sweep again"):
        fastclip.sweep.read(output)
    summary = sweep(shard_size=None)
    assert summary.kept == 4
    assert summary.damaged == (
        "results/results_00001.parquet",
        "results/results_00003.parquet",
    )
    assert content(output) == before


def test_what_a_device_began_the_cpu_goes_on_with(swept, device):
    if torch.device(device).type == "cpu":
        pytest.skip("needs --device")
    sweep, output = swept
    sweep(device=device)
    before = content(output)
    (output / "shards" / "shard_00002.json").unlink()
    assert sweep(device="cpu").kept == 6
    assert content(output) == before


@host
def test_a_sweep_whose_description_has_per_goes_on(files, tmp_path):
    """Earlier versions wrote it down where it was given."""
    paths = files / "queries.npy", files / "keys.npy", tmp_path / "counts"
    arguments = {"thresholds": 1.0, "per": "query"}
    fastclip.sweep.run("count_above", *paths, **arguments)
    job = tmp_path / "counts" / "job.json"
    write_json(job, without_hash(json.loads(job.read_text())) | {"per": "query"})
    summary = fastclip.sweep.run("count_above", *paths, **arguments)
    assert summary.kept == summary.shards


@host
def test_changed_inputs_are_refused(swept, files, tmp_path):
    sweep, _ = swept
    keys = tmp_path / "keys.npy"
    shutil.copy(files / "keys.npy", keys)
    sweep(keys=keys)
    changed = np.load(keys)
    changed[5, 5] += 1
    np.save(keys, changed)
    os.utime(keys, ns=(1, 1))
    with pytest.raises(ValueError, match=r"keys\.npy: was changed since the sweep was begun"):
        sweep(keys=keys)
    shutil.copy(files / "keys.npy", keys)
    assert sweep(keys=keys).kept == 7
    assert sweep().kept == 7  # the same rows elsewhere
    with pytest.raises(ValueError, match="was begun with other inputs: k was 3, is 4"):
        sweep(k=4)
    # Of four tables, one of which is empty.
    with pytest.raises(ValueError, match="keys: had 1 files, has 3: give the inputs"):
        sweep(keys=files / "keys-tables")


@host
def test_a_full_disk_loses_one_shard(swept, monkeypatch):
    sweep, output = swept
    write = pq.write_table
    written = []

    def full(table, path, **options):
        write(table, path, **options)
        written.append(path)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left on device"):
        sweep()
    assert not list(output.rglob("*.tmp"))
    monkeypatch.setattr(pq, "write_table", write)
    assert sweep().kept == 3
    again = content(output)
    shutil.rmtree(output)
    sweep()
    assert content(output) == again


@host
def test_unreadable_shards(files, tmp_path, small_chunks):
    folder = tmp_path / "keys"
    shutil.copytree(files / "keys-shards", folder)
    last = folder / "x_3.npy"
    whole = last.read_bytes()

    def sweep(progress=None):
        output, queries = tmp_path / "out", files / "queries.npy"
        return fastclip.sweep.run(
            "topk", queries, folder, output, k=1, shard_size=50, progress=progress
        )

    last.write_bytes(whole[:-8])
    with pytest.raises(FeatureFileError, match=r"x_3\.npy: ends after \d+ bytes, \d+ are needed"):
        sweep()
    last.write_bytes(whole)

    def cut_off(done, total):
        if done == 100:
            last.write_bytes(whole[:-8])

    with pytest.raises(FeatureFileError, match=r"x_3\.npy: ends early: it was changed"):
        sweep(cut_off)
    with pytest.raises(FeatureFileError, match=r"x_3\.npy: ends after"):
        sweep()
    last.write_bytes(whole)
    assert sweep().kept == 2


@host
def test_status(swept, monkeypatch):
    sweep, output = swept
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        fastclip.sweep.status(output)
    seen = []

    def look(done, total):
        seen.append((done, total))
        now = fastclip.sweep.status(output)
        assert (now.done, now.items, now.running) == (done, N, True)

    sweep(progress=look)
    assert seen == [(done, N) for done in (0, 50, 100, 150, 200, 250, 300, 301)]
    for number in range(7):
        os.utime(output / "shards" / f"shard_{number:05d}.json", (number * 10, number * 10))
    (output / "shards" / "shard_00006.json").unlink()
    assert fastclip.sweep.status(output) == fastclip.sweep.SweepStatus(
        "topk", N, 300, 7, 6, False, 5.0, 0.2
    )


@host
def test_errors(swept, files, tmp_path, monkeypatch):
    sweep, output = swept
    for changes, message in (
        ({"op": "best"}, "op: must be one of cache_logits, .*, topk, got 'best'"),
        (
            {"targets": 1},
            "arguments of topk: needed: k, optional: allowed, exclude, got k, targets",
        ),
        ({"shard_size": 0}, "shard_size: 1 or more is allowed, got 0"),
        ({"k": V + 1}, "k: must be from 1 to the number of keys 2500, got 2501"),
        ({"keys": None}, "keys: needed for topk"),
        ({"memory": 1 << 20}, r"memory: at least [\d,]+ bytes are needed for rows of 24"),
        ({"queries": files / "none.npy"}, "none.npy: no such file or folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            sweep(**changes)
    for device, message in (
        ("gpu", "device: 'gpu' cannot be used here"),
        ("meta", "device: is 'meta', this build of fastclip computes on 'cpu'"),
    ):
        with pytest.raises(ValueError, match=message):
            sweep(device=device)
    assert not output.exists()
    monkeypatch.setattr("fastclip.sweep._run.device_to_compute_on", torch.device)
    for arguments, message in (
        ({"op": "rank", "targets": np.zeros(3, np.int64)}, r"targets: shape \(301,\) is needed"),
        ({"op": "rank", "targets": np.full(N, V)}, "targets: must be from 0 to 2499"),
        ({"op": "count_above", "thresholds": np.zeros(N)}, "thresholds: "),
        ({"op": "count_above", "thresholds": 1, "per": "x"}, "per: must be 'key' or 'query'"),
        ({"op": "group_max", "groups": np.full(V, 1)}, "groups: group 0 has no key"),
        ({"op": "cache_logits", "values": files / "queries.npy", "beta": 1}, "values: one row per"),
        ({"op": "logsumexp", "scale": 1, "device": "cuda:1"}, "device: 'cpu' is allowed for logs"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            fastclip.sweep.run(
                queries=files / "queries.npy", keys=files / "keys.npy", output=output, **arguments
            )
    sweep()
    with lock(output), pytest.raises(ValueError, match="another process is at work in it"):
        sweep()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ValueError, match="holds other files"):
        sweep(output=tmp_path / "other")
    manifest = json.loads((output / "job.json").read_text())
    assert manifest["op"] == "topk"


def resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise AssertionError(field)


def write_large(tmp_path) -> torch.Tensor:
    """Write 100 queries and 336 MB of keys; return the 2 best of each."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((65536, 128), np.float32).astype(np.float16)
    shape = len(block) * 20, 128
    keys = np.lib.format.open_memmap(tmp_path / "keys.npy", "w+", np.float16, shape)
    for begin in range(0, len(keys), len(block)):
        keys[begin : begin + len(block)] = block
    np.save(tmp_path / "queries.npy", block[:100])
    rows = torch.arange(100)
    return torch.stack([rows, rows + len(block)], 1)  # each row is its own best key


@host
@pytest.mark.usefixtures("threads")
def test_memory_stays_within_the_bound(tmp_path):
    torch.set_num_threads(1)
    expected = write_large(tmp_path)
    memory = 80 << 20

    def sweep(output):
        fastclip.sweep.run(
            "topk", tmp_path / "queries.npy", tmp_path / "keys.npy", output, memory=memory, k=2
        )

    sweep(tmp_path / "first")  # what libraries keep from their first call does not count
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    sweep(tmp_path / "second")
    assert resident("VmHWM") - before < 1.1 * memory
    assert torch.equal(fastclip.sweep.read(tmp_path / "second").indices, expected)


def test_memory_of_the_device_stays_within_the_bound(tmp_path, device):
    if torch.device(device).type == "cpu":
        pytest.skip("needs --device")
    expected = write_large(tmp_path)
    memory = 96 << 20
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    sources = tmp_path / "queries.npy", tmp_path / "keys.npy"
    fastclip.sweep.run("topk", *sources, tmp_path / "out", device=device, memory=memory, k=2)
    assert torch.cuda.max_memory_allocated(device) - before < memory
    assert torch.equal(fastclip.sweep.read(tmp_path / "out").indices, expected)
