"""Runs commands, each within a limit of time, and keeps what they said: for gpu.py."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

DYING = 10  # seconds that a killed process is waited for; one inside a driver may never end
LEAST = 5  # seconds below which nothing is begun


@dataclass(frozen=True)
class Task:
    step: str
    name: str
    command: list[str | Path]
    seconds: float
    """The limit. Then the process is killed, and all that it has begun."""
    environment: Mapping[str, str] = field(default_factory=dict)
    lines: int = 3
    """How many of its last lines the summary has."""
    show: str = ""
    """A regular expression: lines that hold it come before those."""


@dataclass(frozen=True)
class Outcome:
    step: str
    name: str
    rc: int | None
    """The exit status; None: killed at the limit, or not begun."""
    seconds: float
    what: str
    """ok, failed, killed or skipped, and why."""
    last: list[str]

    @property
    def ok(self) -> bool:
        return self.rc == 0


class Steps:
    """Tasks that share a budget of time and a folder for what they say.

    ``log.txt`` is all they printed, ``summary.json`` the outcomes so far; what runs now prints into
    ``running``.
    """

    def __init__(self, root: Path, output: Path, minutes: float) -> None:
        self.root, self.output = root, output
        self.begin = time.monotonic()
        self.end = self.begin + 60 * minutes
        self.outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        (output / "running").mkdir(parents=True, exist_ok=True)
        (output / "log.txt").write_text("")
        self._write()

    def left(self) -> float:
        return self.end - time.monotonic()

    def skip(self, step: str, name: str, why: str) -> Outcome:
        return self._keep(Outcome(step, name, None, 0.0, f"skipped: {why}", []), "")

    def fail(self, step: str, text: str) -> Outcome:
        return self._keep(Outcome(step, "", None, 0.0, "failed", last_lines(text, 3)), text)

    def run(self, task: Task) -> Outcome:
        limit = min(task.seconds, self.left())
        if limit < min(LEAST, task.seconds):
            return self.skip(task.step, task.name, "no time is left")
        begin = time.monotonic()
        log = self.output / "running" / f"{task.step}-{task.name}.log"
        with log.open("wb") as file:
            try:
                rc = run_within(limit, task.command, self.root, task.environment, file.fileno())
                what = "ok" if rc == 0 else f"failed: exit status {rc}"
            except subprocess.TimeoutExpired as error:
                rc, what = None, f"killed after {limit:.0f} s{error.output or ''}"
            except OSError as error:  # no such program
                rc, what = None, f"failed: {error}"
        text = log.read_text(errors="replace")
        log.unlink()
        last = last_lines(text, task.lines, task.show)
        seconds = time.monotonic() - begin
        shown = " ".join(map(str, task.command))
        return self._keep(
            Outcome(task.step, task.name, rc, round(seconds, 1), what, last), f"$ {shown}\n{text}"
        )

    def together(self, tasks: Iterable[Task], at_once: int) -> None:
        """Run several at a time, in no order."""
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(self.run, tasks))

    def _keep(self, outcome: Outcome, text: str) -> Outcome:
        with self._lock:
            head = f"== {outcome.step} {outcome.name}: {outcome.what}, {outcome.seconds:.1f} s"
            print(head, *(f"    {line}" for line in outcome.last), sep="\n", flush=True)
            with (self.output / "log.txt").open("a") as file:
                file.write(f"{head}\n{text.rstrip()}\n\n")
            self.outcomes.append(outcome)
            self._write()
        return outcome

    def _write(self) -> None:
        seconds = round(time.monotonic() - self.begin, 1)
        outcomes = [asdict(outcome) for outcome in self.outcomes]
        write_json(self.output / "summary.json", {"seconds": seconds, "tasks": outcomes})

    def summary(self) -> str:
        rows = [(f"{o.step} {o.name}", f"{o.seconds:7.1f} s", o.what) for o in self.outcomes]
        wide = max((len(name) for name, _, _ in rows), default=0)
        return "\n".join(f"{name:{wide}} {seconds}  {what}" for name, seconds, what in rows)


def run_within(
    seconds: float,
    command: list[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    output: int,
) -> int:
    """Return the exit status. After ``seconds``, kill the process and all of its session.

    Raises
    ------
    subprocess.TimeoutExpired
        It was killed; ``output`` says so if it did not die.
    """
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise subprocess.TimeoutExpired(command, seconds, _kill(process)) from None
    finally:
        _kill(process)  # what it left running, too


def _kill(process: subprocess.Popen[bytes]) -> str:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    try:
        process.wait(DYING)
    except subprocess.TimeoutExpired:
        return ", and does not die: it waits in the kernel"
    return ""


def last_lines(text: str, count: int, show: str = "") -> list[str]:
    """Return the lines that hold ``show``, 20 at most, and the last ``count`` ones."""
    lines = [line.rstrip()[:200] for line in text.splitlines() if line.strip()]
    last = lines[-count:]
    return [x for x in lines[:-count] if show and re.search(show, x)][:20] + last


def write_json(path: Path, value: object) -> None:
    """Write so that whoever reads sees all of it or what was there before."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)
