"""The committed figures on real CLIP features are those that the bench finds."""

from __future__ import annotations

import json
from pathlib import Path

import coder_real
import pytest

pytestmark = pytest.mark.host
RESULTS = Path(coder_real.__file__).parent / "results" / "coder-real.json"


def test_committed_figures(real_data: Path) -> None:
    committed = json.loads(RESULTS.read_text("utf-8"))
    coco = coder_real.read_coco(real_data)
    found = {"zero_shot": coder_real.zero_shot(coco), "things": coder_real.prototypes(real_data)}
    again = json.loads(json.dumps(found))
    expected = {"zero_shot": committed["coco"]["zero_shot"], "things": committed["things"]}
    assert again == expected
    assert list(committed["coco"]["classes"]) == coco.names
