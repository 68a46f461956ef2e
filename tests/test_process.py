"""How the extension behaves inside a process: instruction sets, threads, signals, fork."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import reference
import torch

import fastclip
from fastclip import _C


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", _C.available_isas())
def test_environment_forces_an_instruction_set(name: str) -> None:
    done = run("import fastclip; fastclip.show_config()", FASTCLIP_CPU_CAPABILITY=name)
    assert f"instruction set in use: {name}\n" in done.stdout


def test_unknown_instruction_set() -> None:
    done = run("import fastclip; fastclip.show_config()", FASTCLIP_CPU_CAPABILITY="mmx")
    assert done.returncode != 0
    assert "FASTCLIP_CPU_CAPABILITY: 'mmx' is not an instruction set" in done.stderr
    assert "portable" in done.stderr
    with pytest.raises(ValueError, match="'mmx' is not an instruction set"):
        _C.select_isa("mmx")


def test_import_prints_nothing_and_leaves_threads_alone() -> None:
    done = run(
        "import sys, torch; n = torch.get_num_threads(); import fastclip, fastclip.metrics; "
        "assert torch.get_num_threads() == n; assert not torch.cuda.is_initialized(); "
        "assert 'torchmetrics' not in sys.modules"  # which takes seconds
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_flushed_denormals_are_kept_in_scores(isa: str, threads: None) -> None:
    torch.set_num_threads(2)
    q, k = torch.full((3, 5), 1e-41), torch.full((2000, 5), 3.0)
    try:
        if not torch.set_flush_denormal(True):
            pytest.skip("torch cannot flush denormals here")
        result = fastclip.similarity(q, k)
        assert (q[0, 0] * 1.0).item() == 0.0  # the caller's setting is back
    finally:
        torch.set_flush_denormal(False)
    assert reference.same_bits(result, reference.similarity(q, k))


def test_calls_from_several_python_threads(threads: None) -> None:
    torch.set_num_threads(2)
    q, k = torch.randn(50, 33), torch.randn(3000, 33)
    expected = fastclip.topk(q, k, 5)
    results: list[fastclip.TopK] = []
    workers = [
        threading.Thread(target=lambda: results.extend(fastclip.topk(q, k, 5) for _ in range(20)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 80
    assert all(torch.equal(r.values, expected.values) for r in results)
    assert all(torch.equal(r.indices, expected.indices) for r in results)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "GOMP_parallel") or not os.path.isdir("/proc/self/task"),
    reason="torch has other threads here, or they cannot be listed",
)
def test_computes_on_the_threads_of_torch() -> None:
    done = run("""
