from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import gpu
import gpu_smoke
import pytest
from gpu_steps import Steps, Task, last_lines

BENCHES = Path(gpu.__file__).parent


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path, tmp_path / "results", minutes=1)


def python(code: str, seconds: float = 30) -> Task:
    return Task("step", "python", [sys.executable, "-c", code], seconds)


def test_a_step_that_hangs_is_killed_with_all_it_began(steps: Steps) -> None:
    begin = time.monotonic()
    hanging = steps.run(
        python(
            "import subprocess, time; child = subprocess.Popen(['sleep', '60']); "
            "print(child.pid, flush=True); time.sleep(60)",
            seconds=1,
        )
    )
    assert (hanging.rc, hanging.what) == (None, "killed after 1 s")
    (child,) = hanging.last
    while is_running(child):
        assert time.monotonic() - begin < 20
        time.sleep(0.05)
    failing = steps.run(python("print('said'); raise SystemExit(3)"))
    assert (failing.rc, failing.what, failing.last) == (3, "failed: exit status 3", ["said"])
    missing = steps.run(Task("step", "none", ["/no/such/program"], 5))
    assert missing.what.startswith("failed: [Errno 2]")
    assert steps.run(python("pass")).what == "ok"
    kept = json.loads((steps.output / "summary.json").read_text())["tasks"]
    assert [task["what"].split(":")[0] for task in kept] == [
        *("killed after 1 s", "failed", "failed", "ok")
    ]
    assert child in (steps.output / "log.txt").read_text()


def is_running(process: str) -> bool:
    """Whether it lives: one that was killed may be there until someone asks for its exit status."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nothing_begins_when_time_is_over(steps: Steps) -> None:
    steps.end = time.monotonic() + 1
    assert steps.run(python("pass")).what == "skipped: no time is left"


def test_lines_shown() -> None:
    assert last_lines("a\nFAILED b\n\nc\nd\n", 1, "FAILED") == ["FAILED b", "d"]


def test_a_test_that_hangs_ends_its_process(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("import time\ndef test_hangs(): time.sleep(60)\n")
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", gpu.ROOT / "pyproject.toml"]
    command += ["--seconds-each", "0.5", "-p", "no:cacheprovider", tmp_path]
    path = os.pathsep.join(map(str, [gpu.ROOT / "tests", gpu.ROOT]))
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert "Timeout (0:00:00.500000)!" in done.stderr, done.stdout + done.stderr
    assert "in test_hangs" in done.stderr


def test_asks_all_questions() -> None:
    assert {*gpu.QUESTIONS, "profile", "ceiling"} == set(gpu_smoke.QUESTIONS)


def test_one_command_on_a_cpu(tmp_path: Path) -> None:
    asked = ["--steps", "probe", "smoke", "bench", "sanitize", "--questions", "topk-64"]
    asked += ["--cases", "topk-1-query", "--rounds", "2", "--shrink", "1000", "--device", "cpu"]
    command = [sys.executable, BENCHES / "gpu.py", *asked, "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tasks = json.loads((tmp_path / "summary.json").read_text())["tasks"]
    assert {f"{task['step']} {task['name']}": task["what"].split(":")[0] for task in tasks} == {
        "probe hopper": "skipped",
        "smoke topk-64": "ok",
        "bench cases-1": "ok",
        "sanitize compute-sanitizer": "skipped",
    }
    (result,) = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert len(result["calls"]["fastclip"]["times_s"]) == 2
    assert "topk-64: as expected" in (tmp_path / "log.txt").read_text()


def test_a_case_that_hangs_costs_that_case(tmp_path: Path) -> None:
    result = tmp_path / "bench.json"
    command = [sys.executable, BENCHES / "gpu_bench.py", "--device", "cpu", "--shrink", "1000"]
    command += ["--rounds", "1", "--cases", "top1-128", "top10-128", "--output", result]
    first = subprocess.run([*command, "--seconds", "1e-6"], capture_output=True)
    assert first.returncode != 0
    assert [r["case"] for r in json.loads(result.read_text())["results"]] == ["top1-128"]
    assert gpu.recorded(result) == (1, True)
    second = subprocess.run([*command, "--resume"], capture_output=True, text=True)
    assert second.returncode == 1, second.stderr
    assert "2 cases, failed: top1-128" in second.stdout
    assert gpu.recorded(result) == (2, False)


@pytest.mark.parametrize(
    ("capability", "architecture"),
    [("8.0", "80-real"), ("8.9", "80-real"), ("9.0", "90a-real"), ("10.0", "80"), ("", "80")],
)
def test_compiles_for_one_device(capability: str, architecture: str) -> None:
    assert gpu.architecture_for(capability) == architecture
