"""The parts of ``fastclip bench``: cases, checks, arithmetic of rows. No test looks at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from fastclip import _C
from fastclip.benchmark.case import Case, unit_rows
from fastclip.benchmark.measure import WrongAnswer, interleaved, measure
from fastclip.benchmark.peak import device_peaks, peaks
from fastclip.benchmark.plan import Size, check_sizes, choose_peers, grid
from fastclip.benchmark.questions import QUESTIONS, Input
from fastclip.benchmark.tables import best_times, duration

CPU = torch.device("cpu")


def small(queries: int = 300, keys: int = 200, dim: int = 48, peers: Any = ("torch",)) -> Input:
    return Input(unit_rows(queries, dim, 0), unit_rows(keys, dim, 1), peers=peers)


@pytest.mark.parametrize("op", QUESTIONS)
@pytest.mark.parametrize(("queries", "keys", "dim", "k"), [(300, 200, 48, 3), (1, 1, 1, 1)])
def test_right_answers_pass(op: str, queries: int, keys: int, dim: int, k: int) -> None:
    case = QUESTIONS[op](small(queries, keys, dim), k)
    ours, peers = ({f"fastclip.{op}", f"fastclip.{op}, packed keys"}, set(case.peers))
    assert set(case.ours) == ours
    assert len(peers) == (2 if queries > 256 else 1)
    for name, call in {**case.ours, **case.peers}.items():
        case.check(name, call())


@pytest.mark.parametrize("op", QUESTIONS)
@pytest.mark.parametrize("side", ["ours", "peers"])
def test_wrong_answers_are_caught(op: str, side: str) -> None:
    case = QUESTIONS[op](small(), 3)
    name, call = next(iter(getattr(case, side).items()))
    for other, right in case.ours.items():
        case.check(other, right())
    with pytest.raises(AssertionError):
        case.check(name, spoiled(call()))


def spoiled(answer: Any) -> Any:
    """An answer that is wrong for the first query, by more than rounding."""
    if isinstance(answer, torch.Tensor):
        answer = answer.clone()
        answer[0] += 3
        return answer
    first, *others = answer
    parts = [spoiled(first), *others]
    return type(answer)(*parts) if hasattr(answer, "_fields") else type(answer)(parts)


def test_a_wrong_key_is_caught() -> None:
    case = QUESTIONS["topk"](small(), 3)
    best = case.ours["fastclip.topk"]()
    assert isinstance(best, tuple)
    for wrong in (best.indices.flip(1), best.indices[:, :1].expand(-1, 3)):
        with pytest.raises(AssertionError, match="key"):
            case.check("fastclip.topk", best._replace(indices=wrong.contiguous()))


def test_packed_keys_must_give_the_same_bits() -> None:
    case = QUESTIONS["topk"](small(), 3)
    best = case.ours["fastclip.topk"]()
    case.check("fastclip.topk", best)
    values = best.values.clone()
    values[150, 0] = values[150, 0].nextafter(torch.tensor(2.0))  # no query that float64 checks
    with pytest.raises(AssertionError, match="keys not packed"):
        case.check("fastclip.topk, packed keys", best._replace(values=values))


def test_a_peer_alone_is_checked_against_ours() -> None:
    case = QUESTIONS["topk"](small(), 3)
    values, indices = case.peers["torch mm + topk"]()
    case.check("torch mm + topk", (values, indices))
    values = values.clone()
    values[150] += 0.01  # no query that float64 checks
    with pytest.raises(AssertionError, match=r"off by 0\.01"):
        case.check("torch mm + topk", (values, indices))


def test_faiss_answers_the_same() -> None:
    pytest.importorskip("faiss")
    case = QUESTIONS["topk"](small(peers=("torch", "faiss")), 3)
    for name, call in {**case.ours, **case.peers}.items():
        case.check(name, call())
    scores, indices = case.peers["FAISS IndexFlatIP"]()
    with pytest.raises(AssertionError, match="off by"):
        case.check("FAISS IndexFlatIP", (scores + 0.01, indices))


def made(**changed: Any) -> Case:
    calls: dict[str, Any] = {
        "description": "a question",
        "work": 8e9,
        "ours": {"fastclip.a": lambda: 1},
        "peers": {"torch b": lambda: 1, "torch c": lambda: 1},
        "check": lambda who, answer: None,
    }
    return Case(**(calls | changed))


def test_rows_of_a_result() -> None:
    def no() -> None:
        raise RuntimeError("no such op")

    asked: list[str] = []
    case = made(
        peers={"torch b": lambda: 1, "other": no, "slow": lambda: asked.append("slow")},
        slow=("slow",),
    )
    ticks: list[None] = []
    rows = measure(case, 3, {"int8": 4.0}, tick=lambda: ticks.append(None))
    assert [row["call"] for row in rows] == ["fastclip.a", "torch b", "slow", "other"]
    assert rows[3] == {"call": "other", "unsupported": "no such op"}
    assert [row["rounds"] for row in rows[:3]] == [3, 3, 1]
    assert asked == ["slow"]
    assert len(ticks) == 4
    for row in rows[:3]:
        rate = 8 / row["median_s"]
        assert row["giga_per_s"] == pytest.approx(rate)
        assert row["share_of_peak"] == pytest.approx(rate / 4)
        assert row["speed_over"] == {
            peer: pytest.approx(rows[place]["median_s"] / row["median_s"])
            for place, peer in ((1, "torch b"), (2, "slow"))
        }
        low, high = row["quartiles_s"]
        assert low <= row["median_s"] <= high
    assert measure(case, 1, {})[0]["share_of_peak"] is None


def test_a_wrong_answer_ends_the_run_before_anything_is_timed() -> None:
    calls = []

    def check(who: str, answer: Any) -> None:
        assert who != "torch b", "scores are off"

    case = made(check=check, ours={"fastclip.a": lambda: calls.append(1)})
    with pytest.raises(WrongAnswer, match="torch b: wrong answer to a question: scores are off"):
        measure(case, 5, {})
    assert len(calls) == 2  # the first one, and one that is checked


def test_our_own_error_is_not_passed_over() -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure(made(ours={"fastclip.a": fail}), 1, {})


def test_calls_take_turns() -> None:
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = interleaved(calls, 3)
    assert order == ["a", "b"] * 3
    assert {name: len(t) for name, t in times.items()} == {"a": 3, "b": 3}
    assert all(len(t) > 3 for t in interleaved(calls, 3, seconds=1e-3).values())


@pytest.mark.parametrize("instructions", _C.available_isas())
def test_peaks_of_each_instruction_set(instructions: str) -> None:
    _C.select_isa(instructions)
    try:
        found = peaks(2, steps=100, read_bytes=2**16)
        assert (_C.peak_steps("int8", 10) == 0) == (instructions == "portable")
        assert _C.peak_steps("float32", 10) == 2 * _C.peak_steps("float64", 10) > 0
        assert _C.peak_steps("float32", 20) == 2 * _C.peak_steps("float32", 10)
    finally:
        _C.select_isa("")
    expected = {"float32", "float64", "bytes"} | ({"int8"} if instructions != "portable" else set())
    assert set(found) == expected
    assert all(rate > 0 for rate in found.values())


def test_peak_reads_rows_that_it_may_read() -> None:
    assert _C.peak_read(torch.ones(1, 3840)) == 3840 * 4
    for wrong in (torch.ones(2, 8), torch.ones(1, 8).half(), torch.ones(8), torch.ones(1, 9).T):
        with pytest.raises(ValueError, match="row: is no plain"):
            _C.peak_read(wrong)
    with pytest.raises(ValueError, match="kind: is int4"):
        _C.peak_steps("int4", 1)


def test_peaks_of_a_device() -> None:
    found = device_peaks(CPU, shrink=128)
    assert set(found) == {"bytes", "float32", "int8"}
    assert all(rate > 0 for rate in found.values())


def test_sizes_of_a_grid() -> None:
    sizes = grid(Size(100, 9000, 8, 90))
    assert {size.queries for size in sizes} == {1, 16, 64, 100}
    assert {size.keys for size in sizes} == {1000, 8192, 9000}  # 80 are fewer than k
    assert sizes[-1] == Size(100, 9000, 8, 90)


def test_what_cannot_be_is_refused_before_anything_is_made() -> None:
    with pytest.raises(ValueError, match="-k: is 11, allowed: 1 to 10, the number of --keys"):
        check_sizes([Size(1, 10, 8, 11)], (), CPU)
    with pytest.raises(ValueError, match=r"1,000,000,000 keys x 512 needs [\d,]+\.\d GB of memory"):
        check_sizes([Size(1, 10**9, 512, 1)], (), CPU)
    check_sizes([Size(1, 1, 1, 1)], ("torch", "faiss"), CPU)


def test_memory_of_a_size_covers_what_is_made() -> None:
    size = Size(1000, 100_000, 512, 10)
    rows = 4 * 512 * 101_000
    packed = 100_000 * (512 + 12)
    assert size.needed((), CPU) >= rows + packed
    assert size.needed(("faiss",), CPU) == size.needed((), CPU) + 4 * 512 * 100_000
    assert size.scores == 2 * 4 * 1000 * 100_000


def test_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastclip.benchmark.plan.find_spec", lambda name: name == "torch" or None)
    assert choose_peers(["torch", "faiss"]) == (
        ["torch"],
        ["faiss is not installed and not measured: pip install faiss-cpu"],
    )
    with pytest.raises(ValueError, match="--peers: is 'scann', allowed: torch, faiss"):
        choose_peers(["scann"])


def test_best_times_of_each_side() -> None:
    times = {
        "fastclip.topk": 4.0,
        "fastclip.topk, packed keys": 2.0,
        "torch mm + topk": 9.0,
        "torch mm + topk in chunks": 8.0,
        "FAISS IndexFlatIP": 7.0,
    }
    rows: list[dict[str, Any]] = [{"call": name, "median_s": t} for name, t in times.items()]
    rows.append({"call": "torch other", "unsupported": "why"})
    assert best_times({"rows": rows}) == {"fastclip": 4.0, "packed": 2.0, "torch": 8.0, "FAISS": 7}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1.5e-6, "1.5 µs"), (2e-8, "0.02 µs"), (0.0123, "12.3 ms"), (2, "2 s"), (1234.5, "1,234 s")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_torch_alone_in_chunks_where_all_scores_do_not_fit() -> None:
    case = QUESTIONS["topk"](replace(small(), whole=False), 3)
    assert list(case.peers) == ["torch mm + topk in chunks"]
