from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fastclip
from fastclip import _C
from fastclip.cli import app
from fastclip.data import FeatureFileError, Rows, open_rows
from fastclip.engine.answer import ask_rows
from fastclip.engine.stream import make_plan
from fastclip.sweep._ray import Work, _Worker

ray = pytest.importorskip("ray")

SHARD, SHARDS = 20, 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray runtime of this machine, with processes of its own."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 << 20,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for name, count in (("queries", SHARD * SHARDS - 7), ("keys", 3000)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((count, 64), np.float32))
    return tmp_path / "queries.npy", tmp_path / "keys.npy"


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def workers() -> set[int]:
    """Processes of Ray's actors below this one."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"MapWorker" in (folder / "cmdline").read_bytes() and is_below(int(folder.name)):
                found.add(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def is_below(process: int) -> bool:
    while process > 1:
        if process == os.getpid():
            return True
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return False


@pytest.mark.host
def test_a_killed_worker_changes_nothing(
    cluster: None, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    seen: list[set[int]] = []

    def kill_one(done: int, total: int) -> None:
        seen.append(workers())
        if len(seen) == 5:
            os.kill(min(seen[-1]), signal.SIGKILL)

    settings = {"shard_size": SHARD, "k": 3}
    fastclip.sweep.run("topk", *inputs, tmp_path / "local", **settings)
    summary = fastclip.sweep.run(
        "topk", *inputs, tmp_path / "ray", engine="ray", workers=2, progress=kill_one, **settings
    )
    assert (summary.shards, summary.kept) == (SHARDS, 0)
    assert len(seen) == SHARDS + 1
    killed = min(seen[4])
    assert len(seen[4]) == 2
    assert killed not in seen[-1]
    # Another in its place; on a busy machine the one that is left has finished before that.
    assert seen[-1] - seen[4] or seen[-1] == seen[4] - {killed}
    assert content(tmp_path / "ray") == content(tmp_path / "local")


@pytest.mark.host
@pytest.mark.usefixtures("threads")
def test_a_shard_that_kills_its_workers(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    class Deadly(Rows):
        def read(self, begin: int, out: torch.Tensor) -> None:
            raise SystemExit  # no worker catches that

    queries = Deadly(open_rows(inputs[0]).files, normalize=False)
    cpu = torch.device("cpu")
    question = ask_rows(fastclip.ops.OPERATIONS["topk"], queries, open_rows(inputs[1]), cpu, k=1)
    plan = make_plan(question, 1 << 30, SHARD, cpu)
    work = Work(question, plan, tmp_path, None, _C.isa())
    (tmp_path / "results").mkdir()
    shard = {"number": np.array([1]), "begin": np.array([SHARD]), "end": np.array([2 * SHARD])}
    for _ in range(3):
        with pytest.raises(SystemExit):
            _Worker(work)(shard)
    error = pickle.loads(_Worker(work)(shard)["error"][0])
    assert isinstance(error, ChildProcessError)
    assert "results_00001.parquet: its workers have died 3 times" in str(error)


@pytest.mark.host
def test_command_goes_on_with_keys_that_do_not_fit(
    cluster: None, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    """logsumexp in chunks, begun by the local engine: sums with the same bits."""
    settings = {"shard_size": 300, "scale": 100.0, "memory": 71 << 20}
    for name in ("local", "ray"):
        fastclip.sweep.run("logsumexp", *inputs, tmp_path / name, **settings)
    for damaged in (tmp_path / "ray" / "results").glob("results_0000[01].parquet"):
        damaged.write_bytes(b"")
    options = {
        "op": "logsumexp",
        "scale": 100,
        "queries": inputs[0],
        "keys": inputs[1],
        "metric": "dot",
        "shard-size": 300,
        "memory": "71MiB",
        "engine": "ray",
        "workers": 1,
        "output": tmp_path / "ray",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    result = CliRunner().invoke(app, ["sweep", *words])
    assert result.exit_code == 0, result.output
    assert "793 rows in 3 shards, 1 of them from an earlier run" in result.stdout
    assert result.stderr.count("shard was damaged, computed again") == 2
    assert content(tmp_path / "ray") == content(tmp_path / "local")


def test_without_ray(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastclip.sweep._ray.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'fastclip-kernels\[ray\]'"):
        fastclip.sweep.run("topk", *inputs, tmp_path / "out", engine="ray", k=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.host
def test_errors(
    cluster: None, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = np.load(inputs[0])
    queries[33, 3] = np.nan
    np.save(inputs[0], queries)
    with pytest.raises(FeatureFileError, match=r"queries.npy: row 33 holds NaN"):
        fastclip.sweep.run(
            "topk", *inputs, tmp_path / "out", engine="ray", workers=1, shard_size=400, k=1
        )
    with pytest.raises(ValueError, match="engine: must be 'local' or 'ray', got 'spark'"):
        fastclip.sweep.run("topk", *inputs, tmp_path / "out", engine="spark", k=1)
    monkeypatch.setattr("fastclip.sweep._run.device_to_compute_on", torch.device)
    with pytest.raises(ValueError, match="device: 'cpu' is allowed with engine 'ray', got 'cuda'"):
        fastclip.sweep.run("topk", *inputs, tmp_path / "out", engine="ray", device="cuda", k=1)
    with pytest.raises(ValueError, match="workers: 1 or more are allowed, with engine 'ray'"):
        fastclip.sweep.run("topk", *inputs, tmp_path / "out", workers=2, k=1)
