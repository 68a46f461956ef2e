"""Progress: a bar in a terminal, a line every 30 seconds elsewhere, nothing for short jobs."""

from __future__ import annotations

import re

import pytest

import fastclip.data.progress as module
from fastclip.data.progress import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_printed_for_a_short_job(
    clock: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    with progress("sweeping", "rows") as report:
        for done in range(30):
            report(done, 30)
            clock[0] += 0.99
    assert capfd.readouterr() == ("", "")


def test_a_line_every_30_seconds_with_rate_and_time_left(
    clock: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    with progress("sweeping", "rows") as report:
        report(1000, 10_000)  # of an earlier run: no part of the rate
        for done in range(1020, 2840, 20):
            clock[0] += 1
            report(done, 10_000, "loss 1.5")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "sweeping: 1,600 of 10,000 rows, 20 rows/s, 0:07:00 left, loss 1.5",
        "sweeping: 2,200 of 10,000 rows, 20 rows/s, 0:06:30 left, loss 1.5",
        "sweeping: 2,800 of 10,000 rows, 20 rows/s, 0:06:00 left, loss 1.5",
    ]


def test_a_line_before_anything_is_done_names_no_rate(
    clock: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    with progress("asking", "requests") as report:
        clock[0] += 31  # such as a model that was loaded
        report(0, 3)
        clock[0] += 30_000
        report(1, 3)
    assert capfd.readouterr().err.splitlines() == [
        "asking: 0 of 3 requests",
        "asking: 1 of 3 requests, 3.3e-05 requests/s, 16:40:00 left",
    ]


def test_nothing_where_it_is_not_wanted(
    clock: list[float], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, a terminal
    with progress("sweeping", "rows", shown=False) as report:
        clock[0] += 100
        report(1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_bar_in_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("sweeping", "rows") as report:
        report(0, 7)
        report(7, 7, "loss 1.5")
    out, err = capfd.readouterr()
    assert out == ""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
    assert "sweeping" in plain
    assert "7/7" in plain
    assert "loss 1.5" in plain
