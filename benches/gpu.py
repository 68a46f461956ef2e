"""Build, try, test and measure on a machine with an NVIDIA GPU, without a network.

    python3 benches/gpu.py --minutes 10 --output gpu-results

Each step has a limit, at which it is killed, and none stops the next. CONTRIBUTING.md says what
they need, what each of them tells, and what its failure means.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpu_steps import Steps, Task

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build/gpu"
PYTHON = sys.executable
BENCHES = ROOT / "benches"
TESTS = ("tests/ops", "tests/engine", "tests/sweep/test_run.py")
QUESTIONS = (
    *("topk-64", "topk-512", "topk-768", "topk-1024", "topk-1536", "topk-1600"),
    *("rank", "count_above", "groups", "pairs_above", "similarity", "pixels", "sums", "masks"),
    "graph",
)
TOOLKITS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer")
FINDS = "import torch; print(*torch.cuda.get_device_capability(), sep='.')"


@dataclass(frozen=True)
class Request:
    steps: Steps
    device: str
    architecture: str
    """As CMake has it; empty: no CUDA kernels."""
    shrink: int
    rounds: int
    cases: list[str]
    questions: list[str]
    tests: list[str]

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def smoke(self, question: str, *options: str) -> list[str | Path]:
        command: list[str | Path] = [PYTHON, BENCHES / "gpu_smoke.py", question]
        return [*command, "--device", self.device, *options]


def machine(asked: Request) -> None:
    """What is there."""
    lines = [
        "nvidia-smi",
        "nvcc --version | tail -n 2",
        "c++ --version | head -n 1",
        "cmake --version | head -n 1",
        f"{PYTHON} -c 'import sys, torch; print(sys.version, torch.__version__)'",
        f"echo {os.cpu_count()} processors, kernels for {asked.architecture or 'no device'}",
    ]
    asked.steps.run(Task("machine", "programs", ["bash", "-c", "; ".join(lines)], 30, lines=30))


def probe(asked: Request) -> None:
    """Hopper's instructions alone, in a program that knows no Python."""
    if asked.architecture != "90a-real":
        asked.steps.skip("probe", "hopper", "these instructions are those of Hopper, 9.0")
        return
    program = WORK / "hopper_probe"
    flags = ["-std=c++20", "-O3", "--expt-relaxed-constexpr", "-cudart=static", "-Itests/cuda"]
    flags += ["-Icsrc", "-Icsrc/include", "-gencode=arch=compute_90a,code=sm_90a"]
    if os.environ.get("FASTCLIP_WERROR"):
        flags += ["-Xcompiler=-Wall,-Wextra", "-Werror=all-warnings"]
    sources = ["tests/cuda/hopper_probe.cu", "csrc/cuda/arch/device.cu"]
    command = ["nvcc", *flags, "-o", program, *sources]
    built = asked.steps.run(Task("probe", "compile", command, 120))
    if built.ok and asked.on_gpu:
        asked.steps.run(Task("probe", "run", [program], 20, lines=12))
    else:
        asked.steps.skip("probe", "run", "it was not compiled" if asked.on_gpu else "no GPU")


