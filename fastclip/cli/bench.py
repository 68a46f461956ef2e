"""``fastclip bench``: an operation beside its peers, at one's own sizes on one's own machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastclip.cli._common import progress, writable, written

if TYPE_CHECKING:
    import torch

    from fastclip.benchmark.plan import Inputs, Size

_ENDINGS = (".json", ".html", ".png", ".svg")
_TURN = 0.05  # seconds: shorter calls are repeated so long
_PAUSE = 0.02  # seconds before each turn


def command(
    op: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Operations: topk, rank, count_above, group_max, logsumexp, softmax_topk.",
        ),
    ] = "topk",
    queries: Annotated[int, typer.Option(min=1, help="Number of queries.")] = 1000,
    keys: Annotated[int, typer.Option(min=1, help="Number of keys.")] = 100_000,
    dim: Annotated[int, typer.Option(min=1, help="Width of both.")] = 512,
    k: Annotated[
        int,
        typer.Option(
            "-k",
            "--k",
            min=1,
            help="Keys per query; for rank and count_above the place that is asked for, for "
            "group_max the size of a group.",
        ),
    ] = 10,
    grid: Annotated[
        bool, typer.Option("--grid", help="Measure a grid of sizes, up to these.")
    ] = False,
    peers: Annotated[
        str, typer.Option(metavar="NAME,...", help="Libraries to compare with: torch, faiss.")
    ] = "torch,faiss",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of all sides. Default: those of torch.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each call.")] = 7,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the results: .json, .html, .png or .svg. Can be given several times.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure operations at your own sizes, beside torch and FAISS.

    All sides get the same random rows of length 1 and the same threads, and take turns after a
    warm-up. An answer that is wrong ends the run before any time is shown.
    """
    targets = [_target(path) for path in output or []]
    ops = _names(op)
    if not ops:
        raise typer.BadParameter("names no operation", param_hint="'--op'")

    import torch

    from fastclip.benchmark.plan import Inputs, Size, check_sizes, choose_peers
    from fastclip.benchmark.plan import grid as sizes_of_grid
    from fastclip.benchmark.questions import FOR_FAISS, QUESTIONS

    for name in ops:
        if name not in QUESTIONS:
            raise ValueError(f"--op: is {name!r}, allowed: {', '.join(QUESTIONS)}")
    chosen, missing = choose_peers(_names(peers))
    if "faiss" in chosen and not set(ops) & set(FOR_FAISS):
        missing.append(f"faiss has no call for {', '.join(ops)} and is not measured")
    place = _device(device)
    largest = Size(queries, keys, dim, k)
    sizes = sizes_of_grid(largest) if grid else [largest]
    check_sizes([largest], chosen, place)
    for line in missing:
        typer.echo(line, err=True)
    if threads is not None:
        torch.set_num_threads(threads)

    run = _Run(targets, as_json, grid, place)
    try:
        run.measure(ops, sizes, Inputs(place, chosen), rounds)
    except KeyboardInterrupt:
        done = len(run.results)
        typer.echo(f"interrupted after {done:,} of {len(ops) * len(sizes):,} questions", err=True)
        run.show()
        raise
    run.show()


