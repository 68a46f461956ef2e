"""Measure the cases of gpu_cases.py on a device: python benches/gpu_bench.py --output NAME.json

The result is written after each case. One that hangs ends the process, and so does one after which
the device cannot be used; with `--resume` the next process goes on behind it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import statistics
import sys
import traceback
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from gpu_cases import Data, GpuCase, cases
from gpu_steps import write_json

from fastclip.benchmark.clock import copy_bandwidth, peak_bytes, synchronize, times
from fastclip.config import config

# Operations per second of the int8 matrix units, from data sheets.
INT8_RATES = {"H100": 1.979e15, "H200": 1.979e15, "A100": 624e12, "4090": 661e12}

FLOORS = {"operations_floor_s": "int8 peak", "bytes_floor_s": "copy"}


def measure(
    case: GpuCase, device: torch.device, rounds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Check our answers and time each call; one that fails says why, and the others go on."""
    for label, call in {**case.ours, **case.peers}.items():
        try:
            if label in case.ours:
                case.check(call())
            memory = peak_bytes(call, device)
            all_times = times(call, device, rounds)
        except Exception:
            yield label, {"error": traceback.format_exc(limit=-3)}
            synchronize(device)  # raises if the device cannot be used any more
        else:
            median = statistics.median(all_times)
            yield label, {"median_s": median, "times_s": all_times, "peak_bytes": memory}


def floors(case: GpuCase, bandwidth: float, rate: float | None) -> dict[str, float]:
    by_bytes = {"bytes_floor_s": case.bytes / bandwidth}
    return by_bytes if rate is None else {**by_bytes, "operations_floor_s": case.operations / rate}


def show(case: GpuCase, result: dict[str, Any], label: str) -> None:
    call = result["calls"][label]
    if "error" in call:
        print(f"    {label}: FAILED\n{call['error']}", flush=True)
        return
    seconds = call["median_s"]
    said = [f"{seconds * 1e3:.3f} ms", f"{case.operations / seconds / 1e12:.3g} TOP/s"]
    ours = result["calls"]["fastclip"].get("median_s")
    if ours is not None:
        said.append(f"{seconds / ours:.2f} of ours")
    if label in case.ours:
        said += [
            f"{result[floor] / seconds:.0%} of the {what}"
            for floor, what in FLOORS.items()
            if floor in result
        ]
    if call["peak_bytes"] is not None:
        said.append(f"{call['peak_bytes'] / 2**20:,.0f} MiB")
    print(f"    {label}: {', '.join(said)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--cases", nargs="+", metavar="CASE", help="of gpu_cases.py; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shrink", type=int, default=1, help="divides numbers of rows")
    parser.add_argument("--seconds", type=float, default=60, help="the limit of a case")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    data = Data(device, arguments.shrink)
    made = cases(data)
    chosen = arguments.cases or list(made)
    if unknown := set(chosen) - set(made):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(made)}")

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    rate = next((rate for part, rate in INT8_RATES.items() if part in name), None)
    bandwidth = copy_bandwidth(device, arguments.shrink)
    record: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": {"device": name, "copy_bytes_per_s": bandwidth, **config()},
        "shrink": arguments.shrink,
        "cases": chosen,
        "results": [],
    }
    if arguments.resume and arguments.output.exists():
        record["results"] = json.loads(arguments.output.read_text())["results"]
    results = record["results"]
    done = {result["case"] for result in results}
    for key in chosen:
        if key in done:
            continue
        result: dict[str, Any] = {"case": key, "error": "it ended the process", "calls": {}}
        results.append(result)
        write_json(arguments.output, record)
        faulthandler.dump_traceback_later(arguments.seconds, exit=True)
        try:
            case = made[key]()
            result |= {"description": case.name, **floors(case, bandwidth, rate)}
            print(case.name, *(f"{k} {x * 1e3:.3f} ms" for k, x in result.items() if k in FLOORS))
            for label, call in measure(case, device, arguments.rounds):
                result["calls"][label] = call
                write_json(arguments.output, record)
                show(case, result, label)
            del result["error"], case
        except Exception:
            result["error"] = traceback.format_exc()
            print(f"{key}: FAILED\n{result['error']}", flush=True)
            write_json(arguments.output, record)
            synchronize(device)
        finally:
            faulthandler.cancel_dump_traceback_later()
        write_json(arguments.output, record)
    failed = [r["case"] for r in results if any("error" in x for x in (r, *r["calls"].values()))]
    print(f"{len(results)} cases, failed: {', '.join(failed) or 'none'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