def build(asked: Request) -> None:
    """The extension, for this device alone, into fastclip/."""
    kind = f"{sys.implementation.cache_tag}-{asked.architecture or 'cpu'}"
    folder = WORK / f"cmake-{kind}"  # of no other Python or device: CMake remembers
    configure = [
        *("cmake", "-S", "csrc", "-B", folder),
        *(["-GNinja"] if shutil.which("ninja") else []),
        f"-DCMAKE_INSTALL_PREFIX={ROOT / 'fastclip'}",
        f"-DPython_EXECUTABLE={PYTHON}",
        f"-DFASTCLIP_CUDA={1 if asked.architecture else 0}",
        f"-DCMAKE_CUDA_ARCHITECTURES={asked.architecture}",
        f"-DFASTCLIP_WERROR={os.environ.get('FASTCLIP_WERROR', '')}",
        "-DCMAKE_CUDA_FLAGS=-lineinfo",  # for compute-sanitizer and ncu; the code is the same
    ]
    if importlib.util.find_spec("pybind11"):  # else CMake looks for one of the system
        import pybind11

        configure.append(f"-Dpybind11_DIR={pybind11.get_cmake_dir()}")
    configure += shlex.split(os.environ.get("CMAKE_ARGS", ""))
    asked.steps.run(Task("build", "configure", configure, 60))
    compile_ = ["cmake", "--build", folder, "--target", "install"]
    compile_ += ["--parallel", str(os.cpu_count())]
    show = r"error|FAILED|warning"
    asked.steps.run(Task("build", "compile", compile_, 900, show=show))
    shown = "import fastclip; fastclip.show_config(); print(fastclip.__file__)"
    asked.steps.run(Task("build", "import", [PYTHON, "-c", shown], 60, lines=9))


def kernels(asked: Request) -> None:
    """What the compiler made of the kernels."""
    if not asked.architecture:
        asked.steps.skip("kernels", "check", "there are none in a build without CUDA")
        return
    asked.steps.run(Task("kernels", "check", [PYTHON, "tests/cuda/check_kernels.py"], 90, lines=20))


def smoke(asked: Request) -> None:
    """Small questions about all operations, each in a process of its own."""
    shrink = str(min(asked.shrink, 20))
    asked.steps.together(
        [Task("smoke", q, asked.smoke(q, "--shrink", shrink), 60) for q in asked.questions],
        at_once=4,
    )


def profile(asked: Request) -> None:
    """Where the time of a large call goes, and what the libraries reach here."""
    shrink = "--shrink", str(asked.shrink)
    asked.steps.run(Task("profile", "topk", asked.smoke("profile", *shrink), 60, lines=32))
    asked.steps.run(Task("profile", "ceiling", asked.smoke("ceiling", *shrink), 60, lines=4))


def test(asked: Request) -> None:
    """The contract of all operations but torch.compile; examples are drawn anew in each run."""
    # One line a test: it is known what passed and what failed when time is over.
    command = [PYTHON, "-m", "pytest", "-vv", "--tb=short", "-p", "no:cacheprovider", "-rfE"]
    command += ["--seconds-each=60", "-k", "not compile"]  # which takes minutes
    if importlib.util.find_spec("xdist"):
        command += ["-n", str(min(12, os.cpu_count() or 1)), "--dist=worksteal"]
    if asked.on_gpu:
        command.append(f"--device={asked.device}")
    environment = {
        "HYPOTHESIS_PROFILE": "quick",
        "FASTCLIP_EXPECT_PATH": str(ROOT),
        "OMP_WAIT_POLICY": "passive",
        "OMP_NUM_THREADS": "2",  # of each of many processes
        "JAX_PLATFORMS": "cpu",  # it would take the memory of the GPU
    }
    command += asked.tests
    seconds = min(300, asked.steps.left() / 2)
    show = r"FAILED|ERROR|crashed"
    asked.steps.run(Task("test", "pytest", command, seconds, environment, lines=2, show=show))


def bench(asked: Request) -> None:
    """Against torch and the floors; a case that ends its process is left out of the next one."""
    result = asked.steps.output / "bench.json"
    command: list[str | Path] = [PYTHON, BENCHES / "gpu_bench.py", "--device", asked.device]
    command += ["--output", result, "--shrink", str(asked.shrink), "--rounds", str(asked.rounds)]
    command += ["--cases", *asked.cases] if asked.cases else []
    result.unlink(missing_ok=True)
    count, go_on = -1, True
    for n in itertools.count(1):
        seconds = asked.steps.left() * 3 / 4
        asked.steps.run(Task("bench", f"cases-{n}", [*command, "--resume"], seconds, lines=60))
        before, (count, go_on) = count, recorded(result)
        if not go_on or count == before or asked.steps.left() <= 0:
            return


