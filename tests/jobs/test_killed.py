from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.host, pytest.mark.once]


def test_killed_or_without_disk_jobs_end_in_the_same_bytes(tmp_path: Path) -> None:
    """One of each kind; `killed.py` does as many as one likes, of distillation and embedding, too.

    The first shares its loop with training, and the second has a test of its own.
    """
    script = Path(__file__).with_name("killed.py")
    some = ["--jobs", "sweep", "train", "generation", "--kills", "6", "--full-disks", "3"]
    ended = subprocess.run(
        [sys.executable, script, tmp_path, *some], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    counts = [json.loads(line) for line in ended.stdout.splitlines()]
    names = [entry.pop("job") for entry in counts]
    assert names == ["sweep", "train", "generation"]
    for entry in counts:
        assert entry["killed"] == entry["killed in a write"] == entry["disk full"] == 1
        assert entry["compared"] >= 3
