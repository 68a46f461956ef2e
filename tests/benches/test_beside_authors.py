from __future__ import annotations

from pathlib import Path

import beside_authors
import pytest

pytestmark = [pytest.mark.host, pytest.mark.once]


def test_what_is_installed_agrees(tmp_path: Path) -> None:
    figures = beside_authors.open_clip_metrics(tmp_path)
    assert len(figures) == 10
    for name, (own, other) in figures.items():
        assert own == pytest.approx(other, abs=1e-9), name


def test_what_is_not_there_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["beside_authors.py", str(tmp_path), "--only", "pamr", "coder"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        beside_authors.main()
    assert not ended.value.code
    assert capsys.readouterr().out.splitlines() == [
        f"pamr: skipped, there is no {tmp_path / '1-stage-wseg'}",
        f"coder: skipped, there is no {tmp_path / 'CVPR24-CODER'}",
    ]
