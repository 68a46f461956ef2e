"""Programs without Python, on the emulator: of itself, and of what the operations are made of.

One is of launches, on a runtime that starts nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EMULATOR = ROOT / "tests/cuda/emulator"


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@needs_compiler
@pytest.mark.parametrize(
    "source",
    ["emulator/emulator_test.cu", "plans_test.cu", "pair_list_test.cu", "hopper_probe.cu"],
)
def test_program(source: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    options = ["-march=native", "-ffp-contract=fast", "-DFASTCLIP_EMULATE", f"-I{EMULATOR}"]
    _compile(program, *options, *EMULATOR.glob("*.cpp"), ROOT / "tests/cuda" / source)
    for seed in range(3):
        environment = os.environ | {"FASTCLIP_EMULATOR_SEED": str(seed), "LD_PRELOAD": ""}
        done = subprocess.run([program], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr


@needs_compiler
def test_launches(tmp_path: Path) -> None:
    program = tmp_path / "program"
    sources = ROOT / "csrc/cuda/arch/device.cu", ROOT / "tests/cuda/launch_test.cu"
    _compile(program, f"-I{ROOT / 'tests/cuda/runtime'}", *sources)
    done = subprocess.run([program], env=os.environ | {"LD_PRELOAD": ""}, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"passed\n"), done.stderr


def _compile(program: Path, *options: str | Path) -> None:
    command = [
        "g++",
        "-std=c++20",
        "-O1",
        "-fexpensive-optimizations",
        "-Wall",
        "-Wno-unknown-pragmas",
        "-Werror",
    ]
    command += [f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc'}"]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-x", "c++"]
    subprocess.run([*command, *options, "-o", program], check=True)
