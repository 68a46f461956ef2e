"""Build, test, sanitize and measure on a machine with an NVIDIA GPU, from a bare checkout.

    python3 benches/gpu.py --output benches/results/NAME.json

Needs nvcc, and compute-sanitizer for that step. `--steps bench` measures what is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv/bin/python"
STEPS = ("build", "test", "sanitize", "bench")
# Operations per second of the int8 matrix units, from data sheets.
INT8_RATES = {"H100": 1.979e15, "H200": 1.979e15, "A100": 624e12, "4090": 661e12}
SANITIZED = "equals_the_reference or hard_cases or blocks_and_threads"


def run(*command: str | Path, **environment: str) -> None:
    print("$", *command, flush=True)
    subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=os.environ | environment, check=True
    )


def build() -> None:
    run("make", ".venv/installed-dev", FASTCLIP_CUDA="1")
    run(PYTHON, "tests/cuda/check_kernels.py")


def test() -> None:
    # Examples are drawn anew in each run; memory is filled with NaN before kernels write it.
    tests = "tests/ops", "tests/sweep/test_run.py"
    run(PYTHON, "-m", "pytest", "--device=cuda", *tests, HYPOTHESIS_PROFILE="quick")


def sanitize() -> None:
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        print("compute-sanitizer is not installed: that step is left out")
        return
    for check in ("memcheck", "racecheck"):
        run(
            *(tool, "--tool", check, "--error-exitcode", "9", "--target-processes", "all"),
            *(PYTHON, "-m", "pytest", "--device=cuda", "tests/ops", "-k", SANITIZED),
            HYPOTHESIS_PROFILE="few",
            PYTORCH_NO_CUDA_MEMORY_CACHING="1",
        )


def median_time(call: Any, rounds: int, synchronize: Any) -> tuple[float, list[float]]:
    call()
    synchronize()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times), times


def bench(arguments: argparse.Namespace) -> None:
    import torch
    from gpu_cases import cases

    from fastclip.config import config

    device = torch.device(arguments.device)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    name = torch.cuda.get_device_name() if device.type == "cuda" else "the CPU"
    memory = torch.randn(2**26 // arguments.shrink, device=device)
    copy, _ = median_time(lambda: memory.clone(), 10, synchronize)
    bandwidth = 2 * memory.nbytes / copy
    rate = next((rate for part, rate in INT8_RATES.items() if part in name), None)
    results = []
    for key, make in cases(device, arguments.shrink).items():
        if arguments.cases and key not in arguments.cases:
            continue
        case = make()
        case.check(case.ours())
        calls = {"fastclip": case.ours, **case.peers}
        times = {
            label: median_time(call, arguments.rounds, synchronize) for label, call in calls.items()
        }
        floors = {"bytes_floor_s": case.bytes / bandwidth}
        if rate is not None:
            floors["operations_floor_s"] = case.operations / rate
        ours = times["fastclip"][0]
        print(
            f"{case.name}: {ours * 1e3:.3f} ms",
            *(f"{k} {v * 1e3:.3f} ms" for k, v in floors.items()),
        )
        for label, (median, _) in times.items():
            print(f"    {label}: {median * 1e3:.3f} ms, {median / ours:.2f} of ours", flush=True)
        results.append(
            {
                "case": key,
                "description": case.name,
                **floors,
                "median_s": {label: median for label, (median, _) in times.items()},
                "times_s": {label: all_times for label, (_, all_times) in times.items()},
            }
        )
        del case, calls
    if arguments.output:
        machine = {"device": name, "copy_bytes_per_s": bandwidth, **config()}
        date = datetime.now(timezone.utc).date().isoformat()
        text = json.dumps({"date": date, "machine": machine, "results": results}, indent=1)
        arguments.output.write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--cases", nargs="+", help="of those in gpu_cases.py; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shrink", type=int, default=1, help="divide sizes, to try this script")
    arguments = parser.parse_args()
    for step in (build, test, sanitize):
        if step.__name__ in arguments.steps:
            step()
    if "bench" in arguments.steps:
        if Path(sys.prefix) != PYTHON.parents[1] and "build" in arguments.steps:
            rest = [*sys.argv[1:], "--steps", "bench"]
            run(PYTHON, Path(__file__).resolve(), *rest)
        else:
            bench(arguments)


if __name__ == "__main__":
    main()