class _Run:
    """Results so far; files hold those that are finished, whatever happens later."""

    def __init__(
        self, targets: list[Path], as_json: bool, grid: bool, device: torch.device
    ) -> None:
        self.targets, self.as_json, self.grid, self.device = targets, as_json, grid, device
        self.results: list[dict[str, Any]] = []

    def measure(self, ops: list[str], sizes: list[Size], inputs: Inputs, rounds: int) -> None:
        import torch

        from fastclip.benchmark.measure import measure
        from fastclip.benchmark.peak import device_peaks, peaks
        from fastclip.benchmark.results import result

        done, total = 0, len(ops) * len(sizes) * (rounds + 1)
        with progress("measuring", "turns") as report:
            report(0, total)

            def tick() -> None:
                nonlocal done
                done += 1
                report(done, total)

            on_cuda = self.device.type == "cuda"
            peak = device_peaks(self.device) if on_cuda else peaks(torch.get_num_threads())
            for size in sizes:
                for op in ops:
                    case = inputs.case(op, size)
                    rows = measure(case, rounds, peak, seconds=_TURN, pause=_PAUSE, tick=tick)
                    name = f"{op}-{size.queries}x{size.keys}x{size.dim}-{size.k}"
                    sized = {"op": op, **vars(size), "checked": True}
                    self.results.append({**result(name, case, rows, peak), **sized})
                    del case  # gives its memory back
                    self._write(".json")

    def record(self) -> dict[str, Any]:
        from fastclip.benchmark.machine import machine
        from fastclip.benchmark.results import record

        return record(machine(self.device), self.results)

    def cells(self) -> list[dict[str, Any]]:
        """Sizes and times of a grid."""
        from fastclip.benchmark.tables import best_times

        names = ("op", "queries", "keys", "dim", "k")
        return [
            {**{name: result[name] for name in names}, "seconds": best_times(result)}
            for result in self.results
            if self.grid
        ]

    @property
    def beside_peers(self) -> bool:
        return any(len(cell["seconds"]) > 2 for cell in self.cells())

    def _write(self, *kinds: str) -> None:
        from fastclip.benchmark.results import write_record

        for target in self.targets:
            if target.suffix not in kinds:
                continue
            if target.suffix == ".json":
                write_record(target, self.record())
                continue
            from fastclip.report.benchmark import write_benchmark_page, write_benchmark_picture

            write = write_benchmark_page if target.suffix == ".html" else write_benchmark_picture
            write(target, self.record(), self.cells() if self.beside_peers else [])

    def show(self) -> None:
        if not self.results:
            return
        self._write(*_ENDINGS)
        if self.as_json:
            import json

            typer.echo(json.dumps(self.record(), indent=1))
            return
        from rich.console import Console

        from fastclip.benchmark.tables import case_table, grid_table

        console = Console()
        if not console.is_terminal:
            console = Console(width=200)  # a file or another program: no cell is broken
        if self.grid and self.beside_peers:
            for op in dict.fromkeys(result["op"] for result in self.results):
                cells = [cell for cell in self.cells() if cell["op"] == op]
                names = dict.fromkeys(who for cell in cells for who in cell["seconds"])
                sized = f"{op}, {cells[0]['dim']:,} wide, k = {cells[0]['k']:,}"
                for peer in (who for who in names if who not in ("fastclip", "packed")):
                    console.print(grid_table(cells, sized, peer))
        else:
            for result in self.results:
                console.print(case_table(result))
        facts = self.record()["machine"]
        where = facts.get("device", facts["processor"])
        threads = f"{facts['threads']} thread{'' if facts['threads'] == '1' else 's'}"
        typer.echo(
            f"{where}, {threads}, {facts['instruction set in use']}; "
            f"fastclip {facts['fastclip']}, torch {facts['torch']}; all answers were checked"
        )
        for target in self.targets:
            typer.echo(written(target))


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _target(path: Path) -> Path:
    if path.suffix not in _ENDINGS:
        raise ValueError(f"--output: is {path}, allowed: names that end in {', '.join(_ENDINGS)}")
    return writable(path)


def _device(name: str) -> torch.device:
    import torch

    from fastclip.config import config
    from fastclip.engine.devices import BUILT, driver_problem

    if name != "cpu" and name.partition(":")[0] != "cuda":
        raise ValueError(f"--device: is {name!r}, allowed: cpu, cuda, cuda:0 and so on")
    if name != "cpu" and (not BUILT or driver_problem() or not torch.cuda.is_available()):
        raise ValueError(f"--device: is {name!r}, but there is no CUDA here ({config()['CUDA']})")
    return torch.device(name)
