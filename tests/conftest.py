from __future__ import annotations

import faulthandler
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from devices import call_on_device

from fastclip import _C
from fastclip.engine.devices import EMULATED
from fastclip.engine.tuning import TUNING

hypothesis.settings.register_profile(
    "fastclip",
    deadline=None,  # timings of shared machines are no test
    max_examples=30,  # of each property, on each instruction set
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
# For a second build of the same sources, which takes longer or is less likely to differ.
hypothesis.settings.register_profile(
    "quick", parent=hypothesis.settings.get_profile("fastclip"), max_examples=8
)
# For emulated kernels.
hypothesis.settings.register_profile(
    "few", parent=hypothesis.settings.get_profile("fastclip"), max_examples=4
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fastclip"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--isas",
        choices=["all", "ends", "best"],
        default="all",
        help="the instruction sets to test; ends: the best one and the portable one",
    )
    parser.addoption(
        "--device",
        help="where the functions that tests call compute, such as cuda; default: on the CPU",
    )
    parser.addoption("--seconds-each", type=float, help="the process of a longer test ends")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "host: of the CPU's own kernels or memory; left out where CUDA kernels are tested",
    )
    config.addinivalue_line("markers", "large: left out where CUDA kernels are emulated")
    config.addinivalue_line(
        "markers", "once: of code that every build shares; left out where it is not the first"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    on_cuda = EMULATED or config.getoption("--device")
    chosen = config.getoption("--isas")
    marks = [
        *(["host"] if on_cuda else []),
        *(["large"] if EMULATED else []),
        *(["once"] if EMULATED or chosen != "all" else []),
    ]
    isas = _C.available_isas()
    untested = {"all": [], "ends": isas[1:-1], "best": isas[1:]}[chosen]

    def is_left_out(item: pytest.Item) -> bool:
        values = item.callspec.params if hasattr(item, "callspec") else {}
        return (
            any(item.get_closest_marker(mark) for mark in marks)
            or values.get("isa") in untested
            or (on_cuda and values.get("num_threads", 1) > 1)
        )

    left_out = [item for item in items if is_left_out(item)]
    items[:] = [item for item in items if not is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        device = metafunc.config.getoption("--device")
        isas = ["emulated"] if EMULATED else [device] if device else _C.available_isas()
        metafunc.parametrize("isa", isas, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End a process whose test hangs or has broken the device; pytest -n begins another."""
    device, seconds = item.config.getoption("--device"), item.config.getoption("--seconds-each")
    with open(os.dup(2), "w") as stderr:  # during the test 2 is where pytest keeps what it prints
        if seconds is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)
        try:
            return (yield)
        finally:
            if seconds is not None:
                faulthandler.cancel_dump_traceback_later()
            if device and device.startswith("cuda"):
                try:
                    torch.cuda.synchronize()
                except RuntimeError as error:
                    print(f"{item.nodeid}: {error}", file=stderr, flush=True)
                    os._exit(3)  # all that it would do now would fail


@pytest.fixture(autouse=True)
def same_random_numbers_in_every_run(request: pytest.FixtureRequest) -> None:
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on every instruction set of this machine; on a device, once."""
    if request.param in _C.available_isas():
        _C.select_isa(request.param)
    yield request.param
    _C.select_isa("")


@pytest.fixture
def tensors_on_device(request: pytest.FixtureRequest) -> Iterator[None]:
    """Make the tensors of the test on the device of ``--device``, if there is one."""
    with torch.device(request.config.getoption("--device") or "cpu"):
        yield


@pytest.fixture(autouse=True)
def on_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the functions of fastclip compute on the device of ``--device``, if there is one."""
    device = request.config.getoption("--device")
    if device:
        call_on_device(torch.device(device), monkeypatch)


@pytest.fixture
def threads() -> Iterator[None]:
    """Put the number of threads back that the test found."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def always_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screen small problems too, whose exact scores would be faster."""
    monkeypatch.setattr(TUNING, "always_screen", True)


@pytest.fixture
def packs_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let searches of few queries and keys pack the keys on the way, too, a few at a time."""
    for name in ("pack_from_queries", "pack_from_keys"):
        monkeypatch.setattr(TUNING, name, 2)
    monkeypatch.setattr(TUNING, "pack_keys", 64)
    monkeypatch.setattr(TUNING, "device_pack_keys", 256)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, where the environment names one."""
    folder = os.environ.get("FASTCLIP_TEST_DATA")
    if not folder:
        pytest.skip("FASTCLIP_TEST_DATA does not name a folder of data sets")
    return Path(folder)


def pytest_sessionstart() -> None:
    """Make sure that the build is tested which the caller meant, not another one in its place."""
    expected = os.environ.get("FASTCLIP_EXPECT_PATH")
    if expected and not Path(_C.__file__).is_relative_to(Path(expected).resolve()):
        raise pytest.UsageError(f"fastclip was imported from {_C.__file__}, not from {expected}")
