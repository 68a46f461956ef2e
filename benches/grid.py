"""Top-k against torch over a grid of sizes: benches/grid.py --output benches/results/NAME.json.

Every cell is a ratio: torch's median time over fastclip's. The two take turns of several calls with
a pause before each: the threads of either wait actively for a while, on the cores of the other.
Where the scores of all queries do not fit, torch takes the queries in chunks, its fastest way.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

import fastclip
from fastclip.benchmark.case import unit_rows
from fastclip.benchmark.machine import processor
from fastclip.benchmark.measure import interleaved
from fastclip.benchmark.plan import KEYS, QUERIES
from fastclip.benchmark.tables import grid_table
from fastclip.config import config

WIDTHS = (512, 768, 1024, 1280)
PLACES = (1, 10, 100, 1000)
MOST_OPERATIONS = 3e11  # of a cell: torch takes about 2 s
MOST_SCORES = 1 << 26  # that torch holds at a time
TURNS = 3
PAUSE = 0.02  # seconds


def dense_topk(queries: torch.Tensor, keys: torch.Tensor, k: int) -> Callable[[], list[Any]]:
    """Return torch's call, as short as it can be."""
    chunk = max(1, MOST_SCORES // len(keys))
    if len(queries) <= chunk:
        return lambda: [(queries @ keys.T).topk(k)]
    return lambda: [(rows @ keys.T).topk(k) for rows in queries.split(chunk)]


def check(ours: fastclip.TopK, packed: fastclip.TopK, dense: list[Any]) -> None:
    """Raise AssertionError unless the answers are one; torch's scores are rounded in float32."""
    torch.testing.assert_close(packed.values, ours.values, atol=0, rtol=0)
    torch.testing.assert_close(packed.indices, ours.indices, atol=0, rtol=0)
    torch.testing.assert_close(torch.cat([p.values for p in dense]), ours.values, atol=1e-5, rtol=0)


def medians(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Return the median time of each call, in turns that take about this long together."""
    share = seconds / (TURNS * len(calls))
    times = interleaved(calls, TURNS, seconds=share, pause=PAUSE)
    return {name: statistics.median(t) for name, t in times.items()}


def cells() -> list[tuple[int, int, int, int]]:
    """Return (queries, keys, d, k): all of them at d = 512, k = 10 alone at the other widths."""
    return [
        (n, v, d, k)
        for v, d, n, k in itertools.product(KEYS, WIDTHS, QUERIES, PLACES)
        if k <= v and 2.0 * n * v * d <= MOST_OPERATIONS and (d == 512 or k == 10)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.3, help="for each cell, about")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    keys, packed = torch.empty(0, 0), None
    for n, v, d, k in track(cells(), "Measuring"):
        if keys.shape != (v, d):
            keys = unit_rows(v, d, 1)
            packed = fastclip.pack(keys, copy=False)
        queries = unit_rows(n, d, 0)
        calls = {
            "fastclip": lambda q=queries, x=keys, k=k: fastclip.topk(q, x, k),
            "packed": lambda q=queries, x=packed, k=k: fastclip.topk(q, x, k),
            "torch": dense_topk(queries, keys, k),
        }
        check(*(call() for call in calls.values()))
        seconds = medians(calls, arguments.seconds)
        rows.append({"queries": n, "keys": v, "d": d, "k": k, "seconds": seconds})
    show(rows)
    if arguments.output:
        machine = {"processor": processor(), **config()}
        when = datetime.now(timezone.utc).date().isoformat()
        text = json.dumps({"date": when, "machine": machine, "cells": rows}, indent=1)
        arguments.output.write_text(text + "\n")


def show(rows: list[dict[str, Any]]) -> None:
    for d in WIDTHS:
        for k in PLACES if d == 512 else (10,):
            some = [row for row in rows if (row["d"], row["k"]) == (d, k)]
            Console(width=140).print(grid_table(some, f"d = {d}, k = {k}", "torch"))


if __name__ == "__main__":
    main()
