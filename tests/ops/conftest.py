from __future__ import annotations

import pytest

from fastclip.engine.tuning import TUNING


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
