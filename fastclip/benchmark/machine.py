"""The machine that is measured: its processor, and the memory that is left."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import torch

from fastclip.config import config

_CGROUP = Path("/sys/fs/cgroup")


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine(device: torch.device | None = None) -> dict[str, str]:
    """Return what a result file says of the machine."""
    found = {"processor": processor(), "system": platform.platform(), **config()}
    if device is not None and device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
    return found


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes can be allocated; None if nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [size for size in (_available(), _left_in_container()) if size is not None]
    return min(found, default=None)


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform != "win32" and "SC_PHYS_PAGES" in os.sysconf_names:  # all there is, as on macOS
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_in_container() -> int | None:
    """What the control group of this process may still take, as in Slurm's jobs and containers."""
    try:
        limit, used = (
            int((_CGROUP / name).read_text()) for name in ("memory.max", "memory.current")
        )
        cached = 0
        for line in (_CGROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                cached = int(line.split()[1])
    except (OSError, ValueError):  # no control group, or "max"
        return None
    return max(0, limit - used + cached)
