"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def duration(seconds: float) -> str:
    """Return a time in a unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1 or unit == "µs":
            return f"{seconds * scale:.3g} {unit}" if seconds < 100 else f"{seconds:,.0f} s"
    raise AssertionError


def case_table(result: dict[str, Any]) -> Table:
    """One result: a row for each call, and its speed relative to each peer."""
    from rich.table import Table

    rows = result["rows"]
    peers = list(next((row["speed_over"] for row in rows if "speed_over" in row), {}))
    unit = "GB/s" if result["unit"] == "bytes" else "GFLOP/s"
    table = Table(title=result["description"])
    table.add_column("call")
    columns = ("median", "middle half", unit, f"of {result['unit']} peak", "extra memory")
    for column in (*columns, *(f"speed / {peer}" for peer in peers)):
        table.add_column(column, justify="right")
    for row in rows:
        if "unsupported" in row:
            table.add_row(row["call"], "unsupported")
            continue
        low, high = map(duration, row["quartiles_s"])
        share, memory = row["share_of_peak"], row["extra_memory_bytes"]
        table.add_row(
            row["call"],
            duration(row["median_s"]),
            f"{low} to {high}",
            f"{row['giga_per_s']:,.3g}" if row["giga_per_s"] < 100 else f"{row['giga_per_s']:,.0f}",
            "unknown" if share is None else f"{share:.0%}",
            "unknown" if memory is None else f"{memory / 2**20:,.0f} MiB",
            *(f"{row['speed_over'][peer]:.2f}" for peer in peers),
        )
    return table


def best_times(result: dict[str, Any]) -> dict[str, float]:
    """Return the median of our calls, and of the fastest of each peer's: torch, FAISS."""
    found: dict[str, float] = {}
    for row in result["rows"]:
        if "median_s" not in row:
            continue
        who = row["call"].split()[0]
        if who.startswith("fastclip."):
            who = "packed" if row["call"].endswith("packed keys") else "fastclip"
        found[who] = min(found.get(who, float("inf")), row["median_s"])
    return found


def grid_table(cells: Sequence[dict[str, Any]], title: str, peer: str) -> Table:
    """Ratios over a grid of sizes: a peer's time over ours, with keys as they are and packed."""
    from rich.table import Table

    said = f"{title}: time of {peer} / ours, keys / packed keys"
    table = Table(title=said, min_width=len(said) + 1)
    table.add_column("keys", justify="right")
    counts = sorted({cell["queries"] for cell in cells})
    for n in counts:
        table.add_column(f"{n:,} {'query' if n == 1 else 'queries'}", justify="right")
    by_size = {(cell["queries"], cell["keys"]): cell["seconds"] for cell in cells}
    for v in sorted({cell["keys"] for cell in cells}):
        shown = []
        for n in counts:
            seconds = by_size.get((n, v), {})
            ratios = [
                f"{seconds[peer] / seconds[ours]:.2f}"
                for ours in ("fastclip", "packed")
                if peer in seconds
            ]
            shown.append(" / ".join(ratios))
        table.add_row(f"{v:,}", *shown)
    return table
