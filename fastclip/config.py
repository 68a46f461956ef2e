"""What this build of fastclip can do and what it uses here."""

import platform

import torch

from fastclip import _C
from fastclip._version import __version__
from fastclip.engine.devices import BUILT, EMULATED, driver_problem, version_text


def config() -> dict[str, str]:
    """Return version, instruction sets, CUDA, threads and compiler, for `show_config`."""
    return {
        "fastclip": __version__,
        "compiler": _C.compiler,
        "instruction sets found": ", ".join(_C.available_isas()),
        "instruction set in use": _C.isa(),
        "CUDA": _cuda(),
        "threads": str(torch.get_num_threads()),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _cuda() -> str:
    if not BUILT:
        return f"not built: {_C.without_cuda}"
    if EMULATED:
        return "emulated on the CPU, for tests"
    built = f"built with {version_text(_C.cuda.toolkit)} for {_C.cuda.architectures}"
    problem = driver_problem()
    if problem:
        return f"{built}; {problem}"
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{built}; devices: {', '.join(devices) or 'none that torch can use'}"


def show_config() -> None:
    """Print version, instruction sets found and chosen, CUDA built or not, and threads.

    The instruction set can be forced with the environment variable ``FASTCLIP_CPU_CAPABILITY``
    (one of those found); the number of threads is that of ``torch.get_num_threads()``.

    Examples
    --------
    >>> import fastclip
    >>> fastclip.show_config()  # doctest: +ELLIPSIS
    fastclip: ...
    """
    for name, value in config().items():
        print(f"{name}: {value}")
