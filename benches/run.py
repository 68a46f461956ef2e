"""Measure a case against its peers in the same process: python benches/run.py topk [topk-real ...].

Calls are interleaved and the median is reported, with the middle half of the times as spread. An
answer that fails its check stops the run before any time is printed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Case
from rich.console import Console
from rich.table import Table

from fastclip.config import config


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def peak_gflops(seconds: float = 1.0) -> float:
    """Return the best float32 rate of torch's matrix product on these threads."""
    a = torch.randn(2048, 2048)
    best, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        a @ a
        best = max(best, 2 * 2048**3 / (time.perf_counter() - begin) / 1e9)
    return best


def measure(case: Case, rounds: int) -> list[dict[str, Any]]:
    calls = {**case.ours, **case.peers}
    for name, call in calls.items():
        case.check(name, call())
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
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
                "gflops": case.operations / medians[name] / 1e9,
                "speed_over": {peer: medians[peer] / medians[name] for peer in case.peers},
            }
        )
    return rows


def show(case: Case, rows: list[dict[str, Any]], peak: float) -> None:
    table = Table(title=case.description)
    table.add_column("call")
    columns = ("median", "middle half", "GFLOP/s", "of torch mm at its best")
    for column in (*columns, *(f"speed / {peer}" for peer in case.peers)):
        table.add_column(column, justify="right")
    for row in rows:
        low, high = row["quartiles_s"]
        table.add_row(
            row["call"],
            f"{row['median_s'] * 1e3:.2f} ms",
            f"{low * 1e3:.2f} to {high * 1e3:.2f}",
            f"{row['gflops']:.0f}",
            f"{row['gflops'] / peak:.0%}",
            *(f"{ratio:.2f}" for ratio in row["speed_over"].values()),
        )
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=sorted(CASES), metavar="case")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each side")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    for name in arguments.cases:
        case = CASES[name]()
        peak = peak_gflops()
        rows = measure(case, arguments.rounds)
        show(case, rows, peak)
        results.append(
            {
                "case": name,
                "description": case.description,
                "best_torch_mm_gflops": peak,
                "rounds": arguments.rounds,
                "rows": rows,
            }
        )
    if arguments.output:
        machine = {"processor": processor(), "system": platform.platform(), **config()}
        when = datetime.now(timezone.utc).date().isoformat()
        text = json.dumps({"date": when, "machine": machine, "results": results}, indent=1)
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
