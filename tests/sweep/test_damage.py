"""Damage to the folder of a sweep: found, named, and made good by the same call."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damage
import numpy as np
import pytest

import fastclip

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of three shards, and its inputs."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(0)
    for name, count in (("queries", 25), ("keys", 40)):
        np.save(folder / f"{name}.npy", rng.standard_normal((count, 4), np.float32))
    sweep(folder)
    return folder


def sweep(folder: Path, **changes: Any) -> fastclip.sweep.SweepSummary:
    given = {"op": "topk", "k": 2, "shard_size": 10, "output": folder / "out", **changes}
    queries, keys = folder / "queries.npy", folder / "keys.npy"
    return fastclip.sweep.run(queries=queries, keys=keys, **given)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def answer(folder: Path) -> list[bytes]:
    return [part.numpy().tobytes() for part in fastclip.sweep.read(folder / "out")]


def test_every_flip_in_a_shard_is_found_and_named(folder: Path) -> None:
    right = answer(folder)
    shard = folder / "out" / "results" / "results_00001.parquet"
    content = shard.read_bytes()
    for damaged in (*damage.every_flip(content), content[:-1], content + b"\0", b""):
        shard.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"1 of 3 shards are not .* \(results/results_00001"):
            fastclip.sweep.read(folder / "out")
    assert sweep(folder).damaged == ("results/results_00001.parquet",)
    assert shard.read_bytes() == content
    assert answer(folder) == right
    shard.unlink()
    with pytest.raises(ValueError, match="run the sweep again, and it makes them again"):
        fastclip.sweep.read(folder / "out")


def test_a_shard_in_the_place_of_another_is_found(folder: Path) -> None:
    for kind in ("results/results_0000%d.parquet", "shards/shard_0000%d.json"):
        shutil.copy(folder / "out" / (kind % 0), folder / "out" / (kind % 1))
    with pytest.raises(ValueError, match="results_00001"):
        fastclip.sweep.read(folder / "out")
    # Even where someone has made the records fit.
    record = folder / "out" / "shards" / "shard_00001.json"
    record.write_text(record.read_text().replace("results_00000", "results_00001"))
    text = json.loads(record.read_text())
    del text["sha256"]
    record.write_text(json.dumps(text))
    with pytest.raises(ValueError, match=r"results_00001.parquet: does not have the rows 10 to 19"):
        fastclip.sweep.read(folder / "out")


@pytest.mark.parametrize("name", ["job.json", "inputs.json", "shards/shard_00001.json"])
@pytest.mark.parametrize("hashed", [True, False], ids=["with hash", "of an earlier version"])
def test_damaged_json(folder: Path, name: str, hashed: bool) -> None:
    right = answer(folder)
    path = folder / "out" / name
    if not hashed:
        content = json.loads(path.read_text())
        del content["sha256"]
        path.write_text(json.dumps(content))
    content = path.read_bytes()
    assert answer(folder) == right
    assert sweep(folder).kept == 3

    def ask(question: Callable[[], Any], restore: bool) -> bool:
        """Whether it is answered: right, or else with an error that names the folder."""
        try:
            question()
        except (ValueError, FileNotFoundError) as error:
            if hashed and str(folder / "out") not in str(error):
                raise
            return False
        if restore:
            path.write_bytes(content)
        assert answer(folder) == right
        return True

    refused = 0
    flips = damage.every_flip(content, 9) if hashed else ()
    for damaged in (*damage.of_json(content), *damage.of_bytes(content, 30), *flips):
        path.write_bytes(damaged)
        fine = name == "inputs.json" or ask(lambda: fastclip.sweep.read(folder / "out"), False)
        with contextlib.suppress(ValueError, FileNotFoundError):
            fastclip.sweep.status(folder / "out")
        # A record that is damaged is made again.
        went_on = ask(lambda: sweep(folder), name != "shards/shard_00001.json")
        refused += not (fine and went_on)
    assert refused > 50
