"""Devices: what is refused and how it is said, memory to work in, packed keys that move."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import fastclip
from fastclip.engine import devices
from fastclip.engine.packed import as_core_matrices, as_panels


class _Extension:
    """Stands for the extension of a build for CUDA 13.0 on some machine."""

    toolkit = 13000

    def __init__(self, driver: int, capability: int = 90) -> None:
        self.driver_version = lambda: driver
        self.capability = lambda _: capability


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretend that this build has CUDA and runs on a machine with such a driver and device."""

    def pretend(driver: int, capability: int = 90) -> None:
        monkeypatch.setattr(devices._C, "cuda", _Extension(driver, capability), raising=False)
        monkeypatch.setattr(devices, "BUILT", True)
        monkeypatch.setattr(devices, "EMULATED", False)

    for function in (devices.driver_problem, devices._device_problem):
        function.cache_clear()
    yield pretend
    for function in (devices.driver_problem, devices._device_problem):
        function.cache_clear()


@pytest.mark.parametrize(
    ("driver", "capability", "message"),
    [
        (
            12080,
            90,
            r"the NVIDIA driver is too old: it supports CUDA 12\.8, this .* 13\.0 or newer",
        ),
        (0, 90, "there is no NVIDIA driver"),
        (13010, 75, r"its compute capability is 7\.5, 8\.0 or newer is needed"),
    ],
    ids=["old driver", "no driver", "old device"],
)
def test_says_what_the_machine_lacks(machine, driver: int, capability: int, message: str) -> None:
    machine(driver, capability)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(2, 3, device="cuda:0")
    with pytest.raises(RuntimeError, match=f"queries: is on device 'cuda:0', but {message}"):
        devices.check_device("queries", x)


@pytest.mark.parametrize(("driver", "capability"), [(13000, 80), (13010, 90), (14000, 120)])
def test_takes_what_the_machine_can(machine, driver: int, capability: int) -> None:
    machine(driver, capability)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(2, 3, device="cuda:0")
    devices.check_device("queries", x)


def test_other_devices_are_refused(machine) -> None:
    machine(13000)
    with pytest.raises(ValueError, match=r"queries: is on device 'meta'.*on 'cpu' and 'cuda'"):
        devices.check_device("queries", torch.empty(2, 3, device="meta"))


def test_devices_must_be_the_same() -> None:
    x, y = torch.empty(2, 3), torch.empty(2, 3, device="meta")
    with pytest.raises(ValueError, match="keys: is on device 'meta', but queries on 'cpu'"):
        devices.check_same_device("keys", y, "queries", x)


def _only(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch.empty fail beyond ``limit`` bytes as a device without memory does."""
    empty = torch.empty

    def limited(size: int, **options: object) -> torch.Tensor:
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return empty(size, **options)

    monkeypatch.setattr(torch, "empty", limited)


def _hundred_bytes_for_each_of(count: int) -> Callable[[int], tuple[int, int]]:
    return lambda most: (100 * min(most, count), min(most, count))


def test_workspace_gets_smaller_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1)
    _only(3000, monkeypatch)
    memory, rows = devices.workspace("topk", _hundred_bytes_for_each_of(100), x)
    assert (len(memory), rows) == (2500, 25)
    memory, rows = devices.workspace("topk", _hundred_bytes_for_each_of(7), x)
    assert (len(memory), rows) == (700, 7)


def test_says_how_much_memory_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1)
    _only(3000, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError, match=r"topk: 5 MiB .* 'cpu' .*CUDA out of memory"):
        devices.workspace("topk", lambda most: (5 * 2**20 + min(most, 100), min(most, 100)), x)


@pytest.mark.parametrize(("keys", "width"), [(1, 3), (32, 64), (100, 65), (0, 8)])
def test_layouts_of_codes(keys: int, width: int) -> None:
    codes = fastclip.pack(torch.randn(keys, width)).to("cpu").codes
    panels = -(-keys // 32)
    steps = -(-width // 64)
    of_cpu, of_cuda = as_panels(codes), as_core_matrices(codes)
    assert of_cpu.shape == (panels, 16 * steps, 32, 4)
    assert of_cuda.shape == (panels, steps, 4, 4, 8, 16)
    assert torch.equal(as_core_matrices(of_cpu), of_cuda)
    assert torch.equal(as_panels(of_cuda), of_cpu)
    # Key 27 of the second panel, code 37.
    assert torch.equal(of_cuda[1:2, 0, 3, 2, 3, 5], of_cpu[1:2, 9, 27, 1] ^ 128)


def test_packed_keys_stay_where_they_are() -> None:
    keys = fastclip.pack(torch.randn(5, 8)).to("cpu")
    assert keys.to("cpu") is keys
    with pytest.raises(ValueError, match="keys: is on device 'meta'"):
        keys.to("meta")
