"""Answers keep their bits, on every instruction set, packed or not, from files and on ranks."""

from __future__ import annotations

from collections.abc import Iterator

import golden
import pytest
from golden import SUMS
from golden_inputs import Search, digest
from golden_questions import SEARCHES, Other, Question, other_cases

from fastclip.engine.devices import EMULATED

_MOST_EMULATED = 40_000  # products: emulated kernels are slow
OTHERS = other_cases()


def differing(hashes: dict[str, str]) -> list[str]:
    expected = golden.golden()
    return [name for name, value in hashes.items() if value != expected[name]]


def skip_if_slow(work: int) -> None:
    if EMULATED and work > _MOST_EMULATED:
        pytest.skip("takes long where kernels are emulated")


@pytest.fixture
def exact_ops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out, on devices, what has the same bits on every processor alone."""
    if EMULATED or request.config.getoption("--device"):
        everything = golden.search_questions

        def questions(*arguments: object) -> list[Question]:
            return [q for q in everything(*arguments) if q.op not in SUMS]

        monkeypatch.setattr(golden, "search_questions", questions)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: search.name)
def test_searches(isa: str, search: Search, exact_ops: None) -> None:
    skip_if_slow(search.work)
    wrong: list[str] = []
    assert not differing(golden.search_hashes(search, wrong))
    assert not wrong


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.name)
def test_others(isa: str, case: Other, request: pytest.FixtureRequest) -> None:
    if case.host and (EMULATED or request.config.getoption("--device")):
        pytest.skip("the CPU's own bits")
    skip_if_slow(case.work)
    assert not differing({case.name: digest(case.ask())})


@pytest.fixture(scope="module")
def rank() -> Iterator[None]:
    with golden.one_rank():
        yield


@pytest.mark.host
@pytest.mark.parametrize(
    "search", [s for s in SEARCHES if s.everywhere], ids=lambda search: search.name
)
def test_files_and_ranks(search: Search, rank: None) -> None:
    wrong: list[str] = []
    assert not differing(golden.search_hashes(search, wrong, elsewhere=True))
    assert not wrong


def test_all_that_is_in_the_file_is_asked() -> None:
    asked = {case.name for case in OTHERS}
    known = tuple(f"{search.name}: " for search in SEARCHES)
    assert all(name in asked or name.startswith(known) for name in golden.golden())
    assert asked <= golden.golden().keys()
