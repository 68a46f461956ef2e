"""The tables of docs/performance/scale.md, from measured rates: python benches/scale.py [--write].

Prints them, or writes them into the document, each between its two marks.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import re
import statistics
from pathlib import Path

IMAGES, WORDS, DIM = 5e9, 1e6, 512
DOCUMENT = Path(__file__).parent.parent / "docs" / "performance" / "scale.md"
RESULTS = Path(__file__).parent / "results" / "epyc-zen5-2-cores.json"
CORES = 64  # of a node
H100_SECONDS = (
    0.034,
    0.043,
)  # for 50,000 x 1,000,000: the prediction of csrc/cuda/arch/mainloop_sm90.cuh
CORE_HOUR, H100_HOUR = 0.05, 3.0  # US dollars: round numbers to calculate with, no quotations

QUESTIONS = {
    "10 best words of each image": ("topk-real", "fastclip.topk, packed keys"),
    "images that each word takes": ("count-real", "fastclip.count_above, packed keys"),
    "log-sum-exp of each image": ("logsumexp", "fastclip.logsumexp"),
}


def rate(case: str, call: str) -> float:
    """Return the measured pairs per second of one core."""
    measured = json.loads(RESULTS.read_text())
    threads = int(measured["machine"]["threads"])
    rows = next(result["rows"] for result in measured["results"] if result["case"] == case)
    row = next(row for row in rows if row["call"] == call)
    return float(row["giga_per_s"]) * 1e9 / (2 * DIM) / threads


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def bytes_table() -> str:
    rows = [
        ["image features, float16", IMAGES * DIM * 2],
        ["word features, float32", WORDS * DIM * 4],
        ["words, packed: codes and bounds", WORDS * (DIM + 12)],
        ["10 words of each image: indices int64, scores float32, number", IMAGES * (10 * 12 + 8)],
        ["the matrix of scores, float32, which is never made", IMAGES * WORDS * 4],
    ]
    return table(["what", "bytes"], [[name, f"{size / 1e9:,.1f} GB"] for name, size in rows])


def cost_table() -> str:
    rows = []
    for name, (case, call) in QUESTIONS.items():
        core_hours = IMAGES * WORDS / rate(case, call) / 3600
        images = rate(case, call) * CORES / WORDS
        rows.append(
            [
                f"{name}, {CORES}-core nodes",
                f"{core_hours:,.0f} core-hours",
                *(hours(core_hours / CORES / nodes) for nodes in (1, 16, 128)),
                f"{images * DIM * 2 / 1e6:,.0f} MB/s",
                f"${core_hours * CORE_HOUR:,.0f}",
            ]
        )
    low, high = (IMAGES / 50_000 * WORDS / 1e6 * seconds / 3600 for seconds in H100_SECONDS)
    rows.append(
        [
            "10 best words of each image, H100 (predicted)",
            f"{low:.2f} to {high:.2f} GPU-hours",
            *(f"{hours(low / n)} to {hours(high / n)}" for n in (1, 16, 128)),
            f"{IMAGES * DIM * 2 / high / 3600 / 1e6:,.0f} to "
            f"{IMAGES * DIM * 2 / low / 3600 / 1e6:,.0f} MB/s",
            f"${low * H100_HOUR:.0f} to ${high * H100_HOUR:.0f}",
        ]
    )
    head = ["question, on", "work", "1 of them", "16", "128", "each reads", "at the rates below"]
    return table(head, rows)


def hours(time: float) -> str:
    return f"{time:,.1f} h" if time >= 1 else f"{time * 60:,.1f} min"


def simulate(
    nodes: int, shards: int, seconds: float, life: float, away: float, start: float, seed: int
) -> tuple[float, float]:
    """Return when the last shard is finished, and the work that was lost, both in seconds.

    Nodes take the next shard when they are free. One is lost after a time with the mean ``life``,
    and with it what it has of its shard, which is made again by another; a new one comes ``away``
    seconds later. Each needs ``start`` seconds before its first shard.
    """
    generator = random.Random(seed)
    deaths = [generator.expovariate(1 / life) for _ in range(nodes)]
    events = [(start, node, "free") for node in range(nodes)]
    waiting, finished, lost, idle = shards, 0, 0.0, list[int]()
    while finished < shards:
        now, node, what = heapq.heappop(events)
        if what == "lost":
            waiting += 1
            deaths[node] = now + away + generator.expovariate(1 / life)
            heapq.heappush(events, (now + away + start, node, "free"))
            if idle:
                heapq.heappush(events, (now, idle.pop(), "free"))
            continue
        finished += what == "done"
        if deaths[node] <= now:  # while it had nothing to do, or was starting
            deaths[node] = now + away + generator.expovariate(1 / life)
            heapq.heappush(events, (now + away + start, node, "free"))
        elif not waiting:
            idle.append(node)
        else:
            waiting -= 1
            end = min(now + seconds, deaths[node])
            lost += end - now if end < now + seconds else 0
            heapq.heappush(events, (end, node, "done" if end == now + seconds else "lost"))
    return now, lost


def schedule_table(seeds: int = 10) -> str:
    """Time of 16 nodes beyond that of nodes which are never lost and share the work evenly."""
    nodes, away, start = 16, 180.0, 30.0
    work = IMAGES * WORDS / rate(*QUESTIONS["10 best words of each image"]) / CORES
    rows = []
    for seconds in (10, 60, 300, 1800):
        row = [f"{seconds:,} s", f"{work / seconds:,.0f}"]
        for life in (2, 24, 720):
            runs = [
                simulate(nodes, round(work / seconds), seconds, life * 3600, away, start, seed)
                for seed in range(seeds)
            ]
            more = statistics.mean(end for end, _ in runs) / (work / nodes) - 1
            lost = statistics.mean(lost for _, lost in runs) / work
            row.append(f"{more:.1%} ({lost:.1%})")
        rows.append(row)
    lives = ["2 hours", "a day", "a month"]
    return table(["a shard takes", "shards", *(f"a node lasts {life}" for life in lives)], rows)


def tables() -> dict[str, str]:
    return {"bytes": bytes_table(), "cost": cost_table(), "schedule": schedule_table()}


def written(document: str) -> str:
    """Return the document with its tables as they are calculated now."""
    for name, text in tables().items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        document, count = mark.subn(lambda found, text=text: found[1] + text + found[2], document)
        if count != 1:
            raise ValueError(f"{DOCUMENT}: has {count} tables {name!r}, 1 is needed")
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/performance/scale.md")
    if parser.parse_args().write:
        DOCUMENT.write_text(written(DOCUMENT.read_text("utf-8")), "utf-8")
    else:
        print("\n".join(tables().values()))


if __name__ == "__main__":
    main()
