"""Checks the CUDA kernels of an extension module as the compiler left them.

For each architecture of the build: no kernel has a stack frame or spills registers, and those that
live on matrix instructions hold them. Usage: python tests/cuda/check_kernels.py [EXTENSION];
without an argument the module that is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm")
INSTRUCTIONS = {
    # part of the kernel's name: (architecture, what its code must hold)
    "sm80.*screen_kernel": ("sm_80", [r"\bIMMA\."]),
    # Bulk copies, and products with no wait between one and the next.
    "sm90.*screen_kernel": ("sm_90a", [r"\bUBLKCP\.", r"\bIGMMA\.((?!WARPGROUP).)*\bIGMMA\."]),
}


def main() -> None:
    if len(sys.argv) > 1:
        extension = Path(sys.argv[1])
    else:
        from fastclip import _C

        if not hasattr(_C, "cuda"):
            sys.exit("fastclip was built without CUDA: there are no kernels to check")
        extension = Path(_C.__file__)
    kernels = resources(extension)
    faults = [
        f"{architecture} {name}: {used['STACK']} bytes of stack, {used['LOCAL']} of local memory"
        for (architecture, name), used in kernels.items()
        if used["STACK"] or used["LOCAL"]
    ]
    built = {architecture for architecture, _ in kernels}
    expected = {name: code for name, code in INSTRUCTIONS.items() if code[0] in built}
    if not expected:
        faults.append(f"there are kernels for {', '.join(built)} alone: nothing is known of those")
    for pattern, (architecture, instructions) in expected.items():
        names = [
            name for arch, name in kernels if arch == architecture and re.search(pattern, name)
        ]
        if not names:
            faults.append(f"{architecture}: there is no kernel {pattern}")
            continue
        code = dump(extension, "-sass", "-arch", architecture, "-fun", ",".join(names))
        faults += [
            f"{architecture} {function}: no {instruction}"
            for function, body in functions(code)
            for instruction in instructions
            if not re.search(instruction, body, re.DOTALL)
        ]
    most = max(kernels.items(), key=lambda kernel: kernel[1]["REG"])
    print(f"{len(kernels)} kernels; at most {most[1]['REG']} registers")
    if faults:
        sys.exit("\n".join(faults))


def resources(extension: Path) -> dict[tuple[str, str], dict[str, int]]:
    """Return what each kernel of each architecture uses: REG, STACK, SHARED, LOCAL and others."""
    kernels = {}
    architecture = function = ""
    for line in dump(extension, "-res-usage").splitlines():
        if match := re.match(r"arch = (\w+)", line):
            architecture, function = match[1], ""
        elif match := re.match(r" Function (\w+):", line):
            function = match[1]
        elif function and "REG:" in line:
            used = re.findall(r"(\w+):(\d+)", line)
            kernels[architecture, function] = {name: int(count) for name, count in used}
    if not kernels:
        sys.exit(f"{extension} holds no kernels")
    return kernels


def functions(code: str) -> list[tuple[str, str]]:
    """Return name and instructions of each function in a disassembly."""
    parts = re.split(r"\s+Function : (\w+)\n", code)
    return list(zip(parts[1::2], parts[2::2], strict=True))


@cache
def tools() -> str:
    """Return a PATH with NVIDIA's disassemblers: those from PyPI, else those of the toolkit."""
    path = os.pathsep.join([*sorted(installed()), os.environ["PATH"], "/usr/local/cuda/bin"])
    missing = [tool for tool in ("cuobjdump", "nvdisasm") if not shutil.which(tool, path=path)]
    if missing:
        sys.exit(
            f"{' and '.join(missing)} not found: pip install {' '.join(PACKAGES)}, or put the "
            "programs of a CUDA toolkit on PATH"
        )
    return path


def installed() -> set[str]:
    """Return the folders of programs of PACKAGES, of those that are installed."""
    found = set()
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            files = metadata.files(package) or []
            found |= {str(file.locate().parent) for file in files if file.parent.name == "bin"}
    return found


def dump(extension: Path, *options: str) -> str:
    """Return what NVIDIA's cuobjdump says."""
    path = tools()
    done = subprocess.run(
        [shutil.which("cuobjdump", path=path), *options, str(extension)],
        env=os.environ | {"PATH": path},
        capture_output=True,  # warnings: of every file inside that lacks the function asked for
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"cuobjdump {' '.join(options)} {extension}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