def recorded(result: Path) -> tuple[int, bool]:
    """Return how many cases there are results of, and whether others are left."""
    if not result.exists():
        return 0, False
    record = json.loads(result.read_text())
    return len(record["results"]), len(record["results"]) < len(record["cases"])


def sanitize(asked: Request) -> None:
    """The smoke questions, smaller, under compute-sanitizer."""
    tool = shutil.which("compute-sanitizer")
    if tool is None or not asked.on_gpu:
        why = "it checks kernels on a GPU" if tool else "there is no compute-sanitizer"
        asked.steps.skip("sanitize", "compute-sanitizer", why)
        return
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9"]
        environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"} if check == "memcheck" else {}
        show = r"=========\s+(Invalid|Error|Warning|.*hazard)"
        asked.steps.together(
            [
                Task(
                    *("sanitize", f"{check}-{question}"),
                    [*command, *asked.smoke(question, "--shrink", "10")],
                    *(120, environment),
                    show=show,
                )
                for question in asked.questions
                if question != "graph"
            ],
            at_once=4,
        )


STEPS: dict[str, Callable[[Request], None]] = {
    step.__name__: step
    for step in (machine, probe, build, kernels, smoke, profile, test, bench, sanitize)
}


def find_capability() -> str:
    """Return the compute capability of the GPU, such as 9.0; empty if none can be asked."""
    asks = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"], [PYTHON, "-c", FINDS]
    for command in asks:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.split()[0]
    return ""


def architecture_for(capability: str) -> str:
    """Return what to compile for that device alone."""
    major = capability.split(".")[0]
    return {"9.0": "90a-real"}.get(capability, "80-real" if major == "8" else "80")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    steps_help = "\n".join(f"{name}: {step.__doc__}" for name, step in STEPS.items())
    parser.add_argument(
        "--steps",
        nargs="+",
        choices=STEPS,
        default=list(STEPS),
        metavar="STEP",
        help=steps_help,
    )
    parser.add_argument("--output", type=Path, default=WORK / "results", help="a folder")
    parser.add_argument("--minutes", type=float, default=30, help="for all steps together")
    parser.add_argument("--device", default="cuda", help="cpu: to try this script")
    parser.add_argument("--architecture", help="as CMake has it, 90a-real; none: without CUDA")
    parser.add_argument("--shrink", type=int, default=1, help="divides sizes, to try this script")
    parser.add_argument("--rounds", type=int, default=5, help="of each call that is measured")
    parser.add_argument("--cases", nargs="+", default=[], help="of gpu_cases.py")
    parser.add_argument("--questions", nargs="+", default=list(QUESTIONS), help="of gpu_smoke.py")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), help="what pytest runs")
    given = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *TOOLKITS])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{before}" if before else str(ROOT)
    os.environ["PYTHONUNBUFFERED"] = "1"
    capability = find_capability() if given.device != "cpu" else ""
    default = "none" if given.device == "cpu" else architecture_for(capability)
    architecture = given.architecture or default
    WORK.mkdir(parents=True, exist_ok=True)
    steps = Steps(ROOT, given.output.resolve(), given.minutes)
    asked = Request(
        steps,
        given.device,
        "" if architecture == "none" else architecture,
        *(given.shrink, given.rounds, given.cases, given.questions, given.tests),
    )
    for name, step in STEPS.items():
        if name in given.steps:
            try:
                step(asked)
            except Exception:  # a fault of this script must not stop the next step either
                steps.fail(name, traceback.format_exc())
    summary = steps.summary()
    (steps.output / "summary.txt").write_text(summary + "\n")
    print(f"\n{summary}\nAll that was printed is in {steps.output / 'log.txt'}.")
    sys.exit(any(outcome.what.startswith(("failed", "killed")) for outcome in steps.outcomes))


if __name__ == "__main__":
    main()
