from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from fastclip import _C

hypothesis.settings.register_profile(
    "fastclip",
    deadline=None,  # timings of shared machines are no test
    max_examples=40,  # of each property, on each instruction set
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
# For a second build of the same sources, which takes longer or is less likely to differ.
hypothesis.settings.register_profile(
    "quick", parent=hypothesis.settings.get_profile("fastclip"), max_examples=15
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fastclip"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--few-isas",
        action="store_true",
        help="of the instruction sets, test the best one and the portable one only",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--few-isas"):
        left_out = set(_C.available_isas()[1:-1])
        items[:] = [
            item
            for item in items
            if not (hasattr(item, "callspec") and item.callspec.params.get("isa") in left_out)
        ]


@pytest.fixture(params=_C.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on every instruction set of this machine."""
    _C.select_isa(request.param)
    yield request.param
    _C.select_isa("")


@pytest.fixture
def threads() -> Iterator[None]:
    """Put the number of threads back that the test found."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