import os, torch, fastclip
threads = lambda: set(os.listdir("/proc/self/task"))
torch.set_num_threads(3)
torch.zeros(1 << 20).exp()
before = threads()
assert len(before) >= 3
fastclip.topk(torch.randn(64, 64), torch.randn(500, 64), 5)  # work for two of them
fastclip.topk(torch.randn(300, 64), torch.randn(3000, 64), 5)
torch.zeros(1 << 20).exp()
assert threads() == before, (threads(), before)
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_other_python_threads_run_meanwhile() -> None:
    q, k = torch.randn(200, 512), torch.randn(60_000, 512)
    ticks = 0
    worker = threading.Thread(target=lambda: fastclip.topk(q, k, 5))
    worker.start()
    while worker.is_alive():
        ticks += 1
        time.sleep(0.001)
    assert ticks > 5


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_works_after_fork(threads: None) -> None:
    torch.set_num_threads(2)
    q, k = torch.randn(5, 16), torch.randn(5000, 16)
    expected = fastclip.topk(q, k, 3)
    child = os.fork()
    if child == 0:
        same = torch.equal(fastclip.topk(q, k, 3).indices, expected.indices)
        os._exit(0 if same else 1)
    deadline = time.monotonic() + 60
    while (status := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the forked child hangs")
        time.sleep(0.01)
    assert status == (child, 0)


@pytest.mark.parametrize("forked", [False, True], ids=["team", "own threads"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_daemon_threads_do_not_disturb_the_end(num_threads: int, forked: bool) -> None:
    done = run(f"""
import os, sys, threading, time, torch, fastclip
if {forked} and (child := os.fork()):
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
torch.set_num_threads({num_threads})
q, k = torch.randn(200, 256), torch.randn(20_000, 256)
packed, groups = fastclip.pack(k), torch.arange(20_000) % 100
images, masks = torch.randn(1, 3, 100, 100), torch.randn(1, 5, 100, 100)
calls = [
    lambda: fastclip.topk(q, packed, 5),
    lambda: fastclip.topk(q[:1], k[:50], 5),
    lambda: fastclip.rank(q, k, torch.zeros(200).long()),
    lambda: fastclip.group_mean(q, k, groups),
    lambda: fastclip.logsumexp(q, k, 100.0),
    lambda: fastclip.gaussian_potential(k),
    lambda: fastclip.refine_masks(images, masks),
    lambda: fastclip.pack(k),
]
begun = threading.Barrier(len(calls) + 1)
def work(call):
    call()
    begun.wait()
    while True:
        call()
for call in calls:
    threading.Thread(target=work, args=[call], daemon=True).start()
begun.wait()
time.sleep(0.1)
sys.exit(3)
""")
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert "terminate" not in done.stderr


def test_handlers_at_exit_may_wait_for_daemon_threads() -> None:
    done = run("""
import atexit, queue, threading
jobs = queue.Queue()
atexit.register(lambda: (jobs.join(), print("drained")))  # runs after those of fastclip
import torch, fastclip
def work():
    while True:
        x = jobs.get()
        fastclip.topk(x, x, 1)
        jobs.task_done()
threading.Thread(target=work, daemon=True).start()
for _ in range(2000):
    jobs.put(torch.randn(50, 64))
""")
    assert (done.returncode, done.stdout) == (0, "drained\n"), done.stderr


LONG_CALLS = {
    "topk": "fastclip.topk(torch.randn(64, 4096), packed(keys[:200_000]), 3)",
    "rank": "fastclip.rank(torch.randn(64, 4096), packed(keys[:200_000]), torch.zeros(64).long())",
    "logsumexp": "fastclip.logsumexp(torch.randn(64, 4096), packed(keys), 1.0)",
    "gaussian_potential": "fastclip.gaussian_potential(torch.randn(1, 8).expand(3_000_000, 8))",
    "the mean of gaussian_potential": "fastclip._C.gaussian_potential(*of_mean, None, out, 2)",
    "pixel_scores": "fastclip.pixel_scores(pixels, packed(keys[:5_000_000]))",
    "pixel_labels": "fastclip.pixel_labels(pixels, packed(keys[:5_000_000]), (9, 9))",
    "one cell of pixel_labels": "fastclip.pixel_labels(pixels[:, :1, :1, :1], ties, (500, 2000))",
    "refine_masks": "fastclip.refine_masks(pixels[:, :3], pixels[:, :9], iterations=10**12)",
}


def test_ctrl_c_ends_long_calls() -> None:
    # Many times the work that fits into the time that is waited.
    calls = ", ".join(f"{name!r}: lambda: {call}" for name, call in LONG_CALLS.items())
    code = f"""
import torch, fastclip
fastclip._C.select_isa("portable")  # which scores packed keys exactly
def packed(keys):  # with codes that nobody reads
    count = min(len(keys), 200_000)
    codes = torch.empty(count // 32, 1024, 32, 4, dtype=torch.uint8)
    return fastclip.PackedKeys(keys, codes, torch.empty(3, count), torch.empty(4096))
keys = torch.randn(1, 4096).expand(100_000_000, 4096)
pixels = torch.randn(1, 4096, 8, 8)
rows = torch.randn(1, 8).expand(10**10, 8)  # the same row again and again
of_mean, out = (rows, rows, True, 2.0), torch.empty((), dtype=torch.float64)
ties = torch.ones(1, 1).expand(1_000_000, 1)
fastclip.similarity(torch.randn(64, 4096), keys[:1])
for name, call in {{{calls}}}.items():
    print(name, flush=True)
    try:
        call()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    limit = threading.Timer(120, process.kill)
    limit.start()
    try:
        assert process.stdout is not None
        for name in LONG_CALLS:
            assert process.stdout.readline() == f"{name}\n"
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
        assert process.wait() == 0
    finally:
        limit.cancel()
        process.kill()
