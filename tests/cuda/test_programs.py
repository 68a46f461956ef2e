"""Programs without Python, on the emulator: of itself, and of what the operations are made of."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EMULATOR = ROOT / "tests/cuda/emulator"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize(
    "source",
    ["emulator/emulator_test.cu", "plans_test.cu", "pair_list_test.cu", "hopper_probe.cu"],
)
def test_program(source: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    command = ["g++", "-std=c++20", "-O1", "-ffp-contract=off", "-DFASTCLIP_EMULATE"]
    command += [f"-I{path}" for path in (EMULATOR, ROOT / "csrc/include", ROOT / "csrc")]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command += [EMULATOR / "emulator.cpp", "-x", "c++", ROOT / "tests/cuda" / source]
    subprocess.run([*command, "-o", program], check=True)
    for seed in range(3):
        environment = os.environ | {"FASTCLIP_EMULATOR_SEED": str(seed), "LD_PRELOAD": ""}
        done = subprocess.run([program], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr
