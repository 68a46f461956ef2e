"""Measure a case against its peers in the same process: python benches/run.py topk [topk-real ...].

Calls are interleaved and the median is reported, with the middle half of the times as spread. An
answer that fails its check stops the run before any time is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from all_cases import CASES
from cases import Case
from rich.console import Console
from rich.table import Table

from fastclip.config import config
from fastclip.data.job_folder import text_file


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


# Flags of peak.cpp for each instruction set, and what holds peers to it where they would use more.
ISAS = {
    "amx": ("-march=native", {}),
    "avx512_vnni": ("-march=x86-64-v4 -mavx512vnni", {}),
    "avx512": ("-march=x86-64-v4", {}),
    **{
        name: (
            flags,
            {
                "ATEN_CPU_CAPABILITY": "avx2",
                "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                "ONEDNN_MAX_CPU_ISA": "AVX2",
                "OPENBLAS_CORETYPE": "Haswell",
                "FAISS_OPT_LEVEL": "AVX2",
            },
        )
        for name, flags in {
            "avx2_vnni": "-march=x86-64-v3 -mavxvnni",
            "avx2": "-march=x86-64-v3",
        }.items()
    },
}


def hold_to(isa: str) -> None:
    """Start this program again, with all libraries held to an instruction set."""
    settings = {"FASTCLIP_CPU_CAPABILITY": isa, **ISAS[isa][1]}
    if any(os.environ.get(name) != value for name, value in settings.items()):
        os.environ.update(settings)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def peaks(threads: int, isa: str | None) -> dict[str, float]:
    """Return what peak.cpp measures: GFLOP/s of each number type and GB/s read from memory.

    The best of five runs, since some are disturbed.
    """
    source = Path(__file__).parent / "peak.cpp"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        march = ISAS[isa][0].split() if isa else ["-march=native"]
        flags = ["-std=c++20", "-O3", *march, "-ffp-contract=fast", "-pthread"]
        subprocess.run(["c++", *flags, source, "-o", program], check=True)
        call = [program, str(threads)]
        found = [
            json.loads(subprocess.run(call, check=True, capture_output=True).stdout)
            for _ in range(5)
        ]
    return {name: max(run[name] for run in found) for name in found[0]}


def resident(field: str) -> int:
    """Return a memory size of this process from the kernel's record, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def first_call(call: Any) -> tuple[Any, float, int]:
    """Return the answer, the seconds that it took, and the bytes of memory beside it.

    These are by how much the memory of this process was larger during the call than before. What a
    library keeps from earlier calls does not count: call it before anything else has run.
    """
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    begin = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - begin, max(0, resident("VmHWM") - before)


def measure(case: Case, rounds: int, peak: dict[str, float]) -> list[dict[str, Any]]:
    memory, unsupported, times = {}, {}, {}
    answers = {}  # of slow calls, which are made once
    for name, call in {**case.ours, **case.peers}.items():
        try:
            answer, seconds, memory[name] = first_call(call)
        except Exception as error:
            if name in case.ours:
                raise
            unsupported[name] = str(error)  # whatever a peer raises where it cannot do a case
            continue
        times[name] = [seconds] if name in case.slow else []
        if name in case.slow:
            answers[name] = answer
        del answer
    calls = {name: call for name, call in {**case.ours, **case.peers}.items() if name in times}
    peers = [name for name in case.peers if name in times]
    for name, call in calls.items():
        case.check(name, answers.pop(name) if name in answers else call())
    for _ in range(rounds):
        for name, call in calls.items():
            if name in case.slow:
                continue
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(t) for name, t in times.items()}
    rows = []
    for name, t in times.items():
        quarter = statistics.quantiles(t, n=4) if len(t) > 1 else [t[0]] * 3
        rows.append(
            {
                "call": name,
                "median_s": medians[name],
                "quartiles_s": [quarter[0], quarter[2]],
                "rounds": len(t),
                "giga_per_s": case.work / medians[name] / 1e9,
                "share_of_peak": case.work / medians[name] / 1e9 / peak[case.unit],
                "extra_memory_bytes": memory[name],
                "speed_over": {peer: medians[peer] / medians[name] for peer in peers},
            }
        )
    return rows + [{"call": name, "unsupported": why} for name, why in unsupported.items()]


def show(case: Case, rows: list[dict[str, Any]]) -> None:
    table = Table(title=case.description)
    table.add_column("call")
    unit = "GB/s" if case.unit == "bytes" else "GFLOP/s"
    columns = ("median", "middle half", unit, f"of {case.unit} peak", "extra memory")
    for column in (*columns, *(f"speed / {peer}" for peer in case.peers)):
        table.add_column(column, justify="right")
    for row in rows:
        if "unsupported" in row:
            table.add_row(row["call"], "unsupported")
            continue
        low, high = row["quartiles_s"]
        table.add_row(
            row["call"],
            f"{row['median_s'] * 1e3:.2f} ms",
            f"{low * 1e3:.2f} to {high * 1e3:.2f}",
            f"{row['giga_per_s']:.0f}",
            f"{row['share_of_peak']:.0%}",
            f"{row['extra_memory_bytes'] / 2**20:,.0f} MiB",
            *(f"{row['speed_over'].get(peer, float('nan')):.2f}" for peer in case.peers),
        )
    Console(width=170).print(table)


def add_result(path: Path, result: dict[str, Any]) -> None:
    """Write a case's result to the file, in place of an older one of the same case."""
    results = json.loads(path.read_text())["results"] if path.exists() else []
    results = [old for old in results if old["case"] != result["case"]] + [result]
    machine = {"processor": processor(), "system": platform.platform(), **config()}
    when = datetime.now(timezone.utc).date().isoformat()
    text = json.dumps({"date": when, "machine": machine, "results": results}, indent=1)
    with text_file(path) as file:
        file.write(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=sorted(CASES), metavar="case")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--isa", choices=ISAS, help="hold all sides to this instruction set")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    arguments = parser.parse_args()
    if arguments.isa:
        hold_to(arguments.isa)
    torch.set_num_threads(arguments.threads)
    peak = peaks(arguments.threads, arguments.isa)
    for name in arguments.cases:
        case = None  # gives the memory of the last one back
        case = CASES[name]()
        rows = measure(case, arguments.rounds, peak)
        show(case, rows)
        if arguments.output:
            result = {
                "case": name,
                "description": case.description,
                "unit": case.unit,
                "peak_giga_per_s": peak[case.unit],
                "rows": rows,
            }
            add_result(arguments.output, result)


if __name__ == "__main__":
    main()
