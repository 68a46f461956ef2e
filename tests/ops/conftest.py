from __future__ import annotations

import sys

import pytest


@pytest.fixture
def packs_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let searches of few queries and keys pack the keys on the way, too, a few at a time."""
    module = sys.modules["fastclip.engine.packing"]
    monkeypatch.setattr(module, "_PACK_FROM_QUERIES", 2)
    monkeypatch.setattr(module, "_PACK_FROM_KEYS", 2)
    monkeypatch.setattr(module, "_PACK_KEYS", 64)
