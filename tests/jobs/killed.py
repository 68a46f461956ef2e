"""Kill the long jobs in the middle of their work, fill their disk, and compare what they end in.

    python tests/jobs/killed.py FOLDER --kills 50 --full-disks 10 [--jobs train sweep]

For each job of long_jobs.py: one undisturbed run; kills at random moments, each of which counts if
the work had begun and was not over; kills inside a write, after a random number of bytes of a file;
and writes that fail after such a number. Whatever was disturbed is begun again in the same folder,
which must end in the same bytes, without other files. Prints a line of JSON for each job.

A process that starts no threads, so that it can fork: each child is a run of the job, without the
seconds that importing torch takes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as pytest's settings say
    sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "models")]

from long_jobs import JOBS, Generation, Job, warm

SIGXFSZ = signal.SIGXFSZ


class Trial:
    """One job with its inputs, what it ends in undisturbed, and how often it was disturbed."""

    def __init__(self, job: Job, folder: Path, seed: int) -> None:
        self.job, self.folder, self.rng = job, folder, random.Random(seed)
        self.inputs, self.output = folder / "inputs", folder / "output"
        self.inputs.mkdir(parents=True)
        job.prepare(self.inputs)
        warm(job, folder)
        self.server = _child(job.server.serve_forever) if isinstance(job, Generation) else None
        began = time.monotonic()
        assert _ended(self.begun()) == 0
        self.seconds = time.monotonic() - began
        self.expected = job.content(self.output)
        self.largest = max(p.stat().st_size for p in self.output.rglob("*") if p.is_file())
        self.questions = job.asked.stat().st_size if isinstance(job, Generation) else 0
        if isinstance(job, Generation):
            job.asked.write_bytes(b"")
        shutil.rmtree(self.output)
        self.disturbed = 0  # since the folder was empty
        self.found = {"killed": 0, "killed in a write": 0, "disk full": 0, "compared": 0}

    def begun(self, limit: int | None = None, dies: bool = False) -> int:
        """Start a run whose writes end at byte ``limit`` of a file: it dies there, or fails."""

        def run() -> None:
            if limit is not None:
                signal.signal(SIGXFSZ, signal.SIG_DFL if dies else signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                self.job.run(self.inputs, self.output)
            except OSError as error:
                if limit is None or dies or "File too large" not in str(error):
                    raise
                left = [p for p in self.output.rglob("*.tmp") if p.is_file()]
                assert not left, left
                os._exit(3)

        return _child(run)

    def kill_at_random(self, kills: int) -> None:
        """Runs that are killed begin anew in the same folder, where they go on."""
        while self.found["killed"] < kills:
            child = self.begun()
            time.sleep(self.rng.uniform(0, self.seconds))
            os.kill(child, signal.SIGKILL)
            code = _ended(child)
            assert code in (0, -signal.SIGKILL), code
            self.disturbed += 1
            if self.job.ends(self.output):
                self.finish()
            elif self.output.exists() and any(self.output.iterdir()):
                self.found["killed"] += 1
        self.finish()

    def kill_in_writes(self, kills: int) -> None:
        while self.found["killed in a write"] < kills:
            code = _ended(self.begun(self._limit(), dies=True))
            assert code in (0, -SIGXFSZ), code
            if code:
                self._count("killed in a write")
            self.finish()

    def fill_disk(self, times: int) -> None:
        while self.found["disk full"] < times:
            code = _ended(self.begun(self._limit()))
            assert code in (0, 3), code
            if code:
                self._count("disk full")
            self.finish()

    def finish(self) -> None:
        """Run to the end, and compare."""
        assert _ended(self.begun()) == 0
        content = self.job.content(self.output)
        names = content.keys() | self.expected.keys()
        other = sorted(n for n in names if content.get(n) != self.expected.get(n))
        assert not other, f"{self.output} (kept): {other} are not as undisturbed"
        if isinstance(self.job, Generation):  # what was answered is not asked again
            asked = self.job.asked.stat().st_size
            open_requests = 2 * self.job.workers  # with those that are begun after an error
            assert asked <= self.questions + open_requests * self.disturbed, asked
            self.job.asked.write_bytes(b"")
        self.found["compared"] += 1
        self.disturbed = 0
        shutil.rmtree(self.output)

    def stop(self) -> None:
        if self.server is not None:
            os.kill(self.server, signal.SIGKILL)
            _ended(self.server)

    def counts(self) -> dict[str, Any]:
        return {"job": self.job.name, **self.found, "seconds of a run": round(self.seconds, 2)}

    def _count(self, what: str) -> None:
        self.found[what] += 1
        self.disturbed += 1

    def _limit(self) -> int:
        """Small files are more, and all are hit."""
        return int(self.largest ** self.rng.uniform(0, 1))


def _child(work: Callable[[], object]) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--kills", type=int, default=50, help="of both kinds, over all jobs")
    parser.add_argument("--full-disks", type=int, default=10, help="over all jobs")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fastclip-killed-"))
    share = -(-given.kills // len(given.jobs))
    for name in given.jobs:
        trial = Trial(JOBS[name](), folder / name, given.seed)
        try:
            trial.kill_at_random(share - share // 2)
            trial.kill_in_writes(share // 2)
            trial.fill_disk(-(-given.full_disks // len(given.jobs)))
        finally:
            trial.stop()
        print(json.dumps(trial.counts()), flush=True)
    if given.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
