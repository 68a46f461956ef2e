"""Times of the calls of a case, in turns, and what a result file says of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from fastclip.benchmark.case import CPU, Call, Case
from fastclip.benchmark.clock import elapsed, peak_bytes


class WrongAnswer(ValueError):
    """A call whose answer fails its check: no time of it is of use."""


def first_call(call: Call, device: torch.device = CPU) -> tuple[Any, float, int | None]:
    """Return the answer, the seconds that it took, and the bytes of memory beside it.

    These are by how much the memory of this process was larger during the call than before; None
    where the system does not tell. What a library keeps from earlier calls does not count: call it
    before anything else has run.
    """
    if device.type == "cuda":
        kept: list[Any] = []
        seconds = elapsed(lambda: kept.append(call()), device)
        answer = kept.pop()
        return answer, seconds, peak_bytes(call, device)
    before = None
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _resident("VmRSS")
    except OSError:
        pass
    begin = time.perf_counter()
    answer = call()
    seconds = time.perf_counter() - begin
    return answer, seconds, None if before is None else max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    """A memory size of this process from the kernel's record, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def interleaved(
    calls: Mapping[str, Call],
    rounds: int,
    *,
    seconds: float = 0.0,
    pause: float = 0.0,
    device: torch.device = CPU,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Return the times of each call, which take turns.

    A turn is one call, or as many as fit into ``seconds``. With a pause before it, the threads of
    the library that was called before no longer wait actively on the cores, and a short call is
    made once more first, to wake its own.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times = found[name]
            if pause:
                time.sleep(pause)
                if not times or times[-1] < pause:
                    call()
            end = time.perf_counter() + seconds
            before = len(times)
            while len(times) == before or time.perf_counter() < end:
                times.append(elapsed(call, device))
        tick()
    return found


def measure(
    case: Case,
    rounds: int,
    peak: Mapping[str, float],
    *,
    seconds: float = 0.0,
    pause: float = 0.0,
    tick: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Check all answers, time all calls, and return a row for each.

    ``seconds`` and ``pause`` are those of `interleaved`. ``tick`` is called after the checks and
    after each round.

    Raises
    ------
    WrongAnswer
        An answer fails its check; nothing is timed then.
    """
    memory, unsupported, times = {}, {}, {}
    answers = {}  # of slow calls, which are made once
    for name, call in {**case.ours, **case.peers}.items():
        try:
            answer, first, memory[name] = first_call(call, case.device)
        except Exception as error:
            if name in case.ours:
                raise
            unsupported[name] = str(error)  # whatever a peer raises where it cannot do a case
            continue
        times[name] = [first] if name in case.slow else []
        if name in case.slow:
            answers[name] = answer
        del answer
    calls = {name: call for name, call in {**case.ours, **case.peers}.items() if name in times}
    for name, call in calls.items():
        try:
            case.check(name, answers.pop(name) if name in answers else call())
        except AssertionError as error:
            reason = " ".join(str(error).split())
            raise WrongAnswer(f"{name}: wrong answer to {case.description}: {reason}") from error
    tick()
    quick = {name: call for name, call in calls.items() if name not in case.slow}
    times |= interleaved(quick, rounds, seconds=seconds, pause=pause, device=case.device, tick=tick)
    return _rows(case, times, memory, peak) + [
        {"call": name, "unsupported": why} for name, why in unsupported.items()
    ]


def _rows(
    case: Case,
    times: Mapping[str, list[float]],
    memory: Mapping[str, int | None],
    peak: Mapping[str, float],
) -> list[dict[str, Any]]:
    medians = {name: statistics.median(t) for name, t in times.items()}
    rows = []
    for name, t in times.items():
        quarter = statistics.quantiles(t, n=4) if len(t) > 1 else [t[0]] * 3
        rate = case.work / medians[name] / 1e9
        rows.append(
            {
                "call": name,
                "median_s": medians[name],
                "quartiles_s": [quarter[0], quarter[2]],
                "rounds": len(t),
                "giga_per_s": rate,
                "share_of_peak": rate / peak[case.unit] if case.unit in peak else None,
                "extra_memory_bytes": memory[name],
                "speed_over": {
                    peer: medians[peer] / medians[name] for peer in case.peers if peer in medians
                },
            }
        )
    return rows
