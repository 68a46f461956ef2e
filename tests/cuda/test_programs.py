"""The emulator itself, without Python: tests/cuda/emulator/emulator_test.cu."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EMULATOR = ROOT / "tests/cuda/emulator"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_emulator(tmp_path: Path) -> None:
    program = tmp_path / "emulator_test"
    command = ["g++", "-std=c++20", "-O1", "-ffp-contract=off", "-DFASTCLIP_EMULATE"]
    command += [f"-I{path}" for path in (EMULATOR, ROOT / "csrc/include", ROOT / "csrc")]
    command += ["-fsanitize=address,undefined", EMULATOR / "emulator.cpp", "-x", "c++"]
    subprocess.run([*command, EMULATOR / "emulator_test.cu", "-o", program], check=True)
    for seed in range(3):
        environment = os.environ | {"FASTCLIP_EMULATOR_SEED": str(seed), "LD_PRELOAD": ""}
        done = subprocess.run([program], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "the emulator works\n"), done.stderr
