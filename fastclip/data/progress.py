"""Progress on stderr: a bar where it can be drawn, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 30.0
"""Seconds from one line to the next, and before the first: shorter jobs print nothing."""

Report = Callable[..., None]
"""Takes the number of units done so far and that of all, and optionally a note such as a loss."""


@contextmanager
def progress(label: str, unit: str, *, shown: bool = True) -> Iterator[Report]:
    """Yield a function that takes the number of units done so far and that of all.

    A bar with rate and time left is drawn where stderr is a terminal, and in notebooks that have
    ipywidgets. Elsewhere (Slurm, nohup, CI), a line with the same is printed every 30 seconds. What
    is done at the first call does not count for the rate.
    """
    if not shown:
        yield lambda done, total, note="": None
        return
    from rich.console import Console

    console = Console(stderr=True)
    notebook = console.is_jupyter and find_spec("ipywidgets") is not None  # rich draws with it
    if not (console.is_terminal or notebook):
        yield _Lines(label, unit)
        return
    with _bar(console, label, unit) as report:
        yield report


class _Lines:
    """A line at most every `LINE_SECONDS`."""

    def __init__(self, label: str, unit: str) -> None:
        self.label, self.unit = label, unit
        self.begin = self.last = time.monotonic()
        self.first: int | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.begin = done, now
        if now - self.last < LINE_SECONDS:
            return
        self.last = now
        said = [f"{self.label}: {done:,} of {total:,} {self.unit}"]
        rate = (done - self.first) / max(now - self.begin, 1e-9)
        if rate > 0:
            said += [_rate(rate, self.unit), f"{_clock((total - done) / rate)} left"]
        print(", ".join(said + ([note] if note else [])), file=sys.stderr, flush=True)


def _rate(rate: float, unit: str) -> str:
    shown = f"{rate:,.{0 if rate >= 10 else 1}f}" if rate >= 0.1 else f"{rate:.2g}"
    return f"{shown} {unit}/s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


@contextmanager
def _bar(console: Console, label: str, unit: str) -> Iterator[Report]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else _rate(task.speed, unit))

    class Note(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(task.fields["note"])

    columns: tuple[Any, ...] = (
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        Note(),
    )
    bar = Progress(*columns, console=console, transient=True)
    task: TaskID | None = None

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal task
        if task is None:
            bar.start()  # not before: another bar may come and go until then
            task = bar.add_task("", total=total, completed=done, note=note)
        else:
            bar.update(task, completed=done, note=note)

    try:
        yield report
    finally:
        bar.stop()
