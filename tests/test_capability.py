"""What a processor can do, and what of it a process may use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastclip import _C

# Linux refuses arch_prctl(ARCH_REQ_XCOMP_PERM), as a sandbox may, to this process and those after.
REFUSED = """
import ctypes, struct, sys
code = b"".join(struct.pack("HBBI", *step) for step in [
    (0x20, 0, 0, 0),  # the number of the call
    (0x15, 0, 3, 158),  # arch_prctl?
    (0x20, 0, 0, 16),  # its first argument
    (0x15, 0, 1, 0x1023),  # ARCH_REQ_XCOMP_PERM?
    (0x06, 0, 0, 0x00050001),  # EPERM
    (0x06, 0, 0, 0x7FFF0000),  # allowed
])
steps = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 6, ctypes.addressof(steps))
libc = ctypes.CDLL(None, use_errno=True)
set_ = lambda *args: libc.prctl(*args, 0, 0)
if set_(38, 1, 0) != 0 or set_(22, 2, ctypes.create_string_buffer(program)) != 0:
    sys.exit(3)
from fastclip import _C
print(*_C.available_isas())
"""


@pytest.mark.skipif("amx" not in _C.available_isas(), reason="needs a processor with AMX")
def test_matrix_units_that_are_refused() -> None:
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("filters of system calls are not allowed here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [isa for isa in _C.available_isas() if isa != "amx"]
