from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fastclip.coder import TextTemplates, text_templates

BENCH = Path(__file__).parents[2] / "benches" / "coder_templates.py"
# Of the form of the authors' file, with other words.
TEMPLATES = """
def get_templates(dataset, kind, class_name=None, att=None, ana=None, syno=None, ovo=None,
                  other_class_name=None, task_type="zero-shot"):
    if kind == "name":
        return [f"see {class_name} of {dataset}"]
    if kind == "att":
        return [class_name + " with " + att]
    if kind == "ana":
        return [f"{class_name} like {ana}, {task_type}"]
    other = other_class_name
    return [f"{ovo} for {class_name}, not {other}", f"{class_name} {ovo} {other}"]
"""


def test_slots_take_the_place_of_values(tmp_path: Path) -> None:
    (tmp_path / "CODER").mkdir()
    (tmp_path / "CODER" / "template.py").write_text(TEMPLATES)
    output = tmp_path / "out.json"
    command = [sys.executable, BENCH, tmp_path, "DTD", "-o", output, "--task", "few-shot"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "2 one-to-one templates" in done.stdout
    assert text_templates(output) == TextTemplates(
        "see {name} of DTD",
        "{name} with {attribute}",
        "{name} like {other}, few-shot",
        ("{feature} for {name}, not {other}", "{name} {feature} {other}"),
    )
