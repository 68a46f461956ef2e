"""Measure a case against its peers in the same process: python benches/run.py topk [topk-real ...].

Calls are interleaved and the median is reported, with the middle half of the times as spread. An
answer that fails its check stops the run before any time is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from all_cases import CASES
from rich.console import Console

from fastclip.benchmark.machine import machine
from fastclip.benchmark.measure import measure
from fastclip.benchmark.peak import peaks
from fastclip.benchmark.results import record, result, write_record
from fastclip.benchmark.tables import case_table

# What holds peers to an instruction set where they would use more.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "FAISS_OPT_LEVEL": "AVX2",
}
ISAS: dict[str, dict[str, str]] = {
    "amx": {},
    "avx512_vnni": {},
    "avx512": {},
    "avx2_vnni": AVX2,
    "avx2": AVX2,
}


def hold_to(isa: str) -> None:
    """Start this program again, with all libraries held to an instruction set."""
    settings = {"FASTCLIP_CPU_CAPABILITY": isa, **ISAS[isa]}
    if any(os.environ.get(name) != value for name, value in settings.items()):
        os.environ.update(settings)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def add_result(path: Path, new: dict[str, Any]) -> None:
    """Write a case's result to the file, in place of an older one of the same case."""
    results = json.loads(path.read_text())["results"] if path.exists() else []
    results = [old for old in results if old["case"] != new["case"]] + [new]
    write_record(path, record(machine(), results))


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
    peak = peaks(arguments.threads)
    for name in arguments.cases:
        case = None  # gives the memory of the last one back
        case = CASES[name]()
        found = result(name, case, measure(case, arguments.rounds, peak), peak)
        Console(width=170).print(case_table(found))
        if arguments.output:
            add_result(arguments.output, found)


if __name__ == "__main__":
    main()
