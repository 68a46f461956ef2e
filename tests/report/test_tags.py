from __future__ import annotations

import re

import pytest
import torch
from PIL import Image

from fastclip.report.tags import Rule, Tag, note_on_gap, reason, write_tags

FIRST, SECOND = (
    Tag("<cat>", 0.2510, 1.0, True, (3, 4)),
    Tag("dog", 0.2500, 0.0, False, (0, 0)),
)


@pytest.mark.parametrize(
    ("tag", "rule", "count", "said"),
    [
        (FIRST, Rule(0.5, None), 2, "score 1.000 is at least 0.5"),
        (SECOND, Rule(0.5, None), 2, "score 0.000 is below 0.5"),
        (FIRST, Rule(0.5, 0.3), 2, "cosine 0.2510 is below the minimum 0.3"),
        (FIRST, Rule(0.5, None), 1, "it is the only tag, and the best one always scores 1"),
        (FIRST, Rule(None, None), 10, "one of the best 10 names of the vocabulary"),
    ],
)
def test_reasons(tag, rule, count, said):
    assert reason(tag, rule, count) == said


def test_a_small_gap_is_said():
    rule = Rule(0.5, None)
    assert "0.0010 apart, which is little" in note_on_gap([FIRST, SECOND], rule)
    apart = note_on_gap([FIRST, SECOND._replace(cosine=0.15)], rule)
    assert apart == "The best and the worst cosine are 0.1010 apart."
    assert note_on_gap([FIRST], rule) == note_on_gap([FIRST, SECOND], Rule(None, None)) == ""


def test_page(tmp_path):
    picture = Image.new("RGB", (30, 20))
    masks = torch.rand(2, 20, 30)
    for caption in ("a <cat> & a dog", None):
        write_tags(
            tmp_path / "a.html", picture, [FIRST, SECOND], masks,
            rule=Rule(0.5, None), title="a<b>.png", caption=caption,
        )  # fmt: skip
        page = (tmp_path / "a.html").read_text("utf-8")
        assert page.count("data:image/jpeg") == 3
        assert "yes: score 1.000 is at least 0.5" in page
        assert "which is little" in page
        assert not re.search("<cat>|a<b>", page)
        assert ("Of the caption" in page) == (caption is not None)
    write_tags(
        tmp_path / "a.html", picture, [SECOND], masks[:1], rule=Rule(0.5, 1.0), title="a.png"
    )
    assert "no tag selected" in (tmp_path / "a.html").read_text("utf-8")
