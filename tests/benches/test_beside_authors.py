from __future__ import annotations

from pathlib import Path

import beside_authors
import pytest
import torch
from authors_code import by_worst

pytestmark = [pytest.mark.host, pytest.mark.once]


def test_differences_are_shown_at_their_largest() -> None:
    own, other = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 2.5], [3.0, 4.0]])
    assert by_worst("x", own, other) == {"x: worst of 4": (2.0, 2.5)}


def test_every_comparison_is_in_the_table() -> None:
    table = (beside_authors.__doc__ or "").splitlines()
    names = [line.split()[0] for line in table if line.startswith("    ") and "  " in line.strip()]
    assert names == ["name", *beside_authors.COMPARISONS]


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
