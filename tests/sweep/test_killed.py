from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.host


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("queries", 1600), ("keys", 1000)):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((count, 16), np.float32))
    script = Path(__file__).with_name("killed.py")
    ended = subprocess.run(
        [sys.executable, script, tmp_path, "20"], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    found = re.fullmatch(r"20 kills, .* at each kill: \[(.*)\]\n", ended.stdout)
    assert found, ended.stdout
    shards = [int(number) for number in found[1].split(",")]
    assert any(0 < number < 80 for number in shards)  # some were hit on the way
