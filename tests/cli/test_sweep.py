from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fastclip
from fastclip.cli import app
from fastclip.data import load_sample

pytestmark = pytest.mark.host


def call(*arguments):
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


@pytest.fixture(scope="module")
def normalized():
    return [load_sample(n).normalized().features for n in ("coco-images", "coco-captions")]


SAMPLES = "--queries", "coco-images", "--keys", "coco-captions"


def test_by_options(normalized, tmp_path):
    output = tmp_path / "out"
    result = call("--op", "topk", *SAMPLES, "-o", output, "-k", 3, "--shard-size", 150)
    assert result.exit_code == 0, result.output
    assert f"{output}: 500 rows in 4 shards; " in result.stdout
    best = fastclip.topk(*normalized, 3)
    found = fastclip.sweep.read(output)
    assert torch.equal(found.indices, best.indices)
    assert torch.equal(found.values, best.values)

    (output / "results" / "results_00002.parquet").write_bytes(b"")
    assert call("status", output).stdout.startswith(
        f"{output}: topk, 4 of 4 shards, 500 of 500 rows (100%)"
    )
    again = call("--op", "topk", *SAMPLES, "-o", output, "-k", 3)
    assert "results_00002.parquet: shard was damaged, computed again" in again.stderr
    assert "4 shards, 3 of them from an earlier run" in again.stdout


def test_by_a_file(normalized, tmp_path):
    targets = np.arange(500)[::-1].copy()
    np.save(tmp_path / "targets.npy", targets)
    config = tmp_path / "sweep.yaml"
    config.write_text(
        f"op: rank\nqueries: coco-images\nkeys: coco-captions\ntargets: {tmp_path}/targets.npy\n"
        f"memory: 512MiB\nmetric: dot\nshard_size: 200\noutput: {tmp_path}/out\n"
    )
    assert call(config, "--metric", "cosine", "--shard-size", 250).exit_code == 0
    expected = fastclip.rank(*normalized, torch.from_numpy(targets))
    assert torch.equal(fastclip.sweep.read(tmp_path / "out"), expected)
    assert json.loads((tmp_path / "out" / "job.json").read_text())["shard_size"] == 250


def test_thresholds_by_number(normalized, tmp_path):
    output = tmp_path / "out"
    options = "--op", "count_above", "--thresholds", "0.3", "--per", "query"
    assert call(*options, *SAMPLES, "-o", output).exit_code == 0
    expected = fastclip.count_above(*normalized, 0.3, per="query")
    assert torch.equal(fastclip.sweep.read(output), expected)


def test_columns_are_named(normalized, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = load_sample("coco-images").features.numpy()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 512)
    pq.write_table(pa.table({"a": lists, "b": lists}), tmp_path / "x.parquet")
    output = tmp_path / "out"
    options = "--op", "topk", "--keys", "coco-captions", "-k", 1, "-o", output
    several = call(*options, "--queries", tmp_path / "x.parquet")
    assert "holds several 2-D floating arrays (a, b): name one by array=" in several.stderr
    assert call(*options, "--queries", f"{tmp_path}/x.parquet:b").exit_code == 0
    assert torch.equal(fastclip.sweep.read(output).indices, fastclip.topk(*normalized, 1).indices)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("op: topk\nkay: 3\n", (), "'kay' is no option, allowed: op, queries"),
        ("- op\n", (), "is a list, allowed: a mapping"),
        ("op: [\n", (), "not YAML"),
        ("metric: l2\n", (), "metric: must be one of cosine, dot, got 'l2'"),
        ("memory: much\n", (), "memory: must be such as 4GiB"),
        ("memory: 1MiB\nk: 1\n", (), "memory: at least"),
        ("k: 501\n", (), "k: must be from 1 to the number of keys 500"),
        ("k: 1\n", ("--queries", "nothing"), "nothing: no such file or folder"),
        ("device: meta\n", (), "device: is 'meta', this build of fastclip computes on 'cpu'"),
    ],
)
def test_errors(text, options, message, tmp_path):
    config = tmp_path / "sweep.yaml"
    config.write_text(text)
    needed = "--op", "topk", *SAMPLES, "-o", tmp_path / "out"
    result = call(config, *needed, *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_needed(tmp_path):
    assert "is needed" in call("--op", "topk").stderr
    assert "holds no sweep" in call("status", tmp_path).stderr
    assert "status" in call("--help").stdout


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GiB", 4 << 30), ("500MB", 500_000_000), ("1.5K", 1536), ("77", 77), (77, 77)],
)
def test_bytes(text, count):
    from fastclip.cli.sweep import _bytes

    assert _bytes(text) == count
